"""Kafka and Redis that keep running after the command that started them."""

import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from streamer.stack.errors import StackError
from streamer.stack.kafka import KafkaServer
from streamer.stack.lock import locked
from streamer.stack.process_record import ProcessRecord, forget
from streamer.stack.redis import RedisServer
from streamer.stack.server import Server

_STOP_S = 15.0
_KILLED_S = 5.0
_KINDS: tuple[tuple[type[Server], int], ...] = ((RedisServer, 6379), (KafkaServer, 9092))


@dataclass(frozen=True)
class Service:
    """The status of one of the servers; the last four fields are None if it is not running."""

    name: str
    log: Path
    serves: bool
    address: str | None = None
    pid: int | None = None
    version: str | None = None
    uptime_s: float | None = None


class DetachedStack:
    """Both servers in a folder, where other processes can find them.

    Args:
        folder: holds their data, logs (in `logs/`) and process ids.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def up(self, kafka_port: int | None = None, redis_port: int | None = None) -> list[str]:
        """Start the servers that are not running, and wait until they are ready.

        Args:
            kafka_port: None for the default port.
            redis_port: None for the default port.

        Returns:
            The names of the servers that were started.

        Raises:
            StackError: a server cannot be started, or already runs on another port. Servers
                started by this call are stopped again.
        """
        ports = {KafkaServer.name: kafka_port, RedisServer.name: redis_port}
        with locked(self.folder / "lock"):
            new: list[Server] = []
            for kind, usual in _KINDS:
                port = ports[kind.name]
                running = self._running(kind)
                if running is None:
                    new.append(self._server(kind, port or usual))
                elif port not in (None, running.port):
                    raise StackError(
                        f"{kind.name} is already running on port {running.port}: "
                        f"stop it first to use port {port}"
                    )
            self._start(new)
        return [server.name for server in new]

    def down(self) -> list[str]:
        """Stop the running servers; kill them if that takes too long.

        Returns:
            The names of the servers that were stopped.

        Raises:
            StackError: a server does not stop.
        """
        with locked(self.folder / "lock"):
            return self._end([kind for kind, _ in _KINDS])

    def status(self) -> list[Service]:
        """Return the status of both servers."""
        return [self._service(kind) for kind, _ in reversed(_KINDS)]

    def _start(self, servers: Iterable[Server]) -> None:
        try:
            for server in servers:
                server.spawn()
                # Write it immediately, so that the server is found if this process is killed.
                if server.pid is not None:
                    ProcessRecord(pid=server.pid, port=server.port, version=server.version()).write(
                        server.folder
                    )
            for server in servers:
                server.wait_until_it_serves()
        except BaseException:
            for server in servers:
                server.stop()
                forget(server.folder)
            raise

    def _end(self, kinds: Iterable[type[Server]]) -> list[str]:
        processes = {}
        for kind in kinds:
            folder = self.folder / kind.name
            record = ProcessRecord.read(folder)
            process = record.process(folder) if record is not None else None
            if process is None:
                forget(folder)
            else:
                processes[kind.name] = process
        if not processes:
            return []
        import psutil  # installed, since the processes were found with it

        for process in processes.values():
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, slow = psutil.wait_procs(list(processes.values()), _STOP_S)
        for process in slow:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _, immortal = psutil.wait_procs(slow, _KILLED_S)
        for name, process in processes.items():
            if process in immortal:
                raise StackError(f"{name} (process {process.pid}) does not stop")
            forget(self.folder / name)
        return list(processes)

    def _running(self, kind: type[Server]) -> ProcessRecord | None:
        folder = self.folder / kind.name
        record = ProcessRecord.read(folder)
        return record if record is not None and record.process(folder) is not None else None

    def _service(self, kind: type[Server]) -> Service:
        folder = self.folder / kind.name
        record = ProcessRecord.read(folder)
        process = record.process(folder) if record is not None else None
        if record is None or process is None:
            return Service(name=kind.name, log=self._log(kind), serves=False)
        server = self._server(kind, record.port)
        return Service(
            name=kind.name,
            log=server.log,
            serves=server.serves(),
            address=server.address,
            pid=record.pid,
            version=record.version,
            uptime_s=max(0.0, time.time() - process.create_time()),
        )

    def _server(self, kind: type[Server], port: int) -> Server:
        return kind(self.folder / kind.name, port, log=self._log(kind), detached=True)

    def _log(self, kind: type[Server]) -> Path:
        return self.folder / "logs" / f"{kind.name}.log"
