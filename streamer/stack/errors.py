"""What can go wrong with the stack."""


class StackError(RuntimeError):
    """A server cannot be had; the message says which, why, and what to do."""


class PortInUse(StackError):  # noqa: N818 - the name says it
    """Something else listens on a server's port."""

    def __init__(self, server: str, port: int) -> None:
        super().__init__(
            f"port {port} of 127.0.0.1 is in use: {server} cannot have it. "
            "End what listens there, or choose another port"
        )
        self.server = server
        self.port = port
