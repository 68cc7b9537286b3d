"""Tells systemd how a service is: that it is ready, what it does, and that it is not stuck.

The protocol is that of sd_notify(3): datagrams to the socket that `NOTIFY_SOCKET` names. Without
that variable nothing is sent.
"""

import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0

Check = Callable[[], str | None]
"""Returns what is wrong, or None. Must not block."""


def notify(*states: str) -> None:
    """Send states such as `READY=1`; does nothing outside of systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # in Linux' abstract namespace
        address = f"\0{address[1:]}"
    with (
        suppress(OSError),  # systemd itself restarts, or is not there: it notices the silence
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.settimeout(1.0)
        sender.connect(address)
        sender.sendall("\n".join(states).encode())


class SystemdNotifier:
    """Owns the thread `systemd`, which reports readiness once, and each change of the status.

    While the service is alive, it also keeps systemd's watchdog from ending it.

    Args:
        alive: liveness check; what is not alive, the watchdog ends.
        ready: readiness check; its text is the status until it returns None.
        state: returns the state, which is then the status.
    """

    def __init__(self, alive: Check, ready: Check, state: Callable[[], str]) -> None:
        self._alive = alive
        self._ready = ready
        self._state = state
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="systemd", daemon=True)

    def start(self) -> None:
        """Start the thread, if there is a systemd to tell."""
        if os.environ.get("NOTIFY_SOCKET"):
            self._thread.start()

    def stop(self) -> None:
        """Say that the service stops, and end the thread."""
        self._stop.set()
        notify("STOPPING=1")

    def _run(self) -> None:
        was_ready, said = False, ""
        while not self._stop.wait(_LOOK_EVERY_S):
            wrong = self._ready()
            states = []
            if wrong is None and not was_ready:
                was_ready = True
                states.append("READY=1")
            status = wrong or self._state()
            if status != said:
                said = status
                states.append(f"STATUS={status}")
            if self._alive() is None:
                states.append("WATCHDOG=1")
            if states:
                notify(*states)
