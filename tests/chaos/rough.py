"""A Redis proxy that breaks connections and loses replies during short periods."""

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from tests.kit.points import PointKind, Script
from tests.kit.redis_proxy import RedisProxy

_ROUGH_S = 3.0
_SHARE = 0.03
_FAULTS = ("request_lost", "request_late", "reply_lost", "reply_late", "reset", "reset_after")


class _Weather(Script):
    """Injects faults into a share of the commands during rough periods."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = random.Random(seed)
        self.rough_until = 0.0

    def at(self, kind: PointKind, name: str) -> str | None:
        """Return the fault of a command that is about to be sent, if any."""
        del kind, name
        if time.monotonic() >= self.rough_until or self._rng.random() >= _SHARE:
            return None
        return self._rng.choice(_FAULTS)


class RoughRedis:
    """A fault-injecting proxy in front of Redis.

    Args:
        proxy: the proxy, already started.
    """

    def __init__(self, proxy: RedisProxy, weather: _Weather) -> None:
        self._weather = weather
        self.url = f"redis://127.0.0.1:{proxy.port}/0"

    def be_rough(self) -> None:
        """Inject faults for the next few seconds."""
        self._weather.rough_until = time.monotonic() + _ROUGH_S


@contextmanager
def rough_redis(port: int, seed: int) -> Iterator[RoughRedis]:
    """Run a proxy in front of the Redis on this port, in its own thread, during the block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="rough-redis", daemon=True)
    thread.start()
    weather = _Weather(seed)
    proxy = RedisProxy(port, weather)
    asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(30)
    try:
        yield RoughRedis(proxy, weather)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
