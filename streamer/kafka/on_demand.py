"""A client that is there while it is used, as each has four threads or five."""

import time
from collections.abc import Callable
from typing import Generic, TypeVar

from confluent_kafka.admin import AdminClient

IDLE_S = 10.0

Client = TypeVar("Client")


class OnDemand(Generic[Client]):
    """Makes a client when it is called, and keeps it for calls that follow soon.

    Whoever has called keeps the client as long as an answer is awaited. Not thread-safe.

    Args:
        make: makes the client.
        close: closes one that is let go, if that needs a call.

    Attributes:
        current: the client, if there is one now.
    """

    def __init__(
        self, make: Callable[[], Client], close: Callable[[Client], None] = lambda _: None
    ) -> None:
        self._make = make
        self._close = close
        self.current: Client | None = None
        self._used_at = 0.0

    def __call__(self) -> Client:
        """Return the client. Raises what `make` does."""
        if self.current is None:
            self.current = self._make()
        self._used_at = time.monotonic()
        return self.current

    def rest(self) -> None:
        """Let go of the client if it was not used lately; to be called now and then."""
        if self.current is not None and time.monotonic() - self._used_at > IDLE_S:
            self.drop()

    def drop(self) -> None:
        """Let go of the client; the next call makes another one."""
        if self.current is not None:
            self._close(self.current)
            self.current = None


OnDemandAdmin = OnDemand[AdminClient]
