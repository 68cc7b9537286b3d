"""A server process of this machine: how it is started, watched and ended."""

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from streamer.stack.errors import PortInUse, StackError
from streamer.stack.guard import Guard
from streamer.stack.ports import free_port, port_answers, port_is_free

_START_S = 60.0
_STOP_S = 15.0


class Server(ABC):
    """A server with a folder of its own, bound to 127.0.0.1.

    It ends with this process, however that ends, unless it is detached.

    Args:
        folder: its data; what is there is used again.
        port: None for a free one, which it then keeps.
        log: where its words go; None for a file in the folder.
        guard: who ends it when this process ends; None for a guard of its own.
        detached: it outlives this process.
    """

    name: ClassVar[str]

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        log: Path | None = None,
        guard: Guard | None = None,
        detached: bool = False,
    ) -> None:
        # Resolved, as the servers and the system name it.
        self.folder = folder.resolve()
        self.port = free_port() if port is None else port
        self.log = log or self.folder / f"{self.name}.log"
        self._guard = guard
        self._own_guard: Guard | None = None
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running server."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    @abstractmethod
    def address(self) -> str:
        """How clients reach it."""

    @abstractmethod
    def version(self) -> str:
        """What would be started."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line; what it needs in the folder is written first."""

    @abstractmethod
    def serves(self) -> bool:
        """Whether the server of this folder, not another on its port, serves requests."""

    def start(self) -> None:
        """Start it and wait until it serves. Nothing is done if it runs.

        Raises:
            StackError: the port is in use, or it died or does not serve; with its last words.
        """
        self.spawn()
        self.wait_until_it_serves()

    def stop(self) -> None:
        """End it in good order, or, if that takes too long, at once."""
        self.ask_to_stop()
        self._end(_STOP_S)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._end(0.0)

    def restart(self) -> None:
        """Start it again, on the same folder and port, ended or not."""
        self.stop()
        self.start()

    def spawn(self) -> None:
        """Start it; it does not serve yet.

        Raises:
            StackError: it cannot be started.
        """
        if self.pid is not None:
            return
        if not port_is_free(self.port):
            raise PortInUse(self.name, self.port)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
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
        """Wait for a server that was just started.

        Raises:
            StackError: it died or does not serve; with its last words.
        """
        deadline = time.monotonic() + _START_S
        while self.pid is not None and time.monotonic() < deadline:
            if port_answers(self.port) and self.serves():
                return
            time.sleep(0.02)
        died = self.pid is None
        self.kill()
        raise StackError(
            f"{self.name} {'died' if died else f'did not serve within {_START_S:.0f} s'}; "
            f"the end of {self.log}:\n{self.last_words()}"
        )

    def ask_to_stop(self) -> None:
        """Ask it to end in good order; `stop` waits for it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def last_words(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def group(self) -> int | None:
        """The process group for the server and its helpers; None for that of this process."""
        if self._detached:
            return None
        if self._guard is not None:
            return self._guard.group
        if self._own_guard is None:
            self._own_guard = Guard()
        return self._own_guard.group

    def _end(self, patience_s: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process.wait()
            self._process = None
        if self._own_guard is not None:
            self._own_guard.dismiss()
            self._own_guard = None
