"""Records of the parked topic."""

from typing import NamedTuple

from streamer.kafka.headers import header_list
from streamer.kafka.reading import PartitionRead
from streamer.model import record_headers
from streamer.model.record import Headers, Parked, RecordId
from streamer.model.wire import read_parked


class ParkedRecord(NamedTuple):
    """A parked record, at its position in the parked topic.

    Attributes:
        headers: all headers, streamer's own included.
        original: its original coordinates, in the input.
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
        """Approximate size in bytes."""
        return len(self.value or b"")


def read_parked_record(seen: PartitionRead) -> ParkedRecord | None:
    """Decode a parked record; None if streamer did not write it, so that its original coordinates
    are unknown."""
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
