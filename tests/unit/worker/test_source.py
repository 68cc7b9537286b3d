"""Partitions that come and go: each is read when all is known of it, and none waits for another."""

import logging
from concurrent.futures import Future
from itertools import pairwise

import pytest
from confluent_kafka import KafkaError, Message, TopicPartition

from streamer import metrics
from streamer.kafka import repeating, transactions
from streamer.kafka.transactions import TransactionalProducer
from streamer.ledger.epoch import LedgerLostError
from streamer.model.pulse import OffsetMetadata
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Headers, Record, RecordId
from streamer.model.wire import source_headers
from streamer.settings import KafkaSettings, Settings
from streamer.worker import arrivals
from streamer.worker import source as source_module
from streamer.worker.arrivals import SourceError, Windows
from streamer.worker.source import RecordSource
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.fakes.kafka.cluster import Answer
from tests.kit.fakes.kafka.consumer import FakeConsumer

_SETTINGS = Settings()
_TOPIC = _SETTINGS.topics.recipients
_REACH = 1_000
_KNOWN = OffsetMetadata("e", 0, _REACH)
_UNSTABLE = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "it loads")
_FORBIDDEN = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "not allowed")


class Ledger:
    """What checks of the ledger answer: at once, or when the test says so."""

    def __init__(self) -> None:
        self.kept: dict[int, int] = {}
        self.is_away = False
        self.asked: list[set[OffsetMetadata]] = []
        self.waiter: list[Future[dict[int, int]]] = []

    def check(self, committed: set[OffsetMetadata]) -> Future[dict[int, int]]:
        self.asked.append(committed)
        self.waiter.append(Future())
        if not self.is_away:
            self.answer()
        return self.waiter[-1]

    def answer(self) -> None:
        for future in self.waiter:
            if not future.done():
                future.set_result(self.kept)


class SourceBench:
    """A source whose group gives it the partitions that a test says."""

    def __init__(self, kafka: FakeKafka, settings: Settings = _SETTINGS) -> None:
        self.kafka = kafka
        self.group = kafka.group(settings.kafka.group_id)
        self.ledger = Ledger()
        self.revoked: list[Windows] = []
        self.source = RecordSource(settings)
        self.consumer: FakeConsumer = kafka.consumers[-1]
        self.source.start(self.ledger.check, lambda windows: self.revoked.append(dict(windows)))
        self.group.take()  # it joins, and gets what it is given
        self.records: list[Record] = []
        self.poll(1)

    def commit(
        self, partition: int, offset: int, epoch: str = "e", reach: int | None = _REACH
    ) -> None:
        """Let an offset be committed."""
        place = (_TOPIC, partition)
        metadata = str(OffsetMetadata(epoch, 0, reach)) if epoch else ""
        self.group.offsets[place] = TopicPartition(*place, offset, metadata)

    def write(self, partition: int, *values: bytes) -> None:
        """Write to the input, in a transaction."""
        self.kafka.write(((_TOPIC, partition), value, b"key", []) for value in values)

    def give(self, *numbers: int) -> None:
        self.group.give(self.consumer, *((_TOPIC, number) for number in numbers))

    def take(self, *numbers: int) -> None:
        self.group.take(*((_TOPIC, number) for number in numbers))

    def poll(self, turns: int = 8, *, marks: bool = True) -> Windows:
        """Poll, and let what is to be marked be committed, as the committer does."""
        for _ in range(turns):
            self.records += self.source.poll(10, 0.1)
            for window in self.source.windows.values():
                if marks and (not window.is_marked or window.is_behind):
                    window.committed(0, window.position, window.next_reach)
        return self.source.windows

    @property
    def read(self) -> set[int]:
        """The partitions that are read."""
        return {each.partition for each in self.consumer.assignment()}

    def starts(self) -> dict[int, int | None]:
        """Where the windows began, by partition."""
        return {number: window.committed_offset for (_, number), window in self._windows.items()}

    @property
    def _windows(self) -> Windows:
        return self.source.windows

    def values(self) -> dict[int, list[bytes | None]]:
        """What was read, by partition."""
        found: dict[int, list[bytes | None]] = {}
        for record in self.records:
            found.setdefault(record.partition, []).append(record.value)
        return found


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    made = FakeKafka({_TOPIC: 8})
    made.install(monkeypatch, source_module, arrivals, repeating)
    return made


@pytest.fixture
def desk(kafka: FakeKafka) -> SourceBench:
    return SourceBench(kafka)


# Partitions that arrive


def test_partitions_start_at_the_committed_offset_or_beginning(desk: SourceBench) -> None:
    desk.write(2, *[b"deleted"] * 3, b"a")
    desk.kafka.logs[_TOPIC, 2].start = 3
    desk.write(0, *[b"old"] * 7, b"b")
    desk.write(1, *[b"old"] * 9, b"c")
    desk.commit(0, 7)
    desk.commit(1, 9, "")
    desk.give(0, 1, 2)
    windows = desk.poll(2, marks=False)
    assert {number: w.is_marked for (_, number), w in windows.items()} == {
        0: True,
        1: False,
        2: False,
    }
    # What was never committed with the ledger's epoch is not read before it is.
    assert desk.read == {0}
    desk.poll(5, marks=False)
    assert desk.values() == {0: [b"b"]}
    desk.poll()
    assert desk.values() == {0: [b"b"], 1: [b"c"], 2: [b"a"]}
    assert desk.ledger.asked[0] == {_KNOWN}
    assert desk.source.committed_offsets() == {0: 7, 1: 9, 2: 3}


def test_membership_is_tracked(desk: SourceBench) -> None:
    joined = [desk.source.joined]
    desk.group.leave(desk.consumer)
    desk.source.measure()
    joined.append(desk.source.joined)
    desk.poll(2)
    joined.append(desk.source.joined)
    assert joined == [True, False, True]


def test_a_partition_without_leader_does_not_delay_others(desk: SourceBench) -> None:
    desk.write(0, *[b"old"] * 7, b"b")
    desk.commit(0, 7)
    desk.kafka.leaderless = {(_TOPIC, 2)}
    desk.give(0, 1, 2)
    desk.poll()
    assert desk.read == {0, 1}
    desk.kafka.leaderless = set()
    desk.poll()
    assert desk.read == {0, 1, 2}


def test_an_unreadable_offset_does_not_delay_other_partitions(desk: SourceBench) -> None:
    desk.commit(0, 0)
    desk.commit(1, 0)
    desk.kafka.errors = {(_TOPIC, 1): _UNSTABLE}
    desk.give(0, 1)
    desk.poll()
    assert desk.read == {0}
    desk.kafka.errors = {}
    desk.poll()
    assert desk.read == {0, 1}
    desk.kafka.errors = {(_TOPIC, 2): _FORBIDDEN}
    desk.give(0, 1, 2)
    with pytest.raises(SourceError, match="not allowed"):
        desk.poll()


def test_unreadable_offsets_are_retried_with_pauses(
    desk: SourceBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[float] = []
    original = desk.consumer.committed

    def committed(partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        asked.append(desk.kafka.clock.now)
        return original(partitions, timeout)

    monkeypatch.setattr(desk.consumer, "committed", committed)
    desk.kafka.errors = {(_TOPIC, 0): _UNSTABLE}
    desk.give(0)
    with caplog.at_level(logging.DEBUG):
        desk.poll(20)
    pauses = [after - before for before, after in pairwise(asked)]
    assert 2 <= len(pauses) <= 5
    assert min(pauses) >= 0.5
    # It is said once, and not every half a second.
    said = [
        r.levelno
        for r in caplog.records
        if "cannot read the committed offsets, retrying" in r.getMessage()
    ]
    assert said[0] == logging.WARNING
    assert {*said[1:]} == {logging.DEBUG}


def test_a_rebalance_retries_immediately(desk: SourceBench) -> None:
    desk.kafka.errors = {(_TOPIC, 0): _UNSTABLE}
    desk.give(0)
    desk.poll(1)
    desk.kafka.errors = {}
    desk.give(1)  # whatever the pause
    desk.poll(2)
    assert desk.read == {0, 1}


def test_a_dead_workers_transaction_is_awaited(
    kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its polls stay short enough to stay a member."""
    kafka.install(monkeypatch, transactions)
    dead = TransactionalProducer(_SETTINGS, "dead", "dead")
    dead.begin()
    stranger = kafka.group(_SETTINGS.kafka.group_id).metadata(None)
    dead.send_offsets([TopicPartition(_TOPIC, 0, 5, "e")], stranger)
    desk = SourceBench(kafka)
    desk.write(0, b"v")
    desk.commit(0, 2)
    desk.commit(1, 0)
    desk.give(0, 1)
    longest = 0.0
    for _ in range(40):
        before = kafka.clock.now
        desk.poll(1)
        longest = max(longest, kafka.clock.now - before)
    assert desk.starts() == {0: 2, 1: 0}
    assert longest < 3


def test_an_unresponsive_ledger_does_not_block_polling(desk: SourceBench) -> None:
    for number in range(4):
        desk.write(number, *[b"v"] * 100)
        desk.commit(number, number)
    desk.give(0)
    desk.poll()
    desk.ledger.is_away = True
    desk.give(1, 2)
    desk.poll()
    desk.give(3)
    desk.poll()
    assert desk.read == {0}
    # One that went and came back is asked about anew: somebody else may have committed.
    desk.take(1)
    desk.poll()
    desk.commit(1, 50)
    desk.give(1)
    desk.poll()
    assert len(desk.ledger.asked) == 2
    desk.ledger.is_away = False
    desk.ledger.answer()
    desk.poll()
    assert desk.read == {0, 1, 2, 3}
    assert desk.starts() == {0: 0, 1: 50, 2: 2, 3: 3}
    assert desk.revoked == [{}]


def test_a_lost_ledger_ends_the_worker(desk: SourceBench) -> None:
    desk.ledger.is_away = True
    desk.give(0)
    desk.poll()
    desk.ledger.waiter[0].set_exception(LedgerLostError("lost"))
    with pytest.raises(LedgerLostError):
        desk.poll()


def test_lost_offsets_are_not_mistaken_for_a_new_group(desk: SourceBench) -> None:
    desk.commit(0, 0)
    desk.ledger.kept = {0: 6, 1: 42, 2: 0, 3: 9}
    desk.give(0, 1, 2, 3, 4)
    with pytest.raises(SourceError) as caught:
        desk.poll()
    text = str(caught.value)
    assert "partition 1 at 42, 3 at 9" in text
    assert f"--group streamer --topic {_TOPIC}:1 --reset-offsets --to-offset 42" in text
    assert "DEL streamer:input:streamer:positions" in text
    assert desk.read <= {0}


def test_records_deleted_by_retention_are_skipped(desk: SourceBench) -> None:
    desk.write(0, *[b"v"] * 50)
    desk.kafka.logs[_TOPIC, 0].start = 42
    desk.ledger.kept = {0: 42}
    desk.give(0)
    desk.poll()
    assert desk.starts() == {0: 42}


@pytest.mark.parametrize(("kept", "is_refused"), [(42, True), (101, False)])
def test_starting_at_the_end_skips_no_known_record(
    kafka: FakeKafka, kept: int, is_refused: bool
) -> None:
    properties: dict[str, str | int | float | bool] = {"auto.offset.reset": "latest"}
    desk = SourceBench(kafka, Settings(kafka=KafkaSettings(properties=properties)))
    desk.write(0, *[b"v"] * 100)
    desk.ledger.kept = {0: kept}
    desk.give(0)
    if is_refused:
        with pytest.raises(SourceError, match="partition 0 at 42"):
            desk.poll()
    else:
        desk.poll()
        assert desk.starts() == {0: 101}


# Offsets that do not exist


def _missed() -> float:
    return float(metrics.RECORDS_MISSED._value.get())


def test_records_that_kafka_deleted_before_they_were_read_are_counted(
    desk: SourceBench, caplog: pytest.LogCaptureFixture
) -> None:
    desk.write(0, *[b"v"] * 50)
    desk.write(1, b"other")
    desk.commit(0, 10)
    desk.commit(1, 0)
    desk.kafka.logs[_TOPIC, 0].start = 42
    before = _missed()
    desk.give(0, 1)
    desk.poll(20)
    assert min(record.offset for record in desk.records if record.partition == 0) == 42
    assert desk.values()[1] == [b"other"]
    assert _missed() - before == 32
    assert "Kafka deleted records before they were read" in caplog.text


def test_records_that_are_deleted_while_a_partition_is_read_are_counted(
    desk: SourceBench,
) -> None:
    desk.commit(0, 0)
    desk.write(0, b"a", b"b")
    desk.give(0)
    desk.poll()
    window = desk.source.windows[_TOPIC, 0]
    assert len(window) == 2
    desk.source.pause()
    desk.write(0, b"c", b"d", b"e")
    desk.kafka.logs[_TOPIC, 0].start = 5
    before = _missed()
    desk.source.resume()
    desk.poll()
    assert desk.values() == {0: [b"a", b"b", b"e"]}
    assert _missed() - before == 2
    for record in desk.records:
        record.resolve(DeadLetter(DeadReason.UNDECODABLE, ""), 0.0)
    # What is committed passes what is missing.
    assert window.position_after(len(window.done_prefix(9))) == 6


def test_a_partition_that_lost_what_was_read_stops_the_worker(desk: SourceBench) -> None:
    desk.commit(0, 10)
    desk.write(0, b"a")
    desk.give(0)
    with pytest.raises(SourceError, match="it ends at 2, but was read up to 10"):
        desk.poll()


def test_where_records_begin_is_asked_again(desk: SourceBench) -> None:
    desk.write(0, *[b"v"] * 3)
    desk.commit(0, 1)
    desk.kafka.logs[_TOPIC, 0].start = 2
    desk.consumer.fail("get_watermark_offsets", KafkaError(KafkaError._TIMED_OUT))
    desk.give(0)
    desk.poll(20)
    assert [record.offset for record in desk.records] == [2]


# Partitions that go


def test_revoked_windows_are_finished_and_dropped(
    desk: SourceBench,
) -> None:
    for number in range(3):
        desk.commit(number, 0)
        desk.write(number, b"a", b"b")
    desk.give(0, 1, 2)
    desk.poll()
    in_flight = desk.source.windows[_TOPIC, 1]
    assert len(in_flight) == 2
    desk.take(1)
    desk.poll(1)
    assert desk.revoked == [{(_TOPIC, 1): in_flight}]
    assert desk.read == {0, 2}
    assert desk.starts().keys() == {0, 2}
    assert desk.source.held == 4
    # The others go on.
    desk.write(0, b"c")
    desk.write(1, b"c")
    desk.poll()
    assert desk.values() == {0: [b"a", b"b", b"c"], 1: [b"a", b"b"], 2: [b"a", b"b"]}


def test_a_reassigned_partition_starts_at_its_new_offset(
    desk: SourceBench,
) -> None:
    desk.commit(0, 0)
    desk.write(0, b"a", b"b", b"c")
    desk.give(0)
    desk.poll()
    before = desk.source.windows[_TOPIC, 0]
    desk.take(0)
    desk.poll()
    desk.commit(0, 2)
    desk.records.clear()
    desk.give(0)
    desk.poll()
    assert desk.source.windows[_TOPIC, 0] is not before
    assert desk.values() == {0: [b"c"]}


@pytest.mark.parametrize("state", ["arrived", "asked about", "windowed"])
def test_unread_partitions_can_be_revoked(desk: SourceBench, state: str) -> None:
    """None of which is read, so that the client knows nothing of it."""
    if state == "arrived":
        desk.kafka.errors = {(_TOPIC, 0): _UNSTABLE}
    desk.ledger.is_away = state == "asked about"
    desk.give(0, 1)
    desk.poll(marks=False)
    desk.take(0)
    desk.poll(marks=False)
    assert (_TOPIC, 0) not in desk.source.windows
    desk.kafka.errors = {}
    desk.ledger.is_away = False
    desk.ledger.answer()
    desk.poll()
    assert desk.read == {1}
    desk.give(0)
    desk.poll()
    assert desk.read == {0, 1}


def test_lost_partitions_are_dropped_unfinished(desk: SourceBench) -> None:
    for number in range(2):
        desk.commit(number, 0)
        desk.write(number, b"a", b"b")
    desk.give(0, 1)
    desk.poll()
    desk.group.expel(desk.consumer)
    desk.commit(0, 1)  # by whoever has it meanwhile
    desk.poll(1)
    assert desk.revoked == []
    assert desk.source.windows == {}
    assert desk.read == set()
    assert desk.source.joined  # again
    desk.records.clear()
    desk.give(0)
    desk.poll()
    assert desk.values() == {0: [b"b"]}


def test_the_lag_of_assigned_partitions_is_measured(desk: SourceBench) -> None:
    desk.commit(0, 0)
    desk.write(0, b"a", b"b")
    desk.give(0)
    desk.poll()
    desk.source.measure()
    assert metrics.LAG.labels(_TOPIC, 0)._value.get() == 3  # with a marker
    desk.source.windows[_TOPIC, 0].committed(2, 2)
    desk.source.measure()
    assert metrics.LAG.labels(_TOPIC, 0)._value.get() == 0
    desk.consumer.fail("get_watermark_offsets", KafkaError(KafkaError._TRANSPORT))
    desk.source.measure()
    desk.take(0)
    desk.poll()
    assert (_TOPIC, "0") not in metrics.LAG._metrics


def test_closing_revokes_everything(desk: SourceBench) -> None:
    desk.commit(0, 0)
    desk.write(0, b"a")
    desk.give(0)
    desk.poll()
    window = desk.source.windows[_TOPIC, 0]
    desk.source.close()
    assert desk.revoked == [{(_TOPIC, 0): window}]
    assert desk.group.members == {}
    assert desk.source.windows == {}


def test_closing_leaves_the_partitions_to_others_at_once(
    desk: SourceBench, kafka: FakeKafka
) -> None:
    desk.give(0)
    desk.poll()
    started = kafka.clock.now
    desk.source.close()
    assert desk.consumer.memberid() is None
    assert kafka.clock.now - started < 1


# Records


def test_records_are_admitted_once_with_their_original_offset(desk: SourceBench) -> None:
    desk.commit(0, 0)
    first = RecordId(_TOPIC, 3, 77)
    elsewhere = RecordId("another", 3, 77)
    kinds: list[Headers] = [[], source_headers(first), source_headers(elsewhere), [("own", b"1")]]
    desk.kafka.write(((_TOPIC, 0), b"v", b"key", headers) for headers in kinds)
    desk.give(0)
    desk.poll()
    here = [RecordId(_TOPIC, 0, offset) for offset in range(4)]
    assert [record.record_id for record in desk.records] == [here[0], first, here[2], here[3]]
    assert [(record.partition, record.offset) for record in desk.records] == [
        (0, offset) for offset in range(4)
    ]
    assert desk.records[3].headers == [("own", b"1")]
    assert desk.source.held == 4
    assert desk.source.held_bytes > 0
    again = Message(_TOPIC, 0, 1, b"key", b"v")
    late = Message(_TOPIC, 5, 1, b"key", b"v")  # of a partition that is not this one's
    desk.consumer.give(again, late)
    assert desk.source.poll(10, 0.1) == []


def test_unreadable_headers_make_a_dead_letter(desk: SourceBench) -> None:
    class Unreadable(Message):
        def headers(self) -> None:
            raise SystemError("returned a result with an exception set")

    desk.commit(0, 0)
    desk.give(0)
    desk.poll()
    desk.consumer.give(Unreadable(_TOPIC, 0, 0, b"key", b"v"))
    assert desk.source.poll(10, 0.1) == []
    (record,) = desk.source.windows[_TOPIC, 0].done_prefix(9)
    assert isinstance(record.resolution, DeadLetter)
    assert record.resolution.reason == "undecodable"


def test_trailing_markers_are_passed(desk: SourceBench) -> None:
    desk.commit(0, 0)
    desk.write(0, b"a")
    desk.give(0, 1)
    desk.poll(marks=False)
    window = desk.source.windows[_TOPIC, 0]
    assert window.position_after(1) == 1
    desk.source.pass_markers()
    assert window.position_after(1) == 2
    assert desk.source.windows[_TOPIC, 1].position == 0


def test_a_pause_includes_new_partitions(desk: SourceBench) -> None:
    for number in range(2):
        desk.commit(number, 0)
        desk.write(number, b"a")
    desk.give(0)
    desk.poll()
    desk.source.pause()
    desk.source.pause()
    desk.write(0, b"b")
    desk.give(1)
    desk.poll()
    assert desk.read == {0, 1}
    assert desk.values() == {0: [b"a"]}
    desk.source.resume()
    desk.source.resume()
    desk.poll()
    assert desk.values() == {0: [b"a", b"b"], 1: [b"a"]}


def test_a_pause_does_not_outlive_an_assignment(desk: SourceBench) -> None:
    """In the client library it does."""
    desk.commit(0, 0)
    desk.write(0, b"a")
    desk.give(0)
    desk.poll()
    desk.source.pause()
    desk.take(0)
    desk.poll()
    desk.source.resume()
    desk.give(0)
    desk.records.clear()
    desk.poll()
    assert desk.values() == {0: [b"a"]}


@pytest.mark.parametrize(
    "code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.GROUP_AUTHORIZATION_FAILED]
)
def test_permanent_errors_end_the_worker(desk: SourceBench, code: int) -> None:
    desk.consumer.give(Message(error=KafkaError(code)))
    with pytest.raises(SourceError, match=f"cannot read {_TOPIC}"):
        desk.poll()


def test_temporary_errors_are_logged(desk: SourceBench, caplog: pytest.LogCaptureFixture) -> None:
    desk.consumer.give(Message(error=KafkaError(KafkaError._TRANSPORT, "gone")))
    desk.poll(1)
    assert "Kafka reports an error" in caplog.text


# What a worker asks when it starts


def test_epochs_of_all_partitions_are_read(desk: SourceBench) -> None:
    desk.commit(0, 5, "e")
    desk.commit(7, 0, "other")
    desk.commit(3, 0, "")
    assert desk.source.committed_metadata() == {_KNOWN, _KNOWN._replace(epoch="other")}


@pytest.mark.parametrize(
    ("request_", "answers", "seconds"),
    [
        (KafkaApi.FETCH_OFFSETS, [Silence.UNHEARD], 25),
        (KafkaApi.FETCH_OFFSETS, [KafkaError.GROUP_AUTHORIZATION_FAILED], 25),
        (KafkaApi.METADATA, [Silence.UNHEARD], 12),
    ],
)
def test_startup_questions_are_retried_for_a_while(
    desk: SourceBench, request_: KafkaApi, answers: list[Answer], seconds: float
) -> None:
    desk.commit(0, 5, "e")
    desk.kafka.answer(request_, *answers * 2)
    assert desk.source.committed_metadata() == {_KNOWN}
    before = desk.kafka.clock.now
    desk.kafka.answer(request_, *answers * 1_000)
    with pytest.raises(SourceError, match="cannot re"):
        desk.source.committed_metadata()
    assert seconds <= desk.kafka.clock.now - before < seconds + 10


def test_a_missing_topic_is_an_error(kafka: FakeKafka) -> None:
    source = RecordSource(_SETTINGS)
    assert source.partitions_of(_TOPIC) == 8
    assert source.topic_id() == f"id of {_TOPIC}"
    with pytest.raises(SourceError, match="create it with: streamer topics create"):
        source.partitions_of("nothing")
    del kafka.topic_ids[_TOPIC]
    with pytest.raises(SourceError, match="cannot describe topic"):
        source.topic_id()


# The reach of a commit


def _waits(desk: SourceBench) -> bool:
    return desk.source.is_ahead


def test_nothing_is_read_beyond_the_committed_reach(desk: SourceBench) -> None:
    desk.write(0, *[b"0", b"1", b"2", b"3", b"4"])
    desk.write(1, b"other")
    desk.commit(0, 0, reach=2)
    desk.commit(1, 0)
    desk.give(0, 1)
    desk.poll(marks=False)
    assert desk.values() == {0: [b"0", b"1"], 1: [b"other"]}
    assert _waits(desk)
    window = desk.source.windows[_TOPIC, 0]
    assert window.is_behind
    assert window.position == 0
    desk.source.pass_markers()  # the client is beyond the records that wait
    window.committed(0, 0, 4)
    assert not _waits(desk)
    desk.poll(marks=False)
    assert desk.values()[0] == [b"0", b"1", b"2", b"3"]
    window.committed(0, 0, window.next_reach)
    desk.poll(marks=False)
    assert desk.values()[0] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_reach_gets_beyond_any_gap(desk: SourceBench) -> None:
    desk.write(0, *[b"deleted"] * 500, b"a")
    desk.kafka.logs[_TOPIC, 0].start = 500
    desk.commit(0, 0, reach=5)
    desk.give(0)
    desk.poll()
    assert desk.values() == {0: [b"a"]}


def test_an_offset_of_an_earlier_version_is_committed_again_first(desk: SourceBench) -> None:
    desk.write(0, b"a")
    place = (_TOPIC, 0)
    desk.group.offsets[place] = TopicPartition(*place, 0, "e")
    desk.give(0)
    windows = desk.poll(marks=False)
    assert desk.ledger.asked == [{OffsetMetadata("e")}]
    assert desk.values() == {}
    assert windows[place].is_behind
    desk.poll()
    assert desk.values() == {0: [b"a"]}


def test_records_that_wait_for_a_reach_go_with_their_partition(desk: SourceBench) -> None:
    desk.write(0, b"0", b"1")
    desk.commit(0, 0, reach=1)
    desk.give(0)
    desk.poll(marks=False)
    assert _waits(desk)
    desk.take(0)
    desk.poll()
    assert not _waits(desk)
    desk.commit(0, 1)
    desk.give(0)
    desk.poll()
    assert desk.values() == {0: [b"0", b"1"]}
