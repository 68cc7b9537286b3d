"""A record of the parked topic."""

from typing import NamedTuple

from streamer.kafka.headers import header_list
from streamer.kafka.reading import Seen
from streamer.model import marks
from streamer.model.record import Coordinates, Headers, Parked
from streamer.model.wire import read_parked


class Copy(NamedTuple):
    """A parked record where it stands now.

    Attributes:
        headers: all of them.
        original: where it first stood, in the input.
    """

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    original: Coordinates
    wait: Parked

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        return len(self.value or b"")


def read_copy(seen: Seen) -> Copy | None:
    """A parked record; None for one that streamer did not write, as nothing says where it
    first stood."""
    message = seen.message
    headers = None if message is None else header_list(message)
    if message is None or headers is None:
        return None
    words = marks.words(headers)
    first = marks.source(words)
    if first is None:
        return None
    return Copy(
        seen.partition,
        seen.offset,
        message.key(),
        message.value(),
        headers,
        first,
        read_parked(words),
    )
