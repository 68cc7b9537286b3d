"""A local Redis Cluster."""

from collections.abc import Callable, Iterable
from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from streamer.stack import RedisServer
from streamer.stack.ports import free_port
from tests.kit.harness import wait_until

_SLOTS = 16384
_SETTINGS = """
cluster-enabled yes
# The default is 10,000 higher than the other port, which may exceed the valid range.
cluster-port {bus}
cluster-node-timeout 2000
repl-diskless-sync-delay 0
repl-ping-replica-period 1
user repl on >repl ~* &* +@all
masteruser repl
masterauth repl
"""


class ClusterNode(RedisServer):
    """A node, which serves keys once it has joined the cluster."""

    _bus: int | None = None

    def command(self) -> list[str]:
        """Return the command of a standalone server with the settings of a cluster node."""
        self._bus = self._bus or free_port()
        command = super().command()
        with (self.folder / "redis.conf").open("a") as settings:
            settings.write(_SETTINGS.format(bus=self._bus))
        return command

    def ask(self, command: str, *arguments: str | int) -> object:
        """Execute a command on this node."""
        client = Client(port=self.port, decode_responses=True, socket_timeout=20.0)
        try:
            # Remove redis-py's callbacks, each of which parses a reply in its own way.
            client.response_callbacks.clear()
            answer: object = client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]  # redis-py has no type for it
            return answer
        finally:
            client.close()

    def id(self) -> str:
        """The node's id."""
        return str(self.ask("CLUSTER MYID"))

    def is_primary(self) -> bool:
        """Whether it takes itself for a primary."""
        return str(self.ask("INFO", "replication")).find("role:master") >= 0

    def has_replica(self) -> bool:
        """Whether a replica is connected and has caught up."""
        return "state=online" in str(self.ask("INFO", "replication"))

    def knows(self, count: int) -> bool:
        """Whether it knows this many nodes."""
        return f"cluster_known_nodes:{count}\r" in str(self.ask("CLUSTER INFO"))

    def cut_off_replicas(self) -> None:
        """Refuse the replicas for good."""
        self.ask("ACL SETUSER", "repl", "off")
        self.ask("CLIENT KILL", "USER", "repl")


def start_cluster(folder: Path, count: int = 3, replicas: int = 0) -> list[ClusterNode]:
    """Start nodes and join them into a cluster that covers all slots.

    Args:
        count: the number of primaries, which come first.
        replicas: the number of replicas of each; those of the first primary come first.
    """
    nodes = [ClusterNode(folder / f"node-{number}") for number in range(count * (1 + replicas))]
    try:
        for number, node in enumerate(nodes):
            node.start()
            if number < count:
                first, end = (_SLOTS * edge // count for edge in (number, number + 1))
                node.ask("CLUSTER ADDSLOTSRANGE", first, end - 1)
        for node in nodes[1:]:
            meet(nodes[0], node)
        wait_until(lambda: all(node.knows(len(nodes)) for node in nodes), 30, "all have met")
        for number, node in enumerate(nodes[count:]):
            node.ask("CLUSTER REPLICATE", nodes[number // replicas].id())
        wait_until(lambda: all(map(is_joined, nodes)), 30, "the nodes are joined")
        if replicas:
            wait_until(
                lambda: all(node.has_replica() for node in nodes[:count]), 30, "they replicate"
            )
    except BaseException:
        stop_cluster(nodes)
        raise
    return nodes


def meet(node: ClusterNode, other: ClusterNode) -> None:
    """Have a node of the cluster meet another one."""
    bus = next(
        line.split()[1].partition("@")[2].partition(",")[0]
        for line in str(other.ask("CLUSTER NODES")).splitlines()
        if "myself" in line
    )
    node.ask("CLUSTER MEET", "127.0.0.1", other.port, bus)


def move_slot(
    slot: int,
    source: ClusterNode,
    target: ClusterNode,
    nodes: Iterable[ClusterNode],
    meanwhile: Callable[[], None],
) -> None:
    """Move a slot with its keys, as `redis-cli --cluster reshard` does.

    Args:
        nodes: all primaries.
        meanwhile: called when half of the keys have been moved.
    """
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.id())
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.id())
    half = int(str(source.ask("CLUSTER COUNTKEYSINSLOT", slot))) // 2
    moved = 0
    while found := source.ask("CLUSTER GETKEYSINSLOT", slot, 10):
        assert isinstance(found, list)
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *found)
        moved += len(found)
        if moved - len(found) <= half < moved:
            meanwhile()
    for node in (target, source, *nodes):
        node.ask("CLUSTER SETSLOT", slot, "NODE", target.id())


def stop_cluster(nodes: list[ClusterNode]) -> None:
    """Stop the nodes."""
    for node in nodes:
        node.kill()


def is_joined(node: ClusterNode) -> bool:
    """Whether the node serves keys."""
    try:
        return "cluster_state:ok" in str(node.ask("CLUSTER INFO"))
    except RedisError:
        return False
