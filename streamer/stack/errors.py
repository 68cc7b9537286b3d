"""Errors of the stack."""


class StackError(RuntimeError):
    """A server cannot be started or stopped; the message says which, why, and how to fix it."""


class PortInUse(StackError):  # noqa: N818 - the name says it
    """Another process listens on a server's port."""

    def __init__(self, server: str, port: int) -> None:
        super().__init__(
            f"port {port} on 127.0.0.1 is in use, cannot start {server}. "
            "Stop the process that uses it, or choose another port"
        )
        self.server = server
        self.port = port
