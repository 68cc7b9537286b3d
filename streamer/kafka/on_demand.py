"""An admin client that is there while it is used, as each client has five threads."""

import time
from collections.abc import Callable

from confluent_kafka.admin import AdminClient

IDLE_S = 10.0


class OnDemandAdmin:
    """Makes an admin client when it is called, and keeps it for calls that follow soon.

    Whoever has called keeps the client as long as an answer is awaited. Not thread-safe.

    Args:
        make: makes the client.
    """

    def __init__(self, make: Callable[[], AdminClient]) -> None:
        self._make = make
        self._client: AdminClient | None = None
        self._used_at = 0.0

    def __call__(self) -> AdminClient:
        """Return the client.

        Raises:
            KafkaException: a property is invalid.
        """
        if self._client is None:
            self._client = self._make()
        self._used_at = time.monotonic()
        return self._client

    def rest(self) -> None:
        """Let go of the client if it was not used lately; to be called now and then."""
        if self._client is not None and time.monotonic() - self._used_at > IDLE_S:
            self._client = None
