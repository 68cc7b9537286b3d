"""The headers by which records refer to each other: returned, replayed, tried again."""

from collections.abc import Iterable

from streamer.model.record import Coordinates, Headers
from streamer.model.wire import SOURCE_OFFSET, SOURCE_PARTITION, SOURCE_TOPIC

REPLAY_OF = "streamer-replay-of"
"""Of an input record: the dead letter that it repeats, by that one's first coordinates."""
RETRY_OF = "streamer-retry-of"
"""Of an input record: the record whose outcome it shall better."""
ATTEMPT = "streamer-attempt"
"""Of an input record: how often its recipient was tried again before, decimal text; absent: 0.
It is there to be read; what a retry may claim follows from `wire.REPLACES`."""

_OURS = "streamer-"
_MOST_ATTEMPTS = 1_000_000


def words(headers: Iterable[tuple[str, str | bytes | None]]) -> dict[str, str]:
    """The headers as text; of several with one name the last, which was added latest."""
    return {
        name: value if isinstance(value, str) else value.decode(errors="backslashreplace")
        for name, value in headers
        if value is not None
    }


def source(headers: dict[str, str]) -> Coordinates | None:
    """Where the record first stood, by its `streamer-source-…` headers; None without them."""
    topic = headers.get(SOURCE_TOPIC)
    partition, offset = headers.get(SOURCE_PARTITION), headers.get(SOURCE_OFFSET)
    if topic is None or partition is None or offset is None:
        return None
    return parse_coordinates(f"{topic}/{partition}/{offset}")


def attempt(headers: dict[str, str]) -> int:
    """Which attempt the record is; 0 for the first, and for what is no number."""
    text = headers.get(ATTEMPT, "")
    return min(int(text), _MOST_ATTEMPTS) if _is_number(text) else 0


def parse_coordinates(text: str) -> Coordinates | None:
    """Read TOPIC/PARTITION/OFFSET; None if that is something else."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and _is_number(partition) and _is_number(offset)):
        return None
    return Coordinates(topic, int(partition), int(offset))


def own_headers(headers: Iterable[tuple[str, str | bytes | None]]) -> Headers:
    """The headers that the record's producer gave it."""
    return [(name, value) for name, value in headers if not name.startswith(_OURS)]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 20
