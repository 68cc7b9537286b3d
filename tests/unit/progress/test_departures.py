"""Following the relay, with a consumer that does what librdkafka's does."""

from collections.abc import Iterable

import pytest
from confluent_kafka import KafkaError, TopicPartition

from streamer.progress import departures
from streamer.progress.departures import Departures
from streamer.progress.fold import Cursor, Place
from streamer.settings import Settings

_TOPIC = Settings().topics.parked
_RECORDS = 1_000


class _Message:
    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> KafkaError | None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset


class _Consumer:
    """Of what is assigned it gives what comes next, whatever is wanted of it."""

    def __init__(self, *_: object, **__: object) -> None:
        self._next: int | None = None

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        (self._next,) = (partition.offset for partition in partitions)

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        del partitions
        self._next = None

    def consume(self, most: int, timeout: float) -> list[_Message]:
        del timeout
        if self._next is None:
            return []
        end = min(self._next + min(most, 100), _RECORDS)
        messages = [_Message(offset) for offset in range(self._next, end)]
        self._next = end
        return messages


class _Question:
    """The relay comes further each time that it is asked for, by one and a half portions."""

    committed = 0
    is_answered = True

    def __init__(self, *_: object) -> None:
        _Question.committed = min(_Question.committed + 150, _RECORDS)

    def answer(self) -> dict[tuple[str, int], int]:
        return {(_TOPIC, 0): self.committed}


def test_who_was_read_beyond_the_relay_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "Consumer", _Consumer)
    monkeypatch.setattr(departures, "CommittedQuestion", _Question)
    monkeypatch.setattr(departures, "_ASK_EVERY_S", 0.0)
    left = Departures(Settings(), object())  # type: ignore[arg-type]  # the question has no need
    left.start({Place(Cursor.LEFT, _TOPIC, 0): 0})
    arrived = {Place(Cursor.PARKED, _TOPIC, 0): _RECORDS}
    found: list[int | None] = []
    for _ in range(200):
        for chunk in left.read(arrived).values():
            found += [record.offset() for record in chunk.records]
    assert found == [*range(_RECORDS)]
