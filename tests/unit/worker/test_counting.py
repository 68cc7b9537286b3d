"""What the transactions write to the progress topic is what a reader of the other topics counts.

A committer and a relay work on a Kafka in memory, through aborts, rebalances, parkings and returns.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from enum import Enum, auto
from typing import cast

import orjson
import pytest
from confluent_kafka import KafkaError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import Partition, PartitionWindow
from streamer.kafka import reading, repeating, shared, transactions
from streamer.kafka.shared import shared_consumer
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
from streamer.worker import relaying, unmovable
from streamer.worker.committer import Committer, fencing_producer
from streamer.worker.relaying import RelaySession
from streamer.worker.scopes import ParkScopes
from streamer.worker.source import _record
from tests.kit.fakes.kafka import FakeKafka, KafkaApi
from tests.kit.fakes.kafka.consumer import FakeConsumer
from tests.kit.fakes.kafka.log import Stored, message

_SETTINGS = Settings()
TOPICS = _SETTINGS.topics
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

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        wide = dict.fromkeys((TOPICS.recipients, TOPICS.parked), _PARTITIONS)
        narrow = dict.fromkeys((TOPICS.outcomes, TOPICS.dead_letters, TOPICS.progress), 2)
        self.kafka = FakeKafka(wide | narrow)
        self.kafka.limits[TOPICS.recipients] = _LIMIT
        self.kafka.install(patch, transactions, repeating, reading, shared, relaying)
        patch.setattr(unmovable, "find", lambda *_: None)
        group = self.kafka.group(_SETTINGS.kafka.group_id)
        self._member = FakeConsumer(self.kafka, {"group.id": group.name})
        group.join(self._member)
        self._committed = group.offsets
        self._relay = RelaySession(
            _SETTINGS, cast(Client, _NoRedis()), _Open(), shared_consumer(_SETTINGS)
        )
        self._number = 0
        self.take_over()

    def take_over(self) -> None:
        self._committer = Committer(
            fencing_producer(_SETTINGS),
            TOPICS,
            self._member.consumer_group_metadata,
            "epoch",
            lambda: 0,
            _PARTITIONS,
            DeadLetterBreaker(1_000, 1),
            lambda name: None,
        )
        self._windows: dict[Partition, PartitionWindow] = {}
        for number in range(_PARTITIONS):
            place = (TOPICS.recipients, number)
            start = self._committed[place].offset if place in self._committed else 0
            self._windows[place] = PartitionWindow(start, is_marked=True)

    def do(self, step: Step, campaign: str, partition: int) -> None:
        place = (TOPICS.recipients, partition)
        window = self._windows[place]
        if step in (Step.PRODUCE, Step.PRODUCE_LARGE, Step.PRODUCE_INVALID):
            self._produce(step, campaign, place)
        elif step is Step.READ:
            for offset, stored in self.kafka.logs[place].committed().items():
                record = _record(message(place, offset, stored), 0.0)
                if window.admit(record):
                    try:
                        record.attach_event(parse(record.value))
                    except DeadEventError as error:
                        record.resolve(DeadLetter(error.reason, str(error)), 1.0)
        elif step in _RESOLUTIONS:
            for record in [*window.unresolved()][:1]:
                record.resolve(_RESOLUTIONS[step], float(record.offset))
        elif step is Step.COMMIT:
            assert self._committer.commit(self._windows)
        elif step is Step.ABORT:
            if any(each.done_prefix(1) for each in self._windows.values()):
                self.kafka.answer(KafkaApi.COMMIT_OFFSETS, KafkaError.ILLEGAL_GENERATION)
                assert not self._committer.commit(self._windows)
        elif step is Step.REBALANCE:
            self.take_over()
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
        counts: defaultdict[CampaignName, Counter[str]] = defaultdict(Counter)
        for place, log in self.kafka.logs.items():
            if place[0] == TOPICS.progress:
                records = [message(place, at, stored) for at, stored in log.committed().items()]
                for name, share in fold(records).items():
                    counts[name].update(share.delta.counts)
        return {name: {w: n for w, n in each.items() if n} for name, each in counts.items()}

    def counted(self) -> dict[CampaignName, dict[str, int]]:
        """What the other topics say."""
        counts: defaultdict[CampaignName, Counter[str]] = defaultdict(Counter)
        ended: set[RecordId] = set()
        for stored in self._stored(TOPICS.outcomes):
            read = orjson.loads(stored.value or b"")
            ended.add(RecordId(*read["source"].values()))
            reason = f":{read['reason']}" if read["reason"] else ""
            counts[_named(stored)][read["status"] + reason] += 1
        for stored in self._stored(TOPICS.dead_letters):
            ended.add(_source(stored))
            counts[_named(stored)]["dead:" + decode_headers(stored.headers)[REASON]] += 1
        parked = {_source(stored): _named(stored) for stored in self._stored(TOPICS.parked)}
        for source in parked.keys() - ended:
            counts[parked[source]]["parked"] += 1
        return {name: dict(each) for name, each in counts.items()}

    def _stored(self, topic: str) -> list[Stored]:
        return [s for each in self.kafka.committed(topic).values() for s in each.values()]


def _named(stored: Stored) -> CampaignName:
    name = named_campaign(stored.value)
    assert name is not None
    return name


def _source(stored: Stored) -> RecordId:
    source = source_id(decode_headers(stored.headers))
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
        workshop = Workshop(patch)
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
