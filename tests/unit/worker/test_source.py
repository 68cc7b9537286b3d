"""Partitions that arrive: each is read when all is known of it, and none waits for another."""

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamer.ledger.epoch import LedgerLostError
from streamer.settings import KafkaSettings, Settings
from streamer.worker import source as source_module
from streamer.worker.source import RecordSource, SourceError, Windows
from tests.unit.kafka.fake_kafka import with_error
from tests.unit.worker.test_committer import JOINED

_SETTINGS = Settings()
_TOPIC = _SETTINGS.topics.recipients
_UNSTABLE = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "it loads", False, True, False)
_FORBIDDEN = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not allowed")


class FakeMember:
    """A member of the group, to which a test gives partitions.

    Attributes:
        offsets: what is committed, with its metadata.
        errors: what is answered for partitions instead.
        leaderless: which partitions have no leader.
        beginning, end: of every partition.
        read: which are read, and from where on.
    """

    def __init__(self) -> None:
        self.offsets: dict[int, tuple[int, str]] = {}
        self.errors: dict[int, KafkaError] = {}
        self.leaderless: set[int] = set()
        self.beginning, self.end = 0, 100
        self.read: dict[int, int] = {}
        self._todo: list[Callable[[], None]] = []

    def __call__(self, config: object, **client: object) -> "FakeMember":
        return self

    def give(self, *numbers: int) -> None:
        parts = [TopicPartition(_TOPIC, number) for number in numbers]
        self._todo.append(lambda: self._on_assign(self, parts))

    def take(self, *numbers: int) -> None:
        parts = [TopicPartition(_TOPIC, number) for number in numbers]
        self._todo.append(lambda: self._on_revoke(self, parts))

    def subscribe(
        self,
        topics: list[str],
        on_assign: Callable[["FakeMember", list[TopicPartition]], None],
        on_revoke: Callable[["FakeMember", list[TopicPartition]], None],
        on_lost: object,
    ) -> None:
        self._on_assign, self._on_revoke = on_assign, on_revoke

    def consume(self, most: int, timeout: float) -> list[object]:
        todo, self._todo = self._todo, []
        for do in todo:
            do()
        return []

    def committed(self, asked: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        return [self._committed(each.partition) for each in asked]

    def _committed(self, number: int) -> TopicPartition:
        if number in self.errors:
            return with_error((_TOPIC, number), self.errors[number])
        offset, metadata = self.offsets.get(number, (-1001, ""))
        return TopicPartition(_TOPIC, number, offset, metadata)

    def list_topics(self, topic: str, timeout: float) -> SimpleNamespace:
        partitions = {
            number: SimpleNamespace(leader=-1 if number in self.leaderless else 1)
            for number in range(8)
        }
        return SimpleNamespace(topics={topic: SimpleNamespace(partitions=partitions, error=None)})

    def offsets_for_times(
        self, asked: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]:
        if self.leaderless & {each.partition for each in asked}:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        at = {-2: self.beginning, -1: self.end}
        return [TopicPartition(_TOPIC, each.partition, at[each.offset]) for each in asked]

    def incremental_assign(self, partitions: Iterable[TopicPartition]) -> None:
        self.read |= {each.partition: each.offset for each in partitions}

    def incremental_unassign(self, partitions: Iterable[TopicPartition]) -> None:
        for each in partitions:
            del self.read[each.partition]

    def pause(self, partitions: object) -> None: ...

    def resume(self, partitions: object) -> None: ...

    def consumer_group_metadata(self) -> bytes:
        return JOINED


class Ledger:
    """What checks of the ledger answer: at once, or when the test says so."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.is_away = False
        self.asked: list[set[str]] = []
        self.waiter: list[Future[dict[int, int]]] = []

    def check(self, epochs: set[str]) -> Future[dict[int, int]]:
        self.asked.append(epochs)
        self.waiter.append(Future())
        if not self.is_away:
            self.answer()
        return self.waiter[-1]

    def answer(self) -> None:
        for future in self.waiter:
            if not future.done():
                future.set_result(self.kept)


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> FakeMember:
    made = FakeMember()
    monkeypatch.setattr(source_module, "Consumer", made)
    monkeypatch.setattr(source_module, "_OFFSETS_RETRY_S", 0.0)
    return made


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


def _start(ledger: Ledger, settings: Settings = _SETTINGS) -> RecordSource:
    source = RecordSource(settings)
    source.start(ledger.check, lambda windows: None)
    return source


def _poll(source: RecordSource, turns: int = 4) -> Windows:
    """Poll, and let what is to be marked be committed, as the committer does."""
    for _ in range(turns):
        source.poll(10, 0.0)
        for window in source.windows.values():
            if not window.is_marked:
                window.committed(0, window.position)
    return source.windows


def test_partitions_start_at_the_committed_offset_or_beginning(
    member: FakeMember, ledger: Ledger
) -> None:
    member.offsets = {0: (7, "e"), 1: (9, "")}
    member.beginning = 3
    source = _start(ledger)
    member.give(0, 1, 2)
    source.poll(10, 0.0)
    source.poll(10, 0.0)
    marked = {number: w.is_marked for (_, number), w in source.windows.items()}
    assert marked == {0: True, 1: False, 2: False}
    assert member.read == {0: 7}
    _poll(source)
    assert member.read == {0: 7, 1: 9, 2: 3}
    assert ledger.asked[0] == {"e"}
    assert source.committed_offsets() == {0: 7, 1: 9, 2: 3}


def test_a_partition_without_leader_does_not_delay_others(
    member: FakeMember, ledger: Ledger
) -> None:
    member.offsets = {0: (7, "e")}
    member.leaderless = {2}
    source = _start(ledger)
    member.give(0, 1, 2)
    _poll(source)
    assert member.read == {0: 7, 1: 0}
    member.leaderless = set()
    _poll(source)
    assert member.read == {0: 7, 1: 0, 2: 0}


def test_an_unreadable_offset_does_not_delay_other_partitions(
    member: FakeMember, ledger: Ledger
) -> None:
    member.offsets = {0: (7, "e"), 1: (8, "e")}
    member.errors = {1: _UNSTABLE}
    source = _start(ledger)
    member.give(0, 1)
    _poll(source)
    assert member.read == {0: 7}
    member.errors = {}
    _poll(source)
    assert member.read == {0: 7, 1: 8}
    member.errors = {2: _FORBIDDEN}
    member.give(2)
    with pytest.raises(SourceError, match="not allowed"):
        _poll(source)


def test_an_unresponsive_ledger_does_not_block_polling(member: FakeMember, ledger: Ledger) -> None:
    member.offsets = {number: (number, "e") for number in range(4)}
    source = _start(ledger)
    member.give(0)
    _poll(source)
    ledger.is_away = True
    member.give(1, 2)
    _poll(source)
    member.give(3)
    _poll(source)
    assert member.read == {0: 0}
    # One that went and came back is asked about anew: somebody else may have committed.
    member.take(1)
    _poll(source)
    member.offsets[1] = (50, "e")
    member.give(1)
    _poll(source)
    assert len(ledger.asked) == 2
    ledger.is_away = False
    ledger.answer()
    _poll(source)
    assert member.read == {0: 0, 1: 50, 2: 2, 3: 3}


def test_a_lost_ledger_ends_the_worker(member: FakeMember, ledger: Ledger) -> None:
    ledger.is_away = True
    source = _start(ledger)
    member.give(0)
    _poll(source)
    ledger.waiter[0].set_exception(LedgerLostError("lost"))
    with pytest.raises(LedgerLostError):
        _poll(source)


def test_lost_offsets_are_not_mistaken_for_a_new_group(member: FakeMember, ledger: Ledger) -> None:
    member.offsets = {0: (7, "e")}
    ledger.kept = {0: 6, 1: 42, 2: 0, 3: 9}
    source = _start(ledger)
    member.give(0, 1, 2, 3, 4)
    with pytest.raises(SourceError) as caught:
        _poll(source)
    text = str(caught.value)
    assert "partition 1 at 42, 3 at 9" in text
    assert f"--group streamer --topic {_TOPIC}:1 --reset-offsets --to-offset 42" in text
    assert "DEL streamer:input:streamer:positions" in text
    assert member.read.keys() <= {0}


def test_records_deleted_by_retention_are_skipped(member: FakeMember, ledger: Ledger) -> None:
    ledger.kept = {0: 42}
    member.beginning = 42
    source = _start(ledger)
    member.give(0)
    _poll(source)
    assert member.read == {0: 42}


@pytest.mark.parametrize(("kept", "is_refused"), [(42, True), (100, False)])
def test_starting_at_the_end_skips_no_known_record(
    member: FakeMember, ledger: Ledger, kept: int, is_refused: bool
) -> None:
    properties: dict[str, str | int | float | bool] = {"auto.offset.reset": "latest"}
    ledger.kept = {0: kept}
    source = _start(ledger, Settings(kafka=KafkaSettings(properties=properties)))
    member.give(0)
    if is_refused:
        with pytest.raises(SourceError, match="partition 0 at 42"):
            _poll(source)
    else:
        _poll(source)
        assert member.read == {0: 100}
