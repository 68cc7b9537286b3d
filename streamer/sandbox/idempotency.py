"""What the server remembers about idempotency keys."""

from dataclasses import dataclass
from enum import Enum, auto

from streamer.sandbox.http import HttpResponse


class KeyState(Enum):
    """What a key is known for, when there is no answer to give again."""

    NEW = auto()
    RUNNING = auto()
    OTHER_PAYLOAD = auto()


Scope = tuple[str, str, str]
"""(account, path, idempotency key): each endpoint has its own, and the API keys of an account
share them."""

LASTS_S = 86_400.0
"""How long an idempotency key is remembered."""


@dataclass(slots=True)
class _Entry:
    fingerprint: bytes
    since: float
    response: HttpResponse | None = None


class IdempotencyStore:
    """Answers by key, for a day of the wall clock that callers pass in."""

    def __init__(self) -> None:
        self._entries: dict[Scope, _Entry] = {}

    def begin(self, scope: Scope, fingerprint: bytes, now: float) -> KeyState | HttpResponse:
        """Look a key up. `NEW` enters it as running: `settle` must follow."""
        self._drop_old(now)
        entry = self._entries.get(scope)
        if entry is not None and entry.response is not None and self._is_old(entry, now):
            entry = None
        if entry is None:
            # Deleted first, so that the order of the dict stays the order of age.
            self._entries.pop(scope, None)
            self._entries[scope] = _Entry(fingerprint, now)
            return KeyState.NEW
        if entry.fingerprint != fingerprint:
            return KeyState.OTHER_PAYLOAD
        return KeyState.RUNNING if entry.response is None else entry.response

    def settle(self, scope: Scope, response: HttpResponse | None) -> None:
        """Remember the answer of a key that was running; None: as if it had never been used."""
        if response is None:
            self._entries.pop(scope, None)
        elif scope in self._entries:  # the memory may have been cleared meanwhile
            self._entries[scope].response = response

    def clear(self) -> None:
        """Forget every key."""
        self._entries.clear()

    def _is_old(self, entry: _Entry, now: float) -> bool:
        return now - entry.since >= LASTS_S

    def _drop_old(self, now: float) -> None:
        """Drop from the old end, so that a long run does not keep every answer for ever."""
        while self._entries:
            scope, entry = next(iter(self._entries.items()))
            if entry.response is None or not self._is_old(entry, now):
                return
            del self._entries[scope]
