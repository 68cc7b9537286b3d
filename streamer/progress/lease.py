"""Who of many projects: a lease in Redis. Nothing that is counted depends on it."""

import secrets
import time

from streamer.ledger import keys
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
    """The lease of a consumer group's projection; one that is not renewed ends."""

    def __init__(self, client: Client, group: str) -> None:
        self._client = client
        self._key = keys.progress_lease(group)
        self._name = secrets.token_hex(8)
        self._hold = client.register_script(_HOLD)
        self._release = client.register_script(_RELEASE)
        self._held = False
        self._ask_at = 0.0

    def hold(self) -> bool:
        """Take it if it is free, renew it now and then; returns whether it is held.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        now = time.monotonic()
        if now >= self._ask_at:
            self._held = False  # also if the question fails
            self._held = bool(self._hold(keys=[self._key], args=[self._name, int(LEASE_S * 1000)]))
            self._ask_at = now + _RENEW_EVERY_S
        return self._held

    def release(self) -> None:
        """Leave it to others at once.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used; it ends by itself.
        """
        self._held, self._ask_at = False, 0.0
        self._release(keys=[self._key], args=[self._name])


def is_projected(client: Client, group: str) -> bool:
    """Whether somebody projects for the group."""
    return bool(client.exists(keys.progress_lease(group)))
