"""Ports on 127.0.0.1."""

import secrets
import socket

from streamer.stack.errors import StackError

# Below the range for outgoing connections: while a killed server is down, reconnecting clients
# would otherwise eventually take its port as their local port, so that it cannot restart.
_LOWEST, _HIGHEST = 20_000, 32_000
_given: set[int] = set()


def free_port() -> int:
    """Return a free port that was not returned before in this process.

    Raises:
        StackError: no free port was found.
    """
    for _ in range(1_000):
        port = _LOWEST + secrets.randbelow(_HIGHEST - _LOWEST)
        if port not in _given and port_is_free(port):
            _given.add(port)
            return port
    raise StackError(f"no free port found between {_LOWEST} and {_HIGHEST} on 127.0.0.1")


def port_is_free(port: int) -> bool:
    """Whether a server could bind to the port."""
    with socket.socket() as probe:
        # As servers do, so that recently closed connections do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_answers(port: int) -> bool:
    """Whether the port accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
