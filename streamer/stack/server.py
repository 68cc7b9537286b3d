"""Starting, watching and stopping a server process on this machine."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from streamer import private_files
from streamer.stack.errors import PortInUse, StackError
from streamer.stack.ports import free_port, port_answers, port_is_free
from streamer.stack.reaper import ProcessReaper

_START_S = 60.0
_STOP_S = 15.0


class Server(ABC):
    """A server on 127.0.0.1 with its own folder.

    It ends with this process, however that ends, unless it is detached.

    Args:
        folder: the server's data; existing data is reused.
        port: None for a free port, which it then keeps.
        log: the log file; None for a file in the folder.
        reaper: kills the server when this process ends; None for a new guard.
        detached: let the server outlive this process.
    """

    name: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        log: Path | None = None,
        reaper: ProcessReaper | None = None,
        detached: bool = False,
    ) -> None:
        # Resolved, to compare with what the servers and the system report.
        self.folder = folder.resolve()
        self.port = free_port() if port is None else port
        self.log = log or self.folder / f"{self.name}.log"
        self._reaper = reaper
        self._own_reaper: ProcessReaper | None = None
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id; None if the server is not running."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    @abstractmethod
    def address(self) -> str:
        """The address for clients."""

    @abstractmethod
    def version(self) -> str:
        """Return the name and version of the server."""

    @abstractmethod
    def command(self) -> list[str]:
        """Write what the server needs to its folder, and return the command line."""

    @abstractmethod
    def serves(self) -> bool:
        """Whether this server, not another one on its port, is ready for requests."""

    def start(self) -> None:
        """Start the server if it is not running, and wait until it is ready.

        Raises:
            StackError: the port is in use, or the server died or did not become ready; the message
                has the end of its log.
        """
        self.spawn()
        self.wait_until_it_serves()

    def stop(self) -> None:
        """Stop the server; kill it if that takes too long."""
        self.ask_to_stop()
        self._end(_STOP_S)

    def kill(self) -> None:
        """Kill the server with SIGKILL, like a crash."""
        self._end(0.0)

    def restart(self) -> None:
        """Stop the server if it is running, and start it with the same folder and port."""
        self.stop()
        self.start()

    def spawn(self) -> None:
        """Start the server without waiting until it is ready.

        Raises:
            StackError: the server cannot be started.
        """
        if self.pid is not None:
            return
        if not port_is_free(self.port):
            raise PortInUse(self.name, self.port)
        private_files.make_folder(self.folder)
        private_files.make_folder(self.log.parent)
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=self.group(),
                start_new_session=self._detached,
            )

    def wait_until_it_serves(self) -> None:
        """Wait until a server that was just started is ready.

        Raises:
            StackError: the server died or did not become ready; the message has the end of its
                log.
        """
        deadline = time.monotonic() + _START_S
        while self.pid is not None and time.monotonic() < deadline:
            if port_answers(self.port) and self.serves():
                return
            time.sleep(0.02)
        died = self.pid is None
        self.kill()
        raise StackError(
            f"{self.name} {'died' if died else f'was not ready within {_START_S:.0f} s'}; "
            f"the end of {self.log}:\n{self.last_words()}"
        )

    def ask_to_stop(self) -> None:
        """Ask the server to stop (SIGTERM); `stop` waits for it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def last_words(self) -> str:
        """Return the end of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def group(self) -> int | None:
        """Return the process group for the server and its helpers; None for this process's."""
        if self._detached:
            return None
        if self._reaper is not None:
            return self._reaper.group
        if self._own_reaper is None:
            self._own_reaper = ProcessReaper()
        return self._own_reaper.group

    def _end(self, patience_s: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._own_reaper is not None:
            self._own_reaper.dismiss()
            self._own_reaper = None
