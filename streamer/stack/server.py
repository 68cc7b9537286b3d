"""A server process of this machine: how it is started, watched and ended."""

import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path

import psutil

from streamer.stack.errors import StackError

_START_S = 60.0
_STOP_S = 15.0

# Ends the server when the process that started it is gone, however it went.
_GUARD = """
import os, shutil, signal, sys
sys.stdin.read()
try:
    os.kill(int(sys.argv[1]), signal.SIGKILL)
except ProcessLookupError:
    pass
for folder in sys.argv[2:]:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Server(ABC):
    """A server with a folder of its own, bound to 127.0.0.1.

    Args:
        folder: data and log; what is there is used again.
        port: None for a free one, which it then keeps.
        guarded: end it when this process ends, by whatever means.
    """

    name: str

    def __init__(self, folder: Path, port: int | None = None, *, guarded: bool = True) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.log = folder / f"{self.name}.log"
        self._guarded = guarded
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

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
    def command(self) -> list[str]:
        """The command line; files that it needs are written first."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves requests."""

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            StackError: the port is in use, or it died or does not answer; with its last words.
        """
        if not port_is_free(self.port):
            raise StackError(
                f"port {self.port} of 127.0.0.1 is in use: {self.name} cannot have it. "
                f"End what listens there, or choose another port"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self.command()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for us: we end it in order
            )
        if self._guarded:
            self._guard = subprocess.Popen(
                [sys.executable, "-S", "-E", "-c", _GUARD, str(self._process.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End it in good order, or, if that takes too long, at once."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start it again, on the same folder and port, ended or not."""
        self.stop()
        self.start()

    def last_words(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_S
        while self.pid is not None and time.monotonic() < deadline:
            if self.answers():
                return
            time.sleep(0.05)
        died = self.pid is None
        self.kill()
        raise StackError(
            f"{self.name} {'died' if died else f'did not answer within {_START_S:.0f} s'}; "
            f"the end of {self.log}:\n{self.last_words()}"
        )

    def _end(self, by: signal.Signals) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()
            self._guard = None
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(by)
            try:
                self._process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._process = None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Whether a server can have the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def end_pid(pid: int) -> None:
    """End a process that another of ours started: in good order, or at once."""
    try:
        process = psutil.Process(pid)
        process.terminate()
        try:
            process.wait(_STOP_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)
    except psutil.NoSuchProcess:
        return
