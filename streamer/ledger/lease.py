"""A lease: of many workers one does a thing. What it does must be safe should two do it."""

import secrets
import time

from streamer.ledger.connection import Client

_TTL_S = 10
_RENEW_S = 2.0


class Lease:
    """This process' claim on a turn."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._key = f"streamer:lease:{name}"
        self._me = secrets.token_hex(8)
        self._renewed = -_TTL_S * 1.0
        self._mine = False
        script = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('%s', KEYS[1]%s) or 0"
        self._extend = client.register_script(script % ("EXPIRE", ", ARGV[2]"))
        self._drop = client.register_script(script % ("DEL", ""))

    def renew(self) -> bool:
        """Take the turn, or keep it; False if another has it. Cheap when called often.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        now = time.monotonic()
        if self._mine and now - self._renewed < _RENEW_S:
            return True
        taken = self._client.set(self._key, self._me, nx=True, ex=_TTL_S)
        self._mine = bool(taken) or bool(self._extend(keys=[self._key], args=[self._me, _TTL_S]))
        self._renewed = now
        return self._mine

    def give_up(self) -> None:
        """Let another have the turn at once.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used; the lease ends by itself.
        """
        if self._mine:
            self._mine = False
            self._drop(keys=[self._key], args=[self._me])
