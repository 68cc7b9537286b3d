"""What the transactions write to the progress topic is what a reader of the other topics counts.

A committer and a relay work on a Kafka in memory, through aborts, rebalances, parkings and returns.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from enum import Enum, auto
from typing import cast

import orjson
import pytest
from confluent_kafka import KafkaException, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka import reading, transactions
from streamer.kafka.headers import header_list
from streamer.kafka.transactions import TransactionalProducer
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, parse
from streamer.model.parking import Scope
from streamer.model.progress import named_campaign, progress_records
from streamer.model.reasons import DeadReason, Reason, Status
from streamer.model.record import DeadLetter, Outcome, Parked, Record, RecordId, Resolution
from streamer.model.record_headers import decode_headers, source_id
from streamer.model.wire import REASON
from streamer.progress.fold import fold
from streamer.settings import Settings
from streamer.worker import relay, unmovable
from streamer.worker.committer import Committer
from streamer.worker.relay import RelaySession
from streamer.worker.scopes import ParkScopes
from streamer.worker.source import _record
from tests.unit.kafka.fake import ABORTABLE
from tests.unit.kafka.fake_kafka import Delivered, FakeKafka, FakeTransactions
from tests.unit.worker.test_committer import JOINED

TOPICS = Settings().topics
_PARTITIONS = 2
_LIMIT = 1_000
_PARKED = Parked(Scope.of_hold("default", None))


class Step(Enum):
    """What happens next, in a partition or anywhere."""

    PRODUCE = auto()
    PRODUCE_LARGE = auto()
    PRODUCE_INVALID = auto()
    READ = auto()
    SEND = auto()
    SKIP = auto()
    BURY = auto()
    PARK = auto()
    COMMIT = auto()
    ABORT = auto()
    REBALANCE = auto()
    RETURN = auto()


_RESOLUTIONS: dict[Step, Resolution] = {
    Step.SEND: Outcome(Status.SENT, email_id="e"),
    Step.SKIP: Outcome.of(Reason.SUPPRESSED),
    Step.BURY: DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, "none"),
    Step.PARK: _PARKED,
}


class _Transactions(FakeTransactions):
    def produce_batch(self, topic: str, messages: list[dict[str, object]]) -> None:
        for each in messages:
            value, key = cast(bytes, each["value"]), cast(bytes | None, each["key"])
            self.produce(topic, value, key, -1, cast(Delivered, each["callback"]), [])


class _Kafka(FakeKafka):
    def producer(self, properties: object, **client: object) -> FakeTransactions:
        return _Transactions(self)


class _Open(ParkScopes):
    def __init__(self) -> None:
        pass

    def released(self, waits: Collection[Parked]) -> set[Parked]:
        return set(waits)


class _NoRedis:
    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return {}

    def hset(self, key: str, mapping: dict[str, str]) -> None:
        pass


class Workshop:
    """A worker without senders: the test resolves its records."""

    def __init__(self) -> None:
        wide = dict.fromkeys((TOPICS.recipients, TOPICS.parked), _PARTITIONS)
        narrow = dict.fromkeys((TOPICS.outcomes, TOPICS.dead_letters, TOPICS.progress), 1)
        self.kafka = _Kafka(wide | narrow)
        self.kafka.limits[TOPICS.recipients] = _LIMIT
        self.windows: dict[Partition, PartitionWindow] = {}
        self._number = 0

    def start(self) -> None:
        self._relay = RelaySession(Settings(), cast(Client, _NoRedis()), _Open())
        self._take_over()

    def _take_over(self) -> None:
        self._committer = Committer(
            TransactionalProducer(Settings(), "me", "me"),
            TOPICS,
            lambda: JOINED,
            "epoch",
            _PARTITIONS,
            DeadLetterBreaker(1_000, 1),
            lambda name: None,
        )
        places = [(TOPICS.recipients, number) for number in range(_PARTITIONS)]
        committed = {place: self.kafka.committed.get(place) for place in places}
        self.windows = {
            place: PartitionWindow(at.offset if at else 0, is_marked=True)
            for place, at in committed.items()
        }

    def do(self, step: Step, campaign: str, partition: int) -> None:
        place = (TOPICS.recipients, partition)
        window = self.windows[place]
        if step in (Step.PRODUCE, Step.PRODUCE_LARGE, Step.PRODUCE_INVALID):
            self._produce(step, campaign, place)
        elif step is Step.READ:
            for message in self.kafka.logs[place]:
                record = _record(message, 0.0)
                if window.admit(record):
                    try:
                        record.attach_event(parse(record.value))
                    except DeadEventError as error:
                        record.resolve(DeadLetter(error.reason, str(error)), 1.0)
        elif step in _RESOLUTIONS:
            for record in [*window.unresolved()][:1]:
                record.resolve(_RESOLUTIONS[step], float(record.offset))
        elif step is Step.COMMIT:
            assert self._committer.commit(self.windows)
        elif step is Step.ABORT:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_Transactions, "send_offsets_to_transaction", _fail)
                self._committer.commit(self.windows)
        elif step is Step.REBALANCE:
            self._take_over()
        elif step is Step.RETURN:
            self._relay._look_at = 0.0
            for _ in self._relay.step():
                pass

    def _produce(self, step: Step, campaign: str, place: Partition) -> None:
        self._number += 1
        event: dict[str, object] = {
            "organization_id": "acme",
            "campaign_id": campaign,
            "recipient_id": f"r-{self._number}",
            "email": "x@example.com",
            # As large as the input takes: with the headers of its return it is too large.
            "variables": {"x": "x" * (_LIMIT - 150 if step is Step.PRODUCE_LARGE else 1)},
        }
        if step is Step.PRODUCE_INVALID:
            del event["recipient_id"]
        self.kafka.write([(place, orjson.dumps(event), b"key", [])])

    def written(self) -> dict[CampaignName, dict[str, int]]:
        """The sum of the progress records."""
        shares = fold(self.kafka.logs[TOPICS.progress, 0])
        return {name: _but_zeros(share.delta.counts) for name, share in shares.items()}

    def counted(self) -> dict[CampaignName, dict[str, int]]:
        """What the other topics say."""
        counts: defaultdict[CampaignName, Counter[str]] = defaultdict(Counter)
        ended: set[RecordId] = set()
        for message in self.kafka.logs[TOPICS.outcomes, 0]:
            read = orjson.loads(message.value() or b"")
            ended.add(RecordId(*read["source"].values()))
            reason = f":{read['reason']}" if read["reason"] else ""
            counts[_named(message)][read["status"] + reason] += 1
        for message in self.kafka.logs[TOPICS.dead_letters, 0]:
            ended.add(_source(message))
            counts[_named(message)]["dead:" + _words(message)[REASON]] += 1
        parked = {
            _source(message): _named(message)
            for number in range(_PARTITIONS)
            for message in self.kafka.logs[TOPICS.parked, number]
        }
        for source in parked.keys() - ended:
            counts[parked[source]]["parked"] += 1
        return {name: dict(each) for name, each in counts.items()}


def _fail(*_: object) -> None:
    raise KafkaException(ABORTABLE)


def _but_zeros(counts: dict[str, int]) -> dict[str, int]:
    return {word: count for word, count in counts.items() if count}


def _named(message: Message) -> CampaignName:
    name = named_campaign(message.value())
    assert name is not None
    return name


def _words(message: Message) -> dict[str, str]:
    return decode_headers(header_list(message) or [])


def _source(message: Message) -> RecordId:
    source = source_id(_words(message))
    assert source is not None
    return source


_STEPS = st.lists(
    st.tuples(
        st.sampled_from([*Step, *[Step.PRODUCE, Step.READ, Step.PARK, Step.COMMIT] * 2]),
        st.sampled_from(["spring", "autumn"]),
        st.integers(0, _PARTITIONS - 1),
    ),
    max_size=60,
)
_BACK_AND_FORTH = [Step.READ, Step.PARK, Step.COMMIT, Step.RETURN, Step.READ]


def _of_spring(*steps: Step) -> list[tuple[Step, str, int]]:
    return [(step, "spring", 0) for step in steps]


@settings(max_examples=150, deadline=None)
@example(_of_spring(Step.PRODUCE, *_BACK_AND_FORTH * 2, Step.SEND, Step.COMMIT))
@example(_of_spring(Step.PRODUCE_LARGE, *_BACK_AND_FORTH))
@example(_of_spring(Step.PRODUCE_INVALID, Step.READ, Step.ABORT, Step.COMMIT))
@given(_STEPS)
def test_the_sum_is_what_the_topics_say(steps: list[tuple[Step, str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        workshop = Workshop()
        patch.setattr(transactions, "Producer", workshop.kafka.producer)
        patch.setattr(reading, "Consumer", workshop.kafka.consumer)
        patch.setattr(relay, "AdminClient", lambda *_, **__: None)
        patch.setattr(relay, "topic_id", lambda *_: "id")
        patch.setattr(unmovable, "find", lambda *_: None)
        workshop.start()
        for step, campaign, partition in steps:
            workshop.do(step, campaign, partition)
            assert workshop.written() == workshop.counted()


def test_nothing_is_written_of_what_names_no_campaign() -> None:
    record = Record(RecordId("t", 0, 0), None, b"?", None, 0.0)
    record.resolve(DeadLetter(DeadReason.UNDECODABLE, "not JSON"), 0.0)
    assert progress_records([record]) == []


def test_one_record_a_campaign_with_the_times_of_its_outcomes() -> None:
    records = []
    for number, at in enumerate([5.0, 3.5, 9.25, 7.0]):
        record = Record(RecordId("t", 0, number), None, None, None, 0.0)
        record.organization_id, record.campaign_id = "acme", "ab"[number == 3]
        record.resolve(_RESOLUTIONS[Step.SEND], at)
        records.append(record)
    parked = Record(RecordId("t", 0, 9), None, None, None, 0.0)
    parked.organization_id, parked.campaign_id = "acme", "c"
    parked.resolve(_PARKED, 1.0)
    (first, key), (_, other), (last, _) = progress_records([*records, parked])
    assert (key, other) == (b"acme/a", b"acme/b")
    assert orjson.loads(first) == {
        "organization_id": "acme",
        "campaign_id": "a",
        "counts": {"sent": 3},
        "first": "1970-01-01T00:00:03.500Z",
        "last": "1970-01-01T00:00:09.250Z",
    }
    assert orjson.loads(last)["counts"] == {"parked": 1}
    assert orjson.loads(last)["first"] is None
