"""Redis servers that replicate, and Sentinels that watch them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.harness import wait_until

SERVICE = "ledger"
DOWN_AFTER_MS = 1_000
"""How long a Sentinel waits for an answer before it takes a server for dead."""

# The users are there so that a test can cut one of them off, as a network would.
_REPLICATING = """
user repl on >repl ~* &* +@all
user watch on >watch ~* &* +@all
masteruser repl
masterauth repl
repl-diskless-sync-delay 0
repl-timeout 5
repl-ping-replica-period 1
"""
_SENTINEL = f"""\
bind 127.0.0.1
port {{port}}
dir ./
sentinel monitor {SERVICE} 127.0.0.1 {{primary}} 2
sentinel auth-user {SERVICE} watch
sentinel auth-pass {SERVICE} watch
sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}
sentinel failover-timeout {SERVICE} 4000
"""


class ReplicatedServer(RedisServer):
    """A server that can be a primary or a replica."""

    primary: int | None = None
    """The port of the primary at the first start; later starts keep what Sentinel configured."""

    def command(self) -> list[str]:
        """Return the command, with the settings of replication the first time."""
        settings = self.folder / "redis.conf"
        kept = settings.read_text() if settings.exists() else None
        command = super().command()
        of = "" if self.primary is None else f"replicaof 127.0.0.1 {self.primary}\n"
        settings.write_text(kept or settings.read_text() + _REPLICATING + of)
        return command

    def ask(self, *command: str) -> object:
        """Execute a command on this server."""
        with self.client() as client:
            answer: object = client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py has no type for it
            return answer

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client of this server."""
        client = Client(port=self.port, socket_timeout=3.0)
        try:
            yield client
        finally:
            client.close()

    def is_primary(self) -> bool:
        """Whether it takes itself for a primary."""
        with self.client() as client:
            return bool(client.role()[0] == b"master")

    def replicas(self) -> int:
        """The number of its connected replicas that have caught up."""
        with self.client() as client:
            return len(client.role()[2])

    def cut_off_replicas(self) -> None:
        """Refuse the replicas, until `heal` is called."""
        self.ask("ACL", "SETUSER", "repl", "off")
        self.ask("CLIENT", "KILL", "USER", "repl")

    def cut_off_sentinels(self) -> None:
        """Refuse the Sentinels, until `heal` is called."""
        self.ask("ACL", "SETUSER", "watch", "off")
        # Without its own user, a Sentinel goes on as this one.
        self.ask("ACL", "SETUSER", "default", "-ping", "-info")
        self.ask("CLIENT", "KILL", "USER", "watch")

    def heal(self) -> None:
        """Let them in again."""
        for user in ("repl", "watch"):
            self.ask("ACL", "SETUSER", user, "on")
        self.ask("ACL", "SETUSER", "default", "+ping", "+info")


class SentinelServer(RedisServer):
    """A Sentinel."""

    name = "sentinel"
    watches = 0
    """The port of the primary."""

    def command(self) -> list[str]:
        """Write the settings and return the command line."""
        settings = self.folder / "sentinel.conf"
        if not settings.exists():  # it keeps its state there
            settings.write_text(_SENTINEL.format(port=self.port, primary=self.watches))
        return [super().command()[0], settings.name, "--sentinel"]

    def serves(self) -> bool:
        """Whether it answers."""
        client = Client(port=self.port, socket_timeout=2.0)
        try:
            return bool(client.ping())
        except RedisError:
            return False
        finally:
            client.close()

    def primary_port(self) -> int:
        """The port of the primary, as this Sentinel sees it."""
        return int(self._state()["port"])

    def is_ready(self, servers: int, sentinels: int) -> bool:
        """Whether it knows all servers and Sentinels."""
        state = self._state()
        return bool(
            state["num-slaves"] == servers - 1 and state["num-other-sentinels"] == sentinels - 1
        )

    def _state(self) -> dict[str, str | int]:
        client = Client(port=self.port, socket_timeout=2.0)
        try:
            found = client.sentinel_master(SERVICE)
            assert isinstance(found, dict)
            return found
        finally:
            client.close()


class ReplicaSet:
    """A primary, its replicas, and Sentinels."""

    def __init__(self, folder: Path, replicas: int, sentinels: int = 3) -> None:
        self.servers = [ReplicatedServer(folder / f"redis-{n}") for n in range(replicas + 1)]
        self.sentinels = [SentinelServer(folder / f"sentinel-{n}") for n in range(sentinels)]

    def start(self) -> None:
        """Start all of them, and wait until they know each other."""
        first = self.servers[0]
        first.start()
        for server in self.servers[1:]:
            server.primary = first.port
            server.start()
        wait_until(
            lambda: first.replicas() == len(self.servers) - 1, 30, "the replicas are connected"
        )
        for sentinel in self.sentinels:
            sentinel.watches = first.port
            sentinel.start()
        counts = len(self.servers), len(self.sentinels)
        wait_until(
            lambda: all(each.is_ready(*counts) for each in self.sentinels), 30, "Sentinel is ready"
        )

    def stop(self) -> None:
        """Stop all of them."""
        for each in (*self.sentinels, *self.servers):
            each.kill()

    @property
    def primary(self) -> ReplicatedServer:
        """The primary, as the first Sentinel sees it."""
        port = self.sentinels[0].primary_port()
        return next(each for each in self.servers if each.port == port)

    def settings(self, replicas: int = 1) -> dict[str, str]:
        """A worker's settings, by environment variable."""
        addresses = ",".join(f'"127.0.0.1:{each.port}"' for each in self.sentinels)
        return {
            "STREAMER_REDIS__SENTINELS": f"[{addresses}]",
            "STREAMER_REDIS__SERVICE": SERVICE,
            "STREAMER_REDIS__REPLICAS": str(replicas),
        }

    def redis_settings(self, replicas: int = 1) -> RedisSettings:
        """The same for clients of a test."""
        return RedisSettings(
            sentinels=[f"127.0.0.1:{each.port}" for each in self.sentinels],
            service=SERVICE,
            replicas=replicas,
        )

    def await_failover(self, dead: ReplicatedServer, seconds: float = 30) -> None:
        """Wait until the Sentinels name another primary, and it is one."""

        def is_over() -> bool:
            primary = self.primary
            return primary is not dead and primary.is_primary()

        wait_until(is_over, seconds, "another server is the primary")
