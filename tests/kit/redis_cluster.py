"""A Redis Cluster of a few nodes on this machine."""

from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from streamer.stack import RedisServer
from streamer.stack.ports import free_port
from tests.kit.harness import wait_until

_SLOTS = 16384


class ClusterNode(RedisServer):
    """One node; it serves keys once it is joined with the others."""

    def command(self) -> list[str]:
        """As for a server of its own, and what makes it a node."""
        # Else its nodes would talk on ports 10,000 higher, of which some do not exist.
        talk = str(free_port())
        return [*super().command(), "--cluster-enabled", "yes", "--cluster-port", talk]


def start_cluster(folder: Path, count: int = 3) -> list[ClusterNode]:
    """Start nodes that share all slots."""
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
    """End the nodes."""
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
        # Not by its own method: each reads the answer in a form of its own.
        client.response_callbacks.clear()
        answer: object = client.execute_command(command, *arguments)  # type: ignore[no-untyped-call]  # redis-py has no type for it
        return answer
    finally:
        client.close()
