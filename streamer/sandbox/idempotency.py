"""The server's idempotency keys."""

from dataclasses import dataclass
from enum import Enum, auto

from streamer.sandbox.http import HttpResponse


class KeyState(Enum):
    """The state of a key without a response to repeat."""

    NEW = auto()
    RUNNING = auto()
    OTHER_PAYLOAD = auto()


Scope = tuple[str, str, str]
"""(account, path, idempotency key). Keys are separate per endpoint, and shared by all API keys of
an account."""

LASTS_S = 86_400.0
"""How long an idempotency key is remembered, in seconds."""


@dataclass(slots=True)
class _Entry:
    fingerprint: int
    since: float
    response: HttpResponse | None = None


class IdempotencyStore:
    """Responses by key, kept for a day of the wall clock that callers pass in."""

    def __init__(self) -> None:
        self._entries: dict[Scope, _Entry] = {}

    def begin(self, scope: Scope, payload: bytes, now: float) -> KeyState | HttpResponse:
        """Look up a key. `NEW` marks it as running; `settle` must follow."""
        self._drop_old(now)
        # Its 64 bits tell payloads apart, in a third of the time of a SHA-1.
        fingerprint = hash(payload)
        entry = self._entries.get(scope)
        if entry is not None and entry.response is not None and self._is_old(entry, now):
            entry = None
        if entry is None:
            # Delete first, to keep the dict ordered by age.
            self._entries.pop(scope, None)
            self._entries[scope] = _Entry(fingerprint, now)
            return KeyState.NEW
        if entry.fingerprint != fingerprint:
            return KeyState.OTHER_PAYLOAD
        return KeyState.RUNNING if entry.response is None else entry.response

    def settle(self, scope: Scope, response: HttpResponse | None) -> None:
        """Store the response of a running key; None forgets the key."""
        if response is None:
            self._entries.pop(scope, None)
        elif scope in self._entries:  # the store may have been cleared since `begin`
            self._entries[scope].response = response

    def clear(self) -> None:
        """Forget every key."""
        self._entries.clear()

    def _is_old(self, entry: _Entry, now: float) -> bool:
        return now - entry.since >= LASTS_S

    def _drop_old(self, now: float) -> None:
        """Drop expired entries, oldest first, to bound the memory of long runs."""
        while self._entries:
            scope, entry = next(iter(self._entries.items()))
            if entry.response is None or not self._is_old(entry, now):
                return
            del self._entries[scope]
