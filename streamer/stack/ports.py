"""Ports of 127.0.0.1."""

import secrets
import socket

from streamer.stack.errors import StackError

# Below what systems take for outgoing connections: while a killed server is down, the clients that
# look for it would else take its port as their own sooner or later, and keep it from coming back.
_LOWEST, _HIGHEST = 20_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on, and that this process was not given before.

    Raises:
        StackError: there is none.
    """
    for _ in range(1_000):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if port not in _given and port_is_free(port):
            _given.add(port)
            return port
    raise StackError(f"there is no free port between {_LOWEST} and {_HIGHEST} on 127.0.0.1")


def port_is_free(port: int) -> bool:
    """Whether a server can have the port."""
    with socket.socket() as probe:
        # As servers do: connections that have just ended do not keep them from a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_answers(port: int) -> bool:
    """Whether someone takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
