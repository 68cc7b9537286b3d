"""A record of the parked topic."""

from typing import NamedTuple

from streamer.kafka.headers import header_list
from streamer.kafka.reading import PartitionRead
from streamer.model import record_headers
from streamer.model.record import Headers, Parked, RecordId
from streamer.model.wire import read_parked


class ParkedRecord(NamedTuple):
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
    original: RecordId
    wait: Parked

    @property
    def size(self) -> int:
        """About how many bytes it has."""
        return len(self.value or b"")


def read_parked_record(seen: PartitionRead) -> ParkedRecord | None:
    """A parked record; None for one that streamer did not write, as nothing says where it
    first stood."""
    message = seen.message
    headers = None if message is None else header_list(message)
    if message is None or headers is None:
        return None
    decoded = record_headers.decode_headers(headers)
    first = record_headers.source_id(decoded)
    if first is None:
        return None
    return ParkedRecord(
        seen.partition,
        seen.offset,
        message.key(),
        message.value(),
        headers,
        first,
        read_parked(decoded),
    )
