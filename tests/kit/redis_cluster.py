"""A local Redis Cluster."""

from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from streamer.stack import RedisServer
from streamer.stack.ports import free_port
from tests.kit.harness import wait_until

_SLOTS = 16384


class ClusterNode(RedisServer):
    """A node, which serves keys once it has joined the cluster."""

    def command(self) -> list[str]:
        """Return the command of a standalone server plus the options of a cluster node."""
        # The default cluster bus port is 10,000 higher, which may exceed the valid range.
        talk = str(free_port())
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-port", talk]


def start_cluster(folder: Path, count: int = 3) -> list[ClusterNode]:
    """Start nodes and join them into a cluster that covers all slots."""
    nodes = [ClusterNode(folder / f"node-{number}") for number in range(count)]
    try:
        for number, node in enumerate(nodes):
            node.start()
            first, end = (_SLOTS * edge // count for edge in (number, number + 1))
            _ask(node, "CLUSTER ADDSLOTSRANGE", first, end - 1)
        for node in nodes[1:]:
            talk = next(
                line.split()[1].partition("@")[2].partition(",")[0]
                for line in str(_ask(node, "CLUSTER NODES")).splitlines()
                if "myself" in line
            )
            _ask(nodes[0], "CLUSTER MEET", "127.0.0.1", node.port, talk)
        wait_until(lambda: all(map(_is_joined, nodes)), 30, "the nodes are joined")
    except BaseException:
        stop_cluster(nodes)
        raise
    return nodes


def stop_cluster(nodes: list[ClusterNode]) -> None:
    """Stop the nodes."""
    for node in nodes:
        node.stop()


def _is_joined(node: ClusterNode) -> bool:
    try:
        return "cluster_state:ok" in str(_ask(node, "CLUSTER INFO"))
    except RedisError:
        return False


def _ask(node: ClusterNode, command: str, *arguments: str | int) -> object:
    client = Client(port=node.port, decode_responses=True)
    try:
        # Remove redis-py's callbacks, each of which parses a reply in its own way.
        client.response_callbacks.clear()
        answer: object = client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]  # redis-py has no type for it
        return answer
    finally:
        client.close()
