"""Headers by which returned, replayed and retried records refer to their originals."""

from collections.abc import Iterable

from streamer.model.record import Headers, RecordId
from streamer.model.wire import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC

REPLAY_OF = "streamer-replay-of"
"""On an input record: the original offset of the dead letter that it replays."""
RETRY_OF = "streamer-retry-of"
"""On an input record: the record that it retries."""
ATTEMPT = "streamer-attempt"
"""On an input record: how many times this recipient was retried before, as decimal text; absent
means 0. Informational: `wire.REPLACES` determines which claim a retry may take over."""

_OURS = "streamer-"
_MAX_ATTEMPTS = 1_000_000


def decode_headers(headers: Iterable[tuple[str, str | bytes | None]]) -> dict[str, str]:
    """Decode headers to text; of several with the same name the last (most recent) wins."""
    return {
        name: value if isinstance(value, str) else value.decode(errors="backslashreplace")
        for name, value in headers
        if value is not None
    }


def source_id(headers: dict[str, str]) -> RecordId | None:
    """Return the original offset from the `streamer-source-…` headers, or None without them."""
    topic = headers.get(SOURCE_TOPIC)
    partition, offset = headers.get(SOURCE_PARTITION), headers.get(SOURCE_OFFSET)
    if topic is None or partition is None or offset is None:
        return None
    return parse_record_id(f"{topic}/{partition}/{offset}")


def attempt(headers: dict[str, str]) -> int:
    """Return the record's attempt number; 0 if the header is absent or not a number."""
    text = headers.get(ATTEMPT, "")
    return min(int(text), _MAX_ATTEMPTS) if _is_number(text) else 0


def parse_record_id(text: str) -> RecordId | None:
    """Parse TOPIC/PARTITION/OFFSET; None if the text has another form."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and _is_number(partition) and _is_number(offset)):
        return None
    return RecordId(topic, int(partition), int(offset))


def user_headers(headers: Iterable[tuple[str, str | bytes | None]]) -> Headers:
    """Return the headers set by the record's producer."""
    return [(name, value) for name, value in headers if not name.startswith(_OURS)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20
