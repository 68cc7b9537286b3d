"""Apache Kafka on this machine: KRaft, one node in both roles."""

import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.stack import artifacts
from streamer.stack.errors import StackError
from streamer.stack.ports import free_port
from streamer.stack.server import Server

# Paths are relative to the folder in which the broker runs, since a comma in an absolute path
# would split it in two. Short timeouts are for tests, which kill workers and brokers.
_SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes=10485760
replica.fetch.max.bytes=10485760
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=200
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""

_LOGGING = """\
Configuration:
  Appenders:
    Console:
      name: STDOUT
      PatternLayout:
        pattern: "%d{ISO8601} %p %m (%c)%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef:
        - ref: STDOUT
"""

_FORMAT_S = 60.0


class KafkaServer(Server):
    """A broker whose data survives restarts and kills."""

    name = "kafka"

    @property
    def address(self) -> str:
        """Same as `bootstrap_servers`."""
        return self.bootstrap_servers

    @property
    def bootstrap_servers(self) -> str:
        """The address for a client's `bootstrap.servers`."""
        return f"127.0.0.1:{self.port}"

    def version(self) -> str:
        """Return the version."""
        return f"Apache Kafka {artifacts.KAFKA_VERSION}"

    def command(self) -> list[str]:
        """Write the settings, format a new folder, and return the command line."""
        java = str(artifacts.java())
        jars = artifacts.kafka_jars()
        logging = self.folder / "log4j2.yaml"
        logging.write_text(_LOGGING)
        run = [
            java,
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            f"-Dlog4j2.configurationFile={logging.name}",
            "-cp",
            f"{jars}/*",
        ]
        if self._cluster() is None:
            self._format([*run, "kafka.tools.StorageTool"])
        return [*run, "kafka.Kafka", self._write_settings("server.properties", "data")]

    def serves(self) -> bool:
        """Whether it returns its own metadata, with itself as a live broker."""
        client = AdminClient(
            {"bootstrap.servers": self.bootstrap_servers, "log_level": 0, "socket.timeout.ms": 2000}
        )
        try:
            found = client.list_topics(timeout=2.0)
        except KafkaException:
            return False
        return bool(found.brokers) and found.cluster_id == self._cluster()

    def _cluster(self) -> str | None:
        """Return the cluster id of a formatted folder, or None."""
        written = self.folder / "data" / "meta.properties"
        if not written.exists():
            return None
        properties = dict(
            line.split("=", 1) for line in written.read_text().splitlines() if "=" in line
        )
        return properties.get("cluster.id")

    def settings(self, data: str) -> str:
        """Return the settings file's text, with data in the folder `data`."""
        return _SETTINGS.format(port=self.port, controller=free_port(), data=data)

    def new_cluster(self) -> str:
        """Return a new cluster id."""
        # Without "-": the tool parses an id that starts with one as an option.
        return urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A")

    def _write_settings(self, name: str, data: str) -> str:
        (self.folder / name).write_text(self.settings(data))
        return name

    def _format(self, tool: list[str]) -> None:
        # Rename when complete: a partly formatted folder would look like a finished one.
        draft = self.folder / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        settings = self._write_settings("format.properties", draft.name)
        cluster = self.new_cluster()
        try:
            done = subprocess.run(
                [*tool, "format", "-t", cluster, "-c", settings],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_FORMAT_S,
                process_group=self.group(),
            )
        except subprocess.TimeoutExpired:
            raise StackError(
                f"formatting Kafka's folder {self.folder} took longer than {_FORMAT_S:.0f} s"
            ) from None
        if done.returncode != 0:
            raise StackError(
                f"cannot format Kafka's folder {self.folder}: {done.stdout}{done.stderr}"
            )
        draft.rename(self.folder / "data")
