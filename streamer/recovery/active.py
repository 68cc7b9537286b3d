"""Which campaigns were active since a time, as the progress records in Kafka say."""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from typing import NamedTuple

import orjson

from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.stored import Reader
from streamer.settings import Settings

_NAMED = 20


class Activity(NamedTuple):
    """What was committed of campaigns since a time.

    Attributes:
        records: the number of records committed, by `ORGANIZATION/CAMPAIGN`.
        is_complete: whether all was read in the given time.
    """

    records: Counter[str]
    is_complete: bool


def active_campaigns(
    settings: Settings, reader: Reader, since_ms: int, within_s: float
) -> Activity:
    """Count what was committed of each campaign since a time, in ms since 1970.

    Raises:
        ReadError: the topic cannot be read.
        KafkaException: Kafka cannot be used.
    """
    until = time.monotonic() + within_s
    topic = settings.topics.progress
    found: Counter[str] = Counter()
    for stored in reader.read(topic, reader.since(topic, reader.spans(topic), since_ms)):
        counts = orjson.loads(stored.value or b"{}").get("counts", {})
        found[(stored.key or b"").decode()] += sum(n for n in counts.values() if n > 0)
        if time.monotonic() > until:
            return Activity(found, is_complete=False)
    return Activity(found, is_complete=True)


def describe_activity(settings: Settings, since_ms: int, within_s: float) -> str:
    """Name the campaigns that were active since a time, for a log.

    Raises:
        ReadError: the topic cannot be read.
        KafkaException: Kafka cannot be used.
    """
    with closing(Reader(settings, KafkaErrorLog(settings), _show_nothing)) as reader:
        found, is_complete = active_campaigns(settings, reader, since_ms, within_s)
    names = [f"{name} ({count})" for name, count in found.most_common(_NAMED)]
    rest = len(found) - len(names)
    if rest:
        names.append(f"{rest} more")
    if not is_complete:
        names.append("and perhaps others")
    return ", ".join(names) or "none"


def _show_nothing(label: str, total: int) -> AbstractContextManager[Callable[[int, int], None]]:
    del label, total

    def ignore(offsets: int, records: int) -> None:
        del offsets, records

    return nullcontext(ignore)
