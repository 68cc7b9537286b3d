"""The Redis of a storm: one server, or a primary with replicas and Sentinels."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Protocol

from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.harness import wait_until
from tests.kit.redis_replicas import ReplicaSet

_REPLICAS = 2
_SETTLES_S = 60.0
_SPLIT_S = 2.0


class StormRedis(Protocol):
    """What a storm does to Redis."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def restart(self) -> None:
        """Kill the server and start it again."""

    def stall(self, seconds: float) -> None:
        """Freeze the server. It then executes the commands it received, even if their clients are
        gone."""


class OneRedis(RedisServer):
    """A single server."""

    def restart(self) -> None:
        self.kill()
        self.start()

    def stall(self, seconds: float) -> None:
        _freeze(self, seconds)


class ReplicatedRedis(ReplicaSet):
    """A primary that fails over; a write counts when one of two replicas has it."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        super().__init__(folder, _REPLICAS)
        self._dice = dice

    def restart(self) -> None:
        primary = self.primary
        primary.kill()
        primary.start()
        self._settle()

    def stall(self, seconds: float) -> None:
        """As for one server, but the Sentinels take it for dead."""
        _freeze(self.primary, seconds)
        self._settle()

    def fail_over(self) -> str:
        """Have a replica promoted, and the old primary return; return how."""
        old = self.primary
        how = self._dice.choice(("kill", "cut off", "split"))
        if how != "kill":
            old.cut_off_replicas()
        if how == "split":
            old.cut_off_sentinels()
        else:
            time.sleep(self._dice.random())
            old.kill()
        self.await_failover(old, _SETTLES_S)
        if how == "split":
            time.sleep(self._dice.random() * _SPLIT_S)  # both serve the workers
            old.heal()
        else:
            old.start()
        self._settle()
        return how

    def _settle(self) -> None:
        """Wait until there is one primary, which all others follow."""

        def is_settled() -> bool:
            primaries = [server for server in self.servers if server.is_primary()]
            return len(primaries) == 1 and primaries[0].replicas() == _REPLICAS

        wait_until(is_settled, _SETTLES_S, "Redis has one primary and all replicas")


def _freeze(server: RedisServer, seconds: float) -> None:
    pid = server.pid
    if pid is None:
        return
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(pid, signal.SIGCONT)
