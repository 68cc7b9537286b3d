"""A lease in Redis, held by one process at a time.

A lease is not a lock: a process that has lost it may continue briefly, so the work it protects must
be safe if two processes do it.
"""

import secrets
import time

from streamer.ledger.connection import Client

LEASE_S = 10.0
_RENEWALS = 5
"""How often a lease is renewed before it would expire."""

_HOLD = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return 1
"""


class Lease:
    """This process' side of a lease, which expires unless renewed.

    Args:
        key: the lease's key, from `ledger.keys`.
        name: what tells the holder from others; None for a random one. A process that has the name
            of a dead one has its lease at once.
        seconds: when it expires, unless renewed.
    """

    def __init__(
        self, client: Client, key: str, name: str | None = None, seconds: float = LEASE_S
    ) -> None:
        self._client = client
        self._key = key
        self._name = secrets.token_hex(8) if name is None else name
        self._seconds = seconds
        self._hold = client.register_script(_HOLD)
        self._release = client.register_script(_RELEASE)
        self._held = False
        self._ask_at = 0.0

    def hold(self) -> bool:
        """Acquire the lease if it is free, or renew it occasionally; return whether it is held.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        now = time.monotonic()
        if now >= self._ask_at:
            self._held = False  # also if the call fails
            expires_ms = int(self._seconds * 1000)
            self._held = bool(self._hold(keys=[self._key], args=[self._name, expires_ms]))
            self._ask_at = now + self._seconds / _RENEWALS
        return self._held

    def holder(self) -> str | None:
        """The name of the process that holds the lease; None if none does.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        name = self._client.get(self._key)
        return name.decode() if isinstance(name, bytes) else None

    def release(self) -> None:
        """Release the lease immediately.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used; the lease then expires by itself.
        """
        self._held, self._ask_at = False, 0.0
        self._release(keys=[self._key], args=[self._name])


def is_held(client: Client, key: str) -> bool:
    """Return whether any process holds the lease."""
    return bool(client.exists(key))
