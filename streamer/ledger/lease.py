"""A lease in Redis, held by one process at a time.

A lease is not a lock: a process that has lost it may continue briefly, so the work it protects must
be safe if two processes do it.
"""

import secrets
import time

from streamer.ledger.connection import Client

LEASE_S = 10.0
_RENEW_EVERY_S = 2.0

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
    """

    def __init__(self, client: Client, key: str) -> None:
        self._client = client
        self._key = key
        self._name = secrets.token_hex(8)
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
            self._held = bool(self._hold(keys=[self._key], args=[self._name, int(LEASE_S * 1000)]))
            self._ask_at = now + _RENEW_EVERY_S
        return self._held

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
