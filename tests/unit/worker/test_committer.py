"""Each end that a commit can have: what is written, what is kept, and what is tried next."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streamer import metrics
from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka import repeating, transactions
from streamer.kafka.transactions import is_fenced
from streamer.model.event import parse
from streamer.model.parking import Scope
from streamer.model.pulse import OffsetMetadata
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import DeadLetter, Outcome, Parked, Record, RecordId, Resolution
from streamer.model.wire import SOURCE_OFFSET, SOURCE_PARTITION
from streamer.settings import Settings
from streamer.worker import committer as committer_module
from streamer.worker.committer import BreakerError, Committer, fencing_producer
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.fakes.kafka.cluster import Answer
from tests.kit.fakes.kafka.consumer import FakeConsumer
from tests.kit.fakes.kafka.log import Stored

_SETTINGS = Settings()
_TOPICS = _SETTINGS.topics
_ENDS = (_TOPICS.outcomes, _TOPICS.dead_letters, _TOPICS.parked)
_EVENT = parse(b'{"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"}')
_SENT = Outcome.of(Reason.DUPLICATE)
_DEAD = DeadLetter(DeadReason.UNDECODABLE, "not JSON")
_PARKED = Parked(Scope.of_campaign("o", "c"))
_ENDINGS: tuple[Resolution, ...] = (_SENT, _DEAD, _PARKED)
_WRITTEN = ["begin", "?", "offsets", "commit"]


class CommitterBench:
    """A committer whose worker is the only member of the group, and windows that tests fill."""

    def __init__(self, kafka: FakeKafka, dead_share: float = 1.0) -> None:
        self.kafka = kafka
        for topic in (*_ENDS, _TOPICS.progress):
            kafka.create(topic, 4)
        kafka.create(_TOPICS.recipients, 6)
        self.group = kafka.group(_SETTINGS.kafka.group_id)
        self.member = FakeConsumer(kafka, {"group.id": self.group.name})
        self.group.join(self.member)
        self.checkpoints: list[str] = []
        self.on_checkpoint: Callable[[], None] = lambda: None
        self.breaker = DeadLetterBreaker(10, dead_share)
        self.pulse = 0
        self.committer = self.start()
        self.windows: dict[Partition, PartitionWindow] = {}

    def start(self) -> Committer:
        """Another worker with the same id, which fences the one before."""
        made = Committer(
            fencing_producer(_SETTINGS),
            _TOPICS,
            self.member.consumer_group_metadata,
            "e",
            lambda: self.pulse,
            4,
            self.breaker,
            self._checkpoint,
        )
        self.kafka.calls.clear()
        return made

    def _checkpoint(self, name: str) -> None:
        self.checkpoints.append(name)
        self.on_checkpoint()

    def window(self, number: int = 0, *, is_marked: bool = True) -> PartitionWindow:
        """The window of a partition of the input."""
        key = (_TOPICS.recipients, number)
        return self.windows.setdefault(key, PartitionWindow(0, is_marked=is_marked))

    def admit(
        self,
        *endings: Resolution | None,
        partition: int = 0,
        value: bytes = b"?",
        email: str = "e",
    ) -> list[Record]:
        """Add a record for each ending; None is not decided yet."""
        window = self.window(partition)
        records = []
        for ending in endings:
            record_id = RecordId(_TOPICS.recipients, partition, window.position_after(len(window)))
            record = Record(record_id, b"key", value, None, 0.0)
            if not isinstance(ending, DeadLetter):
                record.attach_event(_EVENT)
                record.email = email
            assert window.admit(record)
            if ending is not None:
                record.resolve(ending, 1.0)
            records.append(record)
        return records

    def commit(self) -> bool:
        return self.committer.commit(self.windows)

    def commit_all(self) -> None:
        """Commit until nothing is left."""
        for _ in range(100):
            if self.commit() and not any(map(len, self.windows.values())):
                return
        raise AssertionError(f"never committed: {self.windows}")

    @property
    def left(self) -> int:
        """How many records are not committed."""
        return sum(map(len, self.windows.values()))

    def offset(self, partition: int = 0) -> tuple[int, str] | None:
        """What is committed of a partition of the input: the offset, and the epoch."""
        found = self.group.offsets.get((_TOPICS.recipients, partition))
        return None if found is None else (found.offset, self.metadata(partition).epoch)

    def metadata(self, partition: int = 0) -> OffsetMetadata:
        """What the metadata of the partition's offset says."""
        return OffsetMetadata.parse(self.group.offsets[_TOPICS.recipients, partition].metadata)

    def endings(self) -> Counter[tuple[int, int]]:
        """The records that ended, by their partition and offset in the input."""
        return Counter(record.record_id[1:] for record in self.ended())

    def topics_of(self) -> dict[int, str]:
        """Where each record of partition 0 ended."""
        return {e.record_id.offset: e.topic for e in self.ended() if not e.record_id.partition}

    def ended(self) -> Iterator["_Ended"]:
        for topic in _ENDS:
            for (_, partition), records in self.kafka.committed(topic).items():
                for stored in records.values():
                    yield _Ended(topic, partition, stored)


class _Ended:
    """A committed ending."""

    def __init__(self, topic: str, partition: int, stored: Stored) -> None:
        self.topic, self.partition, self.stored = topic, partition, stored
        if topic == _TOPICS.outcomes:
            source = orjson.loads(stored.value or b"")["source"]
            self.record_id = RecordId(source["topic"], source["partition"], source["offset"])
        else:
            headers = dict(stored.headers)
            self.record_id = RecordId(
                _TOPICS.recipients,
                int(headers[SOURCE_PARTITION] or b""),
                int(headers[SOURCE_OFFSET] or b""),
            )


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    made = FakeKafka({})
    made.install(monkeypatch, transactions, repeating, committer_module)
    return made


@pytest.fixture
def desk(kafka: FakeKafka) -> CommitterBench:
    return CommitterBench(kafka)


# What is written


def test_each_offset_says_what_the_ledger_must_have(desk: CommitterBench) -> None:
    desk.pulse = 41
    desk.admit(_SENT, None, _SENT)
    desk.admit(_SENT, partition=5)
    assert desk.commit()
    assert desk.metadata(0) == OffsetMetadata("e", 41, 3 + 50)
    assert desk.metadata(5) == OffsetMetadata("e", 41, 1 + 50)
    assert desk.windows[_TOPICS.recipients, 0].may_admit(52)
    assert not desk.windows[_TOPICS.recipients, 0].may_admit(53)


def test_a_pulse_is_committed_once_though_nothing_is_resolved(desk: CommitterBench) -> None:
    desk.admit(None)
    desk.admit(None, partition=5)
    desk.pulse = 7
    assert desk.commit()
    assert desk.commit()
    assert desk.kafka.calls == ["begin", "offsets", "commit"]
    assert (desk.offset(0), desk.metadata(0).pulse) == ((0, "e"), 7)
    desk.kafka.answer(KafkaApi.END_TRANSACTION, KafkaError.COORDINATOR_NOT_AVAILABLE)
    desk.pulse = 8
    while not desk.commit():
        pass
    assert desk.metadata(0).pulse == 8


def test_a_reach_is_committed_before_it_is_reached(desk: CommitterBench) -> None:
    window = desk.window()
    desk.pulse = 1
    assert desk.commit()
    assert desk.metadata().reach == 50
    desk.admit(*[None] * 24)
    assert not window.is_behind
    desk.admit(*[None] * 76)
    assert desk.commit()
    # The more are admitted between commits, the further.
    assert (desk.offset(), desk.metadata().reach) == ((0, "e"), 300)


def test_a_reach_never_shrinks(desk: CommitterBench) -> None:
    """An earlier owner, with fewer partitions, may have admitted all that was within it."""
    key = (_TOPICS.recipients, 0)
    desk.windows[key] = PartitionWindow(0, is_marked=True, reach=9_000)
    desk.admit(_SENT)
    assert desk.commit()
    assert desk.metadata().reach == 9_000


def test_results_and_offsets_share_a_transaction(desk: CommitterBench) -> None:
    desk.admit(_SENT, _DEAD, _PARKED)
    desk.admit(_PARKED, partition=5)
    assert desk.commit()
    assert desk.kafka.calls.count("begin") == desk.kafka.calls.count("commit") == 1
    assert desk.topics_of() == {0: _TOPICS.outcomes, 1: _TOPICS.dead_letters, 2: _TOPICS.parked}
    assert desk.endings() == {(0, 0): 1, (0, 1): 1, (0, 2): 1, (5, 0): 1}
    assert (desk.offset(0), desk.offset(5)) == ((3, "e"), (1, "e"))
    assert desk.left == 0
    assert desk.checkpoints == ["before_transaction", "inside_transaction"]
    # A partition's records stay in order: they are parked in one partition.
    parked = {e.record_id.partition: e.partition for e in desk.ended() if e.topic == _TOPICS.parked}
    assert parked == {0: 0, 5: 1}
    assert {e.stored.key for e in desk.ended()} == {b"key"}


def test_no_commit_passes_an_undecided_record(desk: CommitterBench) -> None:
    _, undone, _ = desk.admit(_SENT, None, _SENT)
    assert desk.commit()
    assert desk.commit()
    assert (desk.endings(), desk.offset()) == ({(0, 0): 1}, (1, "e"))
    undone.resolve(_SENT, 1.0)
    assert desk.commit()
    assert (desk.endings().total(), desk.offset()) == (3, (3, "e"))


def test_a_running_commit_is_visible(desk: CommitterBench) -> None:
    busy: list[bool] = []
    desk.on_checkpoint = lambda: busy.append(desk.committer.busy)
    desk.admit(_SENT)
    desk.commit()
    assert busy == [True, True]
    assert not desk.committer.busy


def test_no_transaction_without_work(desk: CommitterBench) -> None:
    desk.admit(None)
    assert desk.commit()
    assert desk.committer.commit({})
    assert desk.kafka.calls == []


def test_offsets_are_committed_without_records(desk: CommitterBench) -> None:
    """The ledger's epoch comes first; and markers behind the last record are passed."""
    window = desk.window(is_marked=False)
    assert desk.commit()
    assert window.is_marked
    assert desk.offset() == (0, "e")
    window.pass_to(7)
    assert desk.commit()
    assert desk.offset() == (7, "e")
    assert desk.commit()
    assert desk.kafka.calls == ["begin", "offsets", "commit"] * 2
    assert desk.checkpoints == []


def test_a_transaction_is_limited_in_records(
    desk: CommitterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer_module, "_MAX_RECORDS", 5)
    desk.admit(*[_SENT] * 4)
    desk.admit(*[_SENT] * 4, partition=1)
    left = []
    for _ in range(2):
        assert desk.commit()
        left.append([len(window) for window in desk.windows.values()])
    assert left == [[0, 3], [0, 0]]


def test_a_transaction_is_limited_in_bytes(desk: CommitterBench) -> None:
    """Of all windows together: the client would hold them twice, and the broker's limit on the
    time of a transaction is short."""
    large = bytes(1_000_000)
    desk.admit(*[_DEAD] * 3, value=large)
    desk.admit(*[_DEAD] * 3, partition=1, value=large)
    desk.admit(_DEAD, partition=1)
    left = []
    for _ in range(2):
        assert desk.commit()
        left.append([len(window) for window in desk.windows.values()])
    # A record counts with what it takes in memory, about twice its value: four fill a transaction.
    assert left == [[0, 3], [0, 0]]


def test_results_are_counted_when_committed(desk: CommitterBench) -> None:
    counter = metrics.DEAD_LETTERS.labels(DeadReason.UNDECODABLE)
    before = counter._value.get()
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    assert not desk.commit()
    assert counter._value.get() == before
    assert desk.commit()
    assert counter._value.get() == before + 1


# The group


def test_no_transaction_begins_outside_the_group(desk: CommitterBench) -> None:
    """A broker would take offsets of a negative generation from anybody."""
    desk.admit(_DEAD)
    desk.group.leave(desk.member)
    assert not desk.commit()
    assert desk.kafka.calls == []
    desk.group.join(desk.member)
    assert desk.commit()


def test_a_stale_generation_commits_nothing(
    desk: CommitterBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.admit(_DEAD)
    stale = desk.member.consumer_group_metadata()
    desk.group.join(FakeConsumer(desk.kafka, {"group.id": desk.group.name}))
    monkeypatch.setattr(desk.committer, "_group_metadata", lambda: stale)
    assert not desk.commit()
    assert not desk.commit()
    assert desk.kafka.calls == ["begin", "?", "offsets", "abort", "begin", "?", "offsets"]
    monkeypatch.undo()
    assert desk.commit()
    assert desk.endings() == {(0, 0): 1}


def test_an_expelled_member_commits_nothing(desk: CommitterBench) -> None:
    desk.admit(_DEAD)
    desk.group.expel(desk.member)  # of which it does not know
    assert not desk.commit()
    assert desk.kafka.calls == ["begin", "?", "offsets"]
    assert (desk.endings(), desk.left) == ({}, 1)


# Ends that are known


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (KafkaApi.PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        (KafkaApi.ADD_OFFSETS, Silence.UNHEARD),
        (KafkaApi.ADD_OFFSETS, Silence.UNANSWERED),
        (KafkaApi.ADD_OFFSETS, KafkaError.INVALID_PRODUCER_ID_MAPPING),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.UNKNOWN_MEMBER_ID),
        (KafkaApi.COMMIT_OFFSETS, Silence.UNANSWERED),
        (KafkaApi.END_TRANSACTION, KafkaError.UNKNOWN_PRODUCER_ID),
    ],
)
def test_failed_transactions_are_aborted_and_written_again(
    desk: CommitterBench, request_: KafkaApi, answer: Answer
) -> None:
    desk.admit(_SENT, _DEAD, _PARKED)
    desk.kafka.answer(request_, answer)
    assert not desk.commit()
    assert (desk.left, desk.offset(), desk.endings()) == (3, None, {})
    desk.commit_all()
    assert desk.endings() == {(0, 0): 1, (0, 1): 1, (0, 2): 1}
    assert desk.offset() == (3, "e")


def test_a_full_client_queue_is_awaited(desk: CommitterBench) -> None:
    desk.admit(_DEAD)
    desk.kafka.producers[-1].fail("produce", BufferError("Local: Queue full"))
    assert not desk.commit()
    assert desk.commit()
    assert desk.kafka.calls == ["begin", "?", "abort", *_WRITTEN]


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_abort_is_repeated_first(desk: CommitterBench, silence: Silence) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    desk.kafka.answer(KafkaApi.END_TRANSACTION, silence)
    assert [desk.commit() for _ in range(3)] == [False, False, True]
    assert desk.kafka.calls == ["begin", "?", "offsets", "abort", "abort", *_WRITTEN]
    assert desk.endings() == {(0, 0): 1}


def test_an_endless_abort_lets_the_worker_poll_until_it_is_fenced(
    desk: CommitterBench,
) -> None:
    """The worker polls between; and a broker that hears of it again has ended the transaction."""
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    assert not desk.commit()
    desk.kafka.answer(KafkaApi.END_TRANSACTION, *[Silence.UNHEARD] * 16)
    clock = desk.kafka.clock
    for _ in range(16):
        before = clock.now
        assert not desk.commit()
        assert clock.now - before == pytest.approx(1.0)
        clock.sleep(0.2)
    with pytest.raises(KafkaException) as caught:
        desk.commit()
    assert is_fenced(caught.value.args[0])
    assert desk.left == 1


def test_an_open_transaction_is_aborted_without_new_work(
    desk: CommitterBench,
) -> None:
    """The next owner of the partitions waits for its end."""
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    assert not desk.commit()
    desk.group.leave(desk.member)
    assert not desk.commit()
    assert desk.kafka.calls == ["begin", "?", "offsets", "abort"]
    assert not desk.kafka.is_unstable(desk.group.name, (_TOPICS.recipients, 0))


@pytest.mark.parametrize("silence", [None, *Silence])
def test_closing_aborts_an_open_transaction(desk: CommitterBench, silence: Silence | None) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
    assert not desk.commit()
    if silence is not None:
        desk.kafka.answer(KafkaApi.END_TRANSACTION, silence)
    desk.committer.close()
    assert desk.kafka.calls[-1] == "abort"


def test_closing_aborts_no_unknown_commit(desk: CommitterBench) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.END_TRANSACTION, Silence.UNANSWERED)
    assert not desk.commit()
    desk.committer.close()
    assert "abort" not in desk.kafka.calls


# Ends that are not known


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_commit_is_repeated_first(desk: CommitterBench, silence: Silence) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.END_TRANSACTION, silence)
    assert not desk.commit()
    assert desk.left == 1
    desk.admit(_DEAD)
    desk.group.leave(desk.member)  # also where no other could be begun
    assert desk.commit()
    assert desk.kafka.calls == [*_WRITTEN, "commit"]
    assert (desk.endings(), desk.left, desk.offset()) == ({(0, 0): 1}, 1, (1, "e"))
    desk.group.join(desk.member)
    assert desk.commit()
    assert desk.endings() == {(0, 0): 1, (0, 1): 1}


def test_an_unknown_commit_outlives_its_windows(
    desk: CommitterBench,
) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.END_TRANSACTION, Silence.UNHEARD)
    assert not desk.commit()
    desk.windows.clear()
    assert desk.commit()
    assert desk.endings() == {(0, 0): 1}
    assert desk.kafka.calls == [*_WRITTEN, "commit"]


def test_a_commit_that_failed_after_all_is_written_again(desk: CommitterBench) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(KafkaApi.END_TRANSACTION, Silence.UNHEARD, KafkaError.UNKNOWN_PRODUCER_ID)
    assert [desk.commit() for _ in range(3)] == [False, False, True]
    assert desk.kafka.calls == [*_WRITTEN, "commit", "abort", *_WRITTEN]
    assert desk.endings() == {(0, 0): 1}


# Ends of the producer


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (KafkaApi.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH),
        (KafkaApi.ADD_OFFSETS, KafkaError.INVALID_TXN_STATE),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.INVALID_PRODUCER_EPOCH),
        (KafkaApi.END_TRANSACTION, KafkaError.PRODUCER_FENCED),
        (KafkaApi.END_TRANSACTION, KafkaError.INVALID_TXN_STATE),
    ],
)
def test_a_lost_producer_ends_the_worker(
    desk: CommitterBench, request_: KafkaApi, code: int
) -> None:
    desk.admit(_DEAD)
    desk.kafka.answer(request_, code)
    with pytest.raises(KafkaException):
        desk.commit()
    assert not desk.committer.busy
    assert desk.left == 1
    desk.committer.close()
    assert "abort" not in desk.kafka.calls


@pytest.mark.parametrize("is_done", [True, False])
def test_a_successor_continues_after_the_last_commit(desk: CommitterBench, is_done: bool) -> None:
    desk.admit(_SENT, _SENT)
    if is_done:
        assert desk.commit()
    else:
        desk.kafka.answer(KafkaApi.END_TRANSACTION, Silence.UNHEARD)
        assert not desk.commit()
    old = desk.committer
    desk.committer = desk.start()
    desk.admit(_SENT)
    with pytest.raises(KafkaException):
        old.commit(desk.windows)
    known = desk.offset()
    assert known == ((2, "e") if is_done else None)
    desk.commit_all()
    assert desk.endings() == {(0, 0): 1, (0, 1): 1, (0, 2): 1}


# Too many dead letters


def test_the_breaker_stops_before_a_commit(kafka: FakeKafka) -> None:
    desk = CommitterBench(kafka, dead_share=0.5)
    desk.admit(*[_SENT] * 5, *[_DEAD] * 5)
    assert desk.commit()
    kafka.calls.clear()
    desk.admit(_SENT, _DEAD, _DEAD)
    with pytest.raises(BreakerError, match=r"the last one is campaign.recipients/0/12: not JSON"):
        desk.commit()
    assert kafka.calls == []
    assert (desk.left, desk.offset()) == (3, (10, "e"))


# Records that Kafka refuses


def test_a_rejected_record_blocks_only_later_ones(desk: CommitterBench) -> None:
    desk.kafka.limits[_TOPICS.dead_letters] = 500
    desk.admit(_SENT, _DEAD)
    desk.admit(_DEAD, value=bytes(1_000))
    desk.admit(_SENT)
    desk.admit(_SENT, _SENT, partition=1)
    assert not desk.commit()
    assert not desk.committer.in_haste
    progress = []
    while desk.left:
        desk.commit()
        progress.append((len(desk.window(0)), len(desk.window(1))))
    # What stands before it, and other partitions, go on; what stands behind it waits for it.
    assert (3, 0) in progress
    assert desk.endings() == {(0, n): 1 for n in range(4)} | {(1, 0): 1, (1, 1): 1}
    assert desk.topics_of()[2] == _TOPICS.dead_letters
    assert desk.committer.commit(desk.windows)
    assert not desk.committer.in_haste


def test_a_rejected_record_goes_alone_and_soon(desk: CommitterBench) -> None:
    desk.kafka.limits[_TOPICS.dead_letters] = 500
    desk.admit(_DEAD, value=bytes(1_000))
    desk.admit(_SENT)
    assert not desk.commit()
    assert desk.window().done_prefix(1)[0].refusals == 1
    desk.commit()
    assert desk.committer.in_haste


@pytest.mark.parametrize(
    ("ending", "value", "email", "limit", "topic"),
    [
        (_DEAD, 5_000, "e", 3_000, _TOPICS.dead_letters),
        (_DEAD, 10_000_001, "e", 3_000, _TOPICS.dead_letters),  # by the client itself
        (_PARKED, 5_000, "e", 3_000, _TOPICS.outcomes),
        (_SENT._replace(detail="d" * 5_000), 10, "e", 1_000, _TOPICS.outcomes),
        (_SENT, 10, "@" * 5_000, 3_000, _TOPICS.outcomes),
    ],
)
def test_a_record_rejected_alone_is_reduced(
    desk: CommitterBench, ending: Resolution, value: int, email: str, limit: int, topic: str
) -> None:
    for name in _ENDS:
        desk.kafka.limits[name] = limit
    desk.admit(ending, value=bytes(value), email=email)
    before = _refused_total()
    desk.commit_all()
    assert desk.topics_of() == {0: topic}
    assert desk.offset() == (1, "e")
    assert _refused_total() > before


def test_records_rejected_together_are_not_reduced(desk: CommitterBench) -> None:
    """It may be the others' fault: a broker refuses all that comes together."""
    desk.kafka.limits[_TOPICS.dead_letters] = 700
    desk.admit(*[_DEAD] * 10, value=bytes(300))  # each alone is small enough
    desk.commit_all()
    assert desk.endings() == {(0, n): 1 for n in range(10)}
    assert {len(e.stored.value or b"") for e in desk.ended()} == {300}


def test_a_rejected_smallest_result_is_reported_and_retried(
    desk: CommitterBench, caplog: pytest.LogCaptureFixture
) -> None:
    desk.kafka.limits[_TOPICS.dead_letters] = 1
    desk.admit(_DEAD, value=bytes(1_000))
    desk.admit(_SENT, partition=1)
    with caplog.at_level(logging.ERROR):
        for _ in range(30):
            desk.commit()
    assert "check the topics" in caplog.text
    assert desk.endings() == {(1, 0): 1}
    desk.kafka.limits.clear()
    desk.commit_all()
    assert desk.endings() == {(0, 0): 1, (1, 0): 1}


def _refused_total() -> float:
    kinds = ("outcome", "dead_letter", "parked")
    return sum(float(metrics.REFUSED.labels(kind)._value.get()) for kind in kinds)


# Whatever happens

_FAULTS = st.tuples(
    st.sampled_from(
        [
            KafkaApi.PRODUCE,
            KafkaApi.ADD_OFFSETS,
            KafkaApi.COMMIT_OFFSETS,
            KafkaApi.END_TRANSACTION,
            KafkaApi.END_TRANSACTION,
        ]
    ),
    st.sampled_from(
        [
            *Silence,
            KafkaError.NOT_COORDINATOR,
            KafkaError.ILLEGAL_GENERATION,
            KafkaError.MSG_SIZE_TOO_LARGE,
            KafkaError.UNKNOWN_PRODUCER_ID,
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.INVALID_TXN_STATE,
        ]
    ),
)
_RECORDS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(_ENDINGS), st.sampled_from([10, 1_000])),
    max_size=4,
)


@given(st.lists(st.one_of(_FAULTS, _RECORDS, st.just("restart")), max_size=25), st.booleans())
def test_any_faults_commit_each_record_once(
    steps: list[tuple[KafkaApi, Answer] | list[tuple[int, Resolution, int]] | str], is_small: bool
) -> None:
    """Whatever brokers answer, whatever they refuse, and however often the worker is killed."""
    kafka = FakeKafka({})
    with pytest.MonkeyPatch.context() as patch:
        kafka.install(patch, transactions, repeating, committer_module)
        patch.setattr(committer_module.logger, "disabled", True)
        desk = CommitterBench(kafka)
        if is_small:
            kafka.limits = {_TOPICS.dead_letters: 700, _TOPICS.parked: 700}
        inputs: dict[int, list[tuple[Resolution, int]]] = {0: [], 1: []}

        def restart() -> None:
            desk.committer = desk.start()
            desk.windows.clear()
            for partition, records in inputs.items():
                known = desk.offset(partition)
                start = 0 if known is None else known[0]
                key = (_TOPICS.recipients, partition)
                desk.windows[key] = PartitionWindow(start, is_marked=known is not None)
                for ending, size in records[start:]:
                    desk.admit(ending, partition=partition, value=bytes(size))

        def commit() -> None:
            try:
                desk.commit()
            except KafkaException:
                restart()

        restart()
        for step in steps:
            if isinstance(step, str):
                restart()
            elif isinstance(step, tuple):
                kafka.answer(*step)
            else:
                for partition, ending, size in step:
                    inputs[partition].append((ending, size))
                    desk.admit(ending, partition=partition, value=bytes(size))
            commit()
            # Nobody may see more than the offsets say, nor less.
            for partition in inputs:
                known = desk.offset(partition)
                ended = sorted(n for p, n in desk.endings() if p == partition)
                assert ended == [*range(0 if known is None else known[0])]
        for _ in range(200):
            if not desk.left:
                break
            commit()
        everything = {(p, n): 1 for p, records in inputs.items() for n in range(len(records))}
        assert desk.endings() == everything
