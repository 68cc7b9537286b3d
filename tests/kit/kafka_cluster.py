"""A local Kafka cluster whose brokers can be killed."""

from pathlib import Path

from streamer.stack import KafkaServer
from streamer.stack.ports import free_port

GROUP_SESSION_MS = 3_000
"""The session timeout in groups of the `consumer` protocol, where it is a broker setting."""


class Brokers:
    """One broker, or several with replication factor 3 and two in-sync replicas for a write.

    Args:
        folder: the data directory.
        count: the number of brokers: 1, or at least 3.
    """

    def __init__(self, folder: Path, count: int = 1) -> None:
        controllers = [free_port() for _ in range(count)]
        self.all = [
            _Broker(folder / f"kafka-{number}", number, controllers) for number in range(count)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """The value of a client's `bootstrap.servers`."""
        return ",".join(broker.bootstrap_servers for broker in self.all)

    @property
    def replication(self) -> int:
        """The replication factor of topics."""
        return min(3, len(self.all))

    def start(self) -> None:
        """Start all brokers.

        Raises:
            StackError: a broker does not start.
        """
        for broker in self.all:
            broker.spawn()
        for broker in self.all:
            broker.wait_until_it_serves()

    def stop(self) -> None:
        """Stop all brokers."""
        for broker in self.all:
            broker.ask_to_stop()
        for broker in self.all:
            broker.stop()


class _Broker(KafkaServer):
    """A combined broker and controller."""

    def __init__(self, folder: Path, number: int, controllers: list[int]) -> None:
        super().__init__(folder)
        self._number = number
        self._controllers = controllers

    def settings(self, data: str) -> str:
        """Return the settings of a standalone broker plus those of a cluster member."""
        count = len(self._controllers)
        copies = min(3, count)
        own = f"CONTROLLER://127.0.0.1:{self._controllers[self._number]}"
        voters = (f"{n + 1}@127.0.0.1:{port}" for n, port in enumerate(self._controllers))
        changes = {
            "node.id": str(self._number + 1),
            "controller.quorum.voters": ",".join(voters),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},{own}",
            "min.insync.replicas": str((copies + 1) // 2),
            "offsets.topic.replication.factor": str(copies),
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str((copies + 1) // 2),
            "share.coordinator.state.topic.replication.factor": str(copies),
            "share.coordinator.state.topic.min.isr": str((copies + 1) // 2),
            "group.consumer.session.timeout.ms": str(GROUP_SESSION_MS),
            "group.consumer.heartbeat.interval.ms": "500",
        }
        lines = super().settings(data).splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in changes]
        return "\n".join([*kept, *(f"{name}={value}" for name, value in changes.items()), ""])

    def new_cluster(self) -> str:
        """Return the cluster id, which is the same for all brokers."""
        return f"{self._controllers[0]:022d}"
