"""The relay on a Kafka in memory: who comes back, what is refused, and what is kept meanwhile."""

import logging
import random
from collections.abc import Collection, Iterator
from typing import cast

import orjson
import pytest
import redis
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow import waitlist
from streamer.flow.offsets import OffsetSet
from streamer.kafka import on_demand, reading, repeating, shared, transactions
from streamer.kafka.properties import relay_group
from streamer.kafka.reading import ReadError
from streamer.kafka.shared import shared_consumer
from streamer.ledger.claim_reader import ClaimStatus
from streamer.ledger.claims import Claim
from streamer.ledger.connection import Client
from streamer.model.parking import Scope
from streamer.model.record import Headers, Parked, Record, RecordId
from streamer.model.record_headers import decode_headers, source_id
from streamer.model.wire import PARKED_AT, REASON, parked_headers
from streamer.settings import Settings
from streamer.worker import relay, relaying, unmovable
from streamer.worker.relay import Relay
from streamer.worker.relaying import RelayError, RelaySession, SupersededError
from streamer.worker.scopes import ParkScopes
from streamer.worker.waiter import StoppedError, Waiter
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.fakes.kafka.cluster import Answer
from tests.kit.fakes.kafka.log import Stored

_SETTINGS = Settings()
TOPICS = _SETTINGS.topics
SPRING, AUTUMN = (Parked(Scope.of_campaign("acme", name)) for name in ("spring", "autumn"))
_LIMIT = 2_000
_PARTITIONS = 2


class _Gate(ParkScopes):
    def __init__(self) -> None:
        self.open: set[Parked] = set()

    def released(self, waits: Collection[Parked]) -> set[Parked]:
        return self.open & set(waits)


class _Redis:
    """What the relay keeps in Redis, and nothing else that it asks for."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.is_down = False

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.fields if key.endswith("relay:streamer:positions") else {}

    def hset(self, key: str, mapping: dict[str, str]) -> None:
        if self.is_down:
            raise redis.ConnectionError("gone")
        self.fields |= {name.encode(): value.encode() for name, value in mapping.items()}


class FakeDepot:
    """Parked records on a Kafka in memory, and relays that bring them back."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.kafka = FakeKafka(
            {
                TOPICS.recipients: _PARTITIONS,
                TOPICS.parked: _PARTITIONS,
                TOPICS.outcomes: 1,
                TOPICS.dead_letters: 1,
                TOPICS.progress: 1,
                TOPICS.progress: 1,
            }
        )
        self.gate = _Gate()
        self.redis = _Redis()
        self.claims: dict[str, Claim] = {}
        self._parked = 0
        self.kafka.install(
            patch, reading, transactions, repeating, shared, on_demand, relay, relaying
        )
        patch.setattr(unmovable, "find", self.find)

    def find(self, client: Client, *of: str) -> ClaimStatus | None:
        claim = self.claims.get(of[-1])
        return None if claim is None else ClaimStatus(claim, None)

    def park(
        self,
        *waits: Parked,
        partition: int = 0,
        size: int = 10,
        event: bool = True,
        headers: Headers | None = None,
    ) -> None:
        """Park a record for each, of about such a size, in one transaction."""
        records = []
        for wait in waits:
            number = self._parked
            self._parked += 1
            filling = "x" * size
            value = {"n": number, "filling": filling} | (
                {
                    "organization_id": "acme",
                    "campaign_id": "spring",
                    "recipient_id": f"r-{number}",
                    "email": f"user{number}@example.com",
                }
                if event
                else {}
            )
            first = RecordId(TOPICS.recipients, partition, number)
            record = Record(first, b"key", orjson.dumps(value), headers, 0.0)
            records.append(
                ((TOPICS.parked, partition), record.value, record.key, parked_headers(record, wait))
            )
        self.kafka.write(records)

    def relay(self) -> RelaySession:
        return RelaySession(
            _SETTINGS, cast(Client, self.redis), self.gate, shared_consumer(_SETTINGS)
        )

    def has_producer(self, session: RelaySession) -> bool:
        return session._producer.current is not None

    def work(self, session: RelaySession, turns: int = 3) -> None:
        for _ in range(turns):
            self.kafka.clock.sleep(0.6)
            for _ in session.step():
                pass

    def returned(self, partition: int | None = None) -> list[int]:
        """The numbers of those that came back, as they stand in the input."""
        return [
            orjson.loads(stored.value or b"")["n"]
            for (_, number), records in self.kafka.committed(TOPICS.recipients).items()
            for stored in records.values()
            if partition in (None, number)
        ]

    def written(self, topic: str) -> list[Stored]:
        return [*self.kafka.committed(topic)[topic, 0].values()]

    def end(self, partition: int = 0) -> int:
        """Where a partition of the parked topic ends."""
        return self.kafka.logs[TOPICS.parked, partition].end

    def forget_offsets(self) -> None:
        """What the broker does to offsets that nobody commits again."""
        self.kafka.group(relay_group(_SETTINGS)).offsets.clear()

    def gone(self, partition: int = 0) -> OffsetSet:
        """Who left, by the offsets that are committed."""
        known = self.kafka.group(relay_group(_SETTINGS)).offsets[TOPICS.parked, partition]
        return OffsetSet.decode(known.offset, known.metadata)


@pytest.fixture
def depot(monkeypatch: pytest.MonkeyPatch) -> FakeDepot:
    return FakeDepot(monkeypatch)


def _source(stored: Stored) -> RecordId | None:
    return source_id(decode_headers(stored.headers))


# Who comes back


def test_released_records_return_with_their_original_offset(depot: FakeDepot) -> None:
    depot.park(SPRING, AUTUMN, SPRING, headers=[("own", b"1")])
    depot.park(SPRING, partition=1)
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    assert (depot.returned(0), depot.returned(1)) == ([0, 2], [3])
    first, _, other = (
        stored
        for records in depot.kafka.committed(TOPICS.recipients).values()
        for stored in records.values()
    )
    assert _source(first) == RecordId(TOPICS.recipients, 0, 0)
    assert _source(other) == RecordId(TOPICS.recipients, 1, 3)
    assert first.key == b"key"
    assert dict(first.headers)["own"] == b"1"


def test_records_that_a_new_leader_does_not_show_yet_are_awaited(depot: FakeDepot) -> None:
    depot.park(SPRING, SPRING, SPRING)
    session = depot.relay()
    depot.work(session)
    log = depot.kafka.logs[TOPICS.parked, 0]
    log.unseen = 2  # with the marker
    depot.gate.open = {SPRING}
    with pytest.raises(ReadError, match=r"from offset 2 to 3: nothing was received for 10 s"):
        depot.work(session)
    session.close()
    log.unseen = 0
    depot.work(depot.relay())
    assert depot.returned() == [0, 1, 2]


def test_waiting_records_stay_in_place(depot: FakeDepot) -> None:
    """Returns of a few do not write the others anew, and another relay knows who left."""
    for _ in range(5):
        depot.park(*([SPRING] * 40 + [AUTUMN]) * 2)
    end = depot.end()
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay())
    assert depot.returned() == [*range(40, 410, 41)]
    assert depot.end() == end
    assert len(depot.gone().spans) == 10
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    assert sorted(depot.returned()) == [*range(410)]
    spring = [n for n in depot.returned() if n % 41 != 40]
    assert spring == sorted(spring)


def test_records_return_once_released(depot: FakeDepot) -> None:
    depot.park(SPRING, AUTUMN)
    session = depot.relay()
    depot.work(session)
    assert depot.returned() == []
    depot.gate.open = {AUTUMN}
    depot.work(session)
    assert depot.returned() == [1]
    depot.park(AUTUMN)
    depot.work(session)
    assert depot.returned() == [1, 2]


def test_releases_are_checked_twice_a_second(depot: FakeDepot) -> None:
    depot.park(SPRING)
    session = depot.relay()
    asked: list[float] = []
    depot.gate.released = lambda waits: asked.append(depot.kafka.clock.now) or set()  # type: ignore[method-assign, func-returns-value]
    until = depot.kafka.clock.now + 10
    while depot.kafka.clock.now < until:
        for _ in session.step():
            pass
    assert 15 <= len(asked) <= 21


def test_foreign_records_are_skipped(depot: FakeDepot) -> None:
    kinds: list[Headers] = [[], [("streamer-parked-for", b"x")]]
    depot.kafka.write(((TOPICS.parked, 0), b"{}", None, headers) for headers in kinds)
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    assert depot.returned() == [0]
    assert depot.gone() == OffsetSet(depot.end() - 1)


def test_new_partitions_are_read_and_written(depot: FakeDepot) -> None:
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.park(SPRING)
    depot.work(session)
    for topic in (TOPICS.parked, TOPICS.recipients):
        depot.kafka.create(topic, 6)
    depot.park(SPRING, partition=5)
    depot.work(session)
    assert depot.returned() == [0]
    depot.kafka.clock.sleep(30)
    depot.work(session)
    assert (depot.returned(0), depot.returned(5)) == ([0], [1])


@pytest.mark.parametrize("turn", [50, 1_000])
def test_bounded_reading_skips_no_record(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Who stands behind what is read in one turn comes in a later one, in its order."""
    monkeypatch.setattr(relaying, "_OFFSETS_A_TURN", turn)
    monkeypatch.setattr(relaying, "_CHUNK", 7)
    monkeypatch.setattr(reading, "_PORTIONS", 1)
    monkeypatch.setattr(waitlist, "SPAN", 20)
    monkeypatch.setattr(waitlist, "SEEK", 5)
    for at in range(100):
        depot.park(*[AUTUMN if (at + n) % 3 else SPRING for n in range(10)])
    session = depot.relay()
    depot.gate.open = {SPRING}
    depot.work(session, 10)
    depot.gate.open = {SPRING, AUTUMN}
    monkeypatch.setattr(relaying, "_OFFSETS_A_TURN", 20_000)
    monkeypatch.setattr(reading, "_PORTIONS", 10)
    for _ in range(5):
        depot.park(AUTUMN, SPRING)
    depot.work(session, 60)
    returned = depot.returned()
    assert sorted(returned) == [*range(1_010)]
    waits = {n: (n // 10 + n % 10) % 3 == 0 if n < 1_000 else n % 2 == 1 for n in returned}
    for is_spring in (True, False):
        of_wait = [n for n in returned if waits[n] is is_spring]
        assert of_wait == sorted(of_wait)


# What is moved together


def test_long_metadata_compacts_the_topic(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_MAX_TEXT", 60)
    monkeypatch.setattr(relaying, "_CHUNK", 20)
    dice = random.Random(0)
    waits = [dice.choice([AUTUMN, SPRING, SPRING]) for _ in range(700)]
    depot.park(*waits)
    autumn = [n for n, wait in enumerate(waits) if wait == AUTUMN]
    spring = [n for n, wait in enumerate(waits) if wait == SPRING]
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay())
    assert depot.returned() == autumn
    assert depot.gone().base > 0
    assert len(depot.gone().encode()) <= 60
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    assert depot.returned() == autumn + spring


def test_compacting_keeps_the_order_of_records_not_yet_read(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_MAX_TEXT", 60)
    monkeypatch.setattr(relaying, "_CHUNK", 20)
    monkeypatch.setattr(reading, "_PORTIONS", 1)
    dice = random.Random(0)
    waits = [dice.choice([AUTUMN, SPRING, SPRING]) for _ in range(700)]
    depot.park(*waits)
    depot.gate.open = {AUTUMN}
    session = depot.relay()
    depot.work(session, 10)
    depot.gate.open = {SPRING}
    depot.work(session, 20)
    spring = [n for n in depot.returned() if waits[n] == SPRING]
    assert spring == [n for n, wait in enumerate(waits) if wait == SPRING]


def test_many_departures_compact_the_topic(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_MAX_WASTE", 50)
    depot.park(SPRING, *[AUTUMN] * 60)
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay(), 5)
    assert depot.gone().base > 60
    assert depot.gone().spans == []
    assert len(depot.written(TOPICS.parked)) == 62
    moved = depot.written(TOPICS.parked)[-1]
    assert _source(moved) == RecordId(TOPICS.recipients, 0, 0)
    assert dict(moved.headers)[PARKED_AT] == b"0/0"
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    assert sorted(depot.returned()) == [*range(61)]


# What Kafka or Redis forgot


def test_expired_offsets_return_no_record_twice(depot: FakeDepot) -> None:
    for partition in range(_PARTITIONS):
        depot.park(*[SPRING, AUTUMN] * 20, partition=partition)
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay())
    assert len(depot.returned()) == 40
    depot.forget_offsets()
    session = depot.relay()
    depot.work(session)
    assert len(depot.returned()) == 40
    assert len(depot.gone().spans) == 20  # they are committed again
    depot.gate.open = {SPRING}
    depot.work(session)
    assert sorted(depot.returned()) == [*range(80)]


def test_offsets_are_renewed_before_they_expire(depot: FakeDepot) -> None:
    depot.park(*[SPRING] * 5)
    session = depot.relay()
    depot.gate.open = {SPRING}
    depot.work(session)
    depot.forget_offsets()
    depot.work(session)
    assert depot.kafka.group(relay_group(_SETTINGS)).offsets == {}
    depot.kafka.clock.sleep(600)
    depot.work(session)
    assert depot.gone() == OffsetSet(5)


def test_a_ledger_behind_the_broker_is_harmless(depot: FakeDepot) -> None:
    """It is written behind them: a relay may die between."""
    depot.park(*[SPRING] * 5)
    depot.gate.open = {SPRING}
    depot.redis.is_down = True
    with pytest.raises(redis.ConnectionError):
        depot.work(depot.relay())
    assert len(depot.returned()) == 5
    depot.redis.is_down = False
    depot.work(depot.relay())
    depot.forget_offsets()
    depot.work(depot.relay())
    assert len(depot.returned()) == 5


def test_a_topic_that_lost_records_is_an_error(depot: FakeDepot) -> None:
    """What is written to it now would be taken for what came back long ago."""
    depot.park(SPRING)
    depot.relay()._relayed.keep({0: OffsetSet(1_000)})
    with pytest.raises(RelayError, match=r"ends at 2, but its records up to 1000 were returned"):
        depot.relay()


def test_unreadable_offsets_are_an_error(depot: FakeDepot) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    place = (TOPICS.parked, 0)
    of_another = TopicPartition(*place, 1, "2:what is this")
    depot.kafka.group(relay_group(_SETTINGS)).offsets[place] = of_another
    with pytest.raises(RelayError, match="cannot read the relay's offsets"):
        depot.relay()


def test_an_unknown_offset_is_not_mistaken_for_a_new_partition(depot: FakeDepot) -> None:
    depot.park(SPRING)
    depot.kafka.errors[TOPICS.parked, 0] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        depot.relay()


@pytest.mark.parametrize("topic", [TOPICS.parked, TOPICS.recipients])
def test_a_missing_topic_ends_the_term(depot: FakeDepot, topic: str) -> None:
    del depot.kafka.topic_ids[topic]
    with pytest.raises(KafkaException):
        depot.relay()
    assert all(consumer.is_closed for consumer in depot.kafka.consumers)


def test_offsets_before_the_base_are_dropped(depot: FakeDepot) -> None:
    """A relay lives for months, and each transaction that parks leaves a gap behind it."""
    depot.gate.open = {SPRING}
    session = depot.relay()
    for _ in range(50):
        depot.park(SPRING, SPRING)
        depot.work(session, 1)
    assert len(depot.returned()) == 100
    assert len(session._departures.gaps_of(0).spans) <= 1
    # What lies behind it is not: the base goes on where the first of them leaves.
    depot.park(AUTUMN)
    for _ in range(50):
        depot.park(SPRING)
    depot.work(session)
    depot.gate.open = {AUTUMN}
    depot.work(session)
    assert depot.gone() == OffsetSet(depot.end() - 1)


# What is deleted


def test_returned_records_are_deleted(depot: FakeDepot) -> None:
    depot.park(*[SPRING] * 20)
    depot.park(*[AUTUMN] * 5)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.work(session)
    assert depot.kafka.logs[TOPICS.parked, 0].start == 0
    depot.kafka.clock.sleep(60)
    depot.work(session)
    assert depot.kafka.logs[TOPICS.parked, 0].start == 20
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay())
    assert len(depot.returned()) == 25


def test_failed_deletions_are_logged_and_retried(
    depot: FakeDepot, caplog: pytest.LogCaptureFixture
) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.work(session)
    depot.kafka.clock.sleep(60)
    for _ in session.step():
        pass
    depot.park(SPRING)
    depot.work(session)
    depot.kafka.clock.sleep(60)
    depot.kafka.answer(KafkaApi.DELETE_RECORDS, KafkaError.TOPIC_AUTHORIZATION_FAILED)
    depot.work(session, 1)
    assert "cannot delete returned records" in caplog.text
    assert depot.kafka.logs[TOPICS.parked, 0].start == 1
    depot.kafka.clock.sleep(60)
    depot.work(session, 1)
    assert depot.kafka.logs[TOPICS.parked, 0].start == 3


# What Kafka refuses


def test_a_record_rejected_by_kafka_is_resolved(depot: FakeDepot) -> None:
    depot.park(*[SPRING] * 11)
    depot.park(SPRING, size=_LIMIT)
    depot.park(*[SPRING] * 9)
    depot.park(SPRING, size=_LIMIT)
    depot.kafka.limits[TOPICS.recipients] = _LIMIT
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.work(session)
    assert depot.returned() == [n for n in range(22) if n not in (11, 21)]
    ended = depot.written(TOPICS.outcomes)
    outcomes = [orjson.loads(stored.value or b"") for stored in ended]
    assert [outcome["source"]["offset"] for outcome in outcomes] == [11, 21]
    for outcome, stored in zip(outcomes, ended, strict=True):
        assert (outcome["status"], outcome["reason"]) == ("failed", "too_large")
        assert "campaign acme/spring" in outcome["detail"]
        assert stored.key == b"key"
    # Where they left, so that they are no more counted as parked.
    assert dict(ended[0].headers)[PARKED_AT] == b"0/12"
    depot.work(session)
    assert depot.gone() == OffsetSet(depot.end() - 1)
    depot.work(depot.relay())
    assert len(depot.returned()) == 20
    assert len(depot.written(TOPICS.outcomes)) == 2


def test_a_possibly_mailed_record_is_not_failed(depot: FakeDepot) -> None:
    depot.park(SPRING, SPRING, size=_LIMIT)
    depot.claims = {
        "user0@example.com": Claim("b" * 24, 0, RecordId(TOPICS.recipients, 0, 0)),
        "user1@example.com": Claim("c" * 24, 0, RecordId(TOPICS.recipients, 0, 77)),
    }
    depot.kafka.limits[TOPICS.recipients] = _LIMIT
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    own, others = (orjson.loads(stored.value or b"") for stored in depot.written(TOPICS.outcomes))
    assert (own["status"], own["reason"]) == ("indeterminate", "provider_error")
    assert own["batch_id"] == "b" * 24
    assert (others["status"], others["reason"]) == ("failed", "too_large")


def test_an_invalid_event_becomes_a_reduced_dead_letter(
    depot: FakeDepot,
) -> None:
    depot.park(SPRING, size=_LIMIT, event=False, headers=[("theirs", b"h" * 50)])
    depot.park(SPRING)
    depot.kafka.limits = {TOPICS.recipients: _LIMIT, TOPICS.dead_letters: 500}
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    assert depot.returned() == [1]
    (letter,) = depot.written(TOPICS.dead_letters)
    assert _source(letter) == RecordId(TOPICS.recipients, 0, 0)
    assert letter.value is None  # it was refused there, too
    assert dict(letter.headers)[REASON] == b"invalid_event"


def test_a_record_rejected_by_the_parked_topic_is_resolved(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_MAX_WASTE", 5)
    depot.park(AUTUMN, size=_LIMIT)
    depot.park(AUTUMN)
    depot.park(*[SPRING] * 10)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.kafka.limits[TOPICS.parked] = _LIMIT
    depot.work(session)
    assert depot.returned() == [*range(2, 12)]
    (ended,) = depot.written(TOPICS.outcomes)
    assert orjson.loads(ended.value or b"")["reason"] == "too_large"
    depot.gate.open = {AUTUMN}
    depot.work(session)
    assert depot.returned() == [*range(2, 12), 1]


def test_a_rejected_smallest_result_is_an_error(depot: FakeDepot) -> None:
    depot.park(SPRING, size=_LIMIT)
    depot.kafka.limits = {TOPICS.recipients: _LIMIT, TOPICS.outcomes: 1}
    depot.gate.open = {SPRING}
    with pytest.raises(RelayError, match="check the topics"):
        depot.work(depot.relay())
    depot.kafka.limits = {}
    depot.work(depot.relay())
    assert depot.returned() == [0]


# Transactions of which the end is bad, or not known


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (KafkaApi.PRODUCE, KafkaError.TOPIC_AUTHORIZATION_FAILED),
        (KafkaApi.ADD_OFFSETS, Silence.UNHEARD),
        (KafkaApi.COMMIT_OFFSETS, KafkaError.GROUP_AUTHORIZATION_FAILED),
        (KafkaApi.END_TRANSACTION, KafkaError.UNKNOWN_PRODUCER_ID),
    ],
)
def test_a_failed_transaction_is_retried(
    depot: FakeDepot, request_: KafkaApi, answer: Answer
) -> None:
    depot.park(*[SPRING] * 3)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.kafka.answer(request_, answer)
    depot.work(session)
    assert depot.returned() == [0, 1, 2]


def test_repeated_failures_end_the_term(depot: FakeDepot) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.kafka.answer(KafkaApi.COMMIT_OFFSETS, *[KafkaError.GROUP_AUTHORIZATION_FAILED] * 3)
    with pytest.raises(KafkaException):
        depot.work(session)
    depot.work(depot.relay())
    assert depot.returned() == [0]


@pytest.mark.parametrize("silence", Silence)
def test_an_unknown_commit_is_left_to_the_next_term(depot: FakeDepot, silence: Silence) -> None:
    depot.park(*[SPRING] * 3)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.kafka.answer(KafkaApi.END_TRANSACTION, silence)
    with pytest.raises(KafkaException):
        depot.work(session)
    depot.work(depot.relay())
    assert depot.returned() == [0, 1, 2]


def test_the_producer_is_there_while_records_return(depot: FakeDepot) -> None:
    session = depot.relay()
    depot.work(session)
    assert depot.has_producer(session)
    depot.kafka.clock.sleep(60)
    depot.work(session)
    assert not depot.has_producer(session)
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    depot.work(session)
    assert depot.returned() == [0]
    assert depot.has_producer(session)


def test_a_relay_that_missed_what_another_returned_returns_nothing(depot: FakeDepot) -> None:
    depot.park(SPRING, SPRING)
    frozen = depot.relay()
    depot.work(frozen)
    depot.kafka.clock.sleep(60)
    depot.work(frozen)
    depot.gate.open = {SPRING}
    other = depot.relay()
    depot.work(other)
    with pytest.raises(SupersededError):
        depot.work(frozen)
    assert depot.returned() == [0, 1]
    frozen.close()
    depot.park(SPRING)
    depot.work(depot.relay())
    assert depot.returned() == [0, 1, 2]


def test_a_relay_goes_on_if_another_returned_nothing(depot: FakeDepot) -> None:
    depot.park(SPRING, AUTUMN)
    depot.gate.open = {AUTUMN}
    first = depot.relay()
    depot.work(first)
    depot.kafka.clock.sleep(60)
    depot.work(first)
    depot.relay().close()
    depot.gate.open = {SPRING}
    depot.work(first)
    assert depot.returned() == [1, 0]


def test_a_replaced_relay_moves_nothing(depot: FakeDepot) -> None:
    depot.park(*[SPRING] * 10)
    old = depot.relay()
    depot.work(old)
    new = depot.relay()
    depot.gate.open = {SPRING}
    with pytest.raises(KafkaException) as caught:
        depot.work(old)
    assert transactions.is_fenced(caught.value.args[0])
    assert depot.returned() == []
    depot.work(new)
    assert depot.returned() == [*range(10)]


_FAULTS = st.tuples(
    st.sampled_from(
        [KafkaApi.PRODUCE, KafkaApi.ADD_OFFSETS, KafkaApi.COMMIT_OFFSETS, KafkaApi.END_TRANSACTION]
    ),
    st.sampled_from(
        [
            *Silence,
            KafkaError.NOT_COORDINATOR,
            KafkaError.MSG_SIZE_TOO_LARGE,
            KafkaError.UNKNOWN_PRODUCER_ID,
            KafkaError.INVALID_PRODUCER_EPOCH,
        ]
    ),
)
_PARKED = st.tuples(
    st.integers(0, 1),
    st.lists(st.sampled_from([SPRING, AUTUMN]), min_size=1, max_size=6),
    st.sampled_from([10, _LIMIT]),
)
_GATES = st.sampled_from(["", "spring", "autumn", "both"])
_TURNS = st.sampled_from(["another relay", "frozen", "thawed", "the broker forgets"])


@given(st.lists(st.one_of(_FAULTS, _PARKED, _GATES, _TURNS), max_size=20), st.booleans())
def test_any_faults_return_or_resolve_each_record_once(
    steps: list[tuple[KafkaApi, Answer] | tuple[int, list[Parked], int] | str], is_small: bool
) -> None:
    """Whatever brokers answer, whoever has the turn, and with offsets that are forgotten."""
    gates = {"": set[Parked](), "spring": {SPRING}, "autumn": {AUTUMN}, "both": {SPRING, AUTUMN}}
    with pytest.MonkeyPatch.context() as patch:
        depot = FakeDepot(patch)
        patch.setattr(relaying, "_MAX_WASTE", 3)
        patch.setattr(relaying, "_CHUNK", 3)
        patch.setattr(relaying, "_MAX_TEXT", 30)
        patch.setattr(relaying.logger, "disabled", True)
        if is_small:
            depot.kafka.limits = {TOPICS.recipients: _LIMIT, TOPICS.parked: _LIMIT}
        sessions: list[RelaySession] = []
        frozen: list[RelaySession] = []

        def work() -> None:
            try:
                if not sessions:
                    sessions.append(depot.relay())
                depot.work(sessions[0], 1)
            except (KafkaException, SupersededError):
                sessions.clear()

        for step in steps:
            if step == "another relay":
                sessions.clear()
            elif step == "frozen":
                depot.kafka.clock.sleep(60)
                work()  # so that its producer rests
                frozen += sessions
                sessions.clear()
            elif step == "thawed":  # it has the lease again, as another relay had it and died
                sessions[:] = [frozen.pop()] if frozen else sessions
            elif step == "the broker forgets":
                # Days after they were committed: a relay that ran since has told the ledger.
                if sessions:
                    depot.forget_offsets()
                    sessions.clear()
            elif isinstance(step, str):
                depot.gate.open = gates[step]
            elif len(step) == 2:
                depot.kafka.answer(*step)
            else:
                partition, waits, size = step
                depot.park(*waits, partition=partition, size=size)
            work()
        depot.gate.open = gates["both"]
        for _ in range(60):
            work()
        ended = [_source(s) for s in depot.written(TOPICS.outcomes)]
        outcomes = [orjson.loads(s.value or b"") for s in depot.written(TOPICS.outcomes)]
        numbers = [outcome["source"]["offset"] for outcome in outcomes]
        assert sorted(depot.returned() + numbers) == [*range(depot._parked)]
        assert all(source is None for source in ended)


# Whose turn it is


class _Lease:
    """A lease that is held for some time."""

    def __init__(self, answers: Iterator[bool]) -> None:
        self.answers = answers
        self.released = 0

    def hold(self) -> bool:
        return next(self.answers, False)

    def release(self) -> None:
        self.released += 1


class _Sleeper(Waiter):
    """A waiter that ends everything after some waits."""

    def __init__(self, depot: FakeDepot, waits: int) -> None:
        super().__init__()
        self._depot = depot
        self._left = waits
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._left -= 1
        if self._left < 0:
            raise StoppedError
        self._depot.kafka.clock.sleep(seconds + 0.6)


def _turns(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch, lease: Iterator[bool], waits: int = 30
) -> tuple[_Lease, _Sleeper]:
    """Run a relay's thread in this one, until its waits are over."""
    held = _Lease(lease)
    monkeypatch.setattr(relay, "Lease", lambda *_: held)
    sleeper = _Sleeper(depot, waits)
    Relay(
        _SETTINGS, cast(Client, depot.redis), depot.gate, shared_consumer(_SETTINGS), sleeper
    )._run()
    return held, sleeper


def _always() -> Iterator[bool]:
    while True:
        yield True


def test_the_leader_works_and_releases_its_lease(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    lease, _ = _turns(depot, monkeypatch, _always())
    assert depot.returned() == [0]
    assert lease.released == 1
    assert all(consumer.is_closed for consumer in depot.kafka.consumers)


def test_others_do_nothing(depot: FakeDepot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    _turns(depot, monkeypatch, iter(()))
    assert depot.returned() == []
    assert depot.kafka.consumers == []


def test_a_lost_lease_stops_at_the_next_transaction(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_CHUNK", 1)
    depot.park(*[SPRING] * 9)
    depot.gate.open = {SPRING}
    _turns(depot, monkeypatch, iter([True, True, True, True, False]))
    assert depot.returned() == [0, 1, 2]
    assert all(consumer.is_closed for consumer in depot.kafka.consumers)


def test_a_term_that_cannot_read_again_is_followed_by_another(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.park(SPRING, SPRING, SPRING)
    depot.gate.open = {SPRING}
    log = depot.kafka.logs[TOPICS.parked, 0]
    told: list[tuple[object, ...]] = []

    def fail_over(waits: Collection[Parked]) -> set[Parked]:
        log.unseen = 0 if told else 2
        return depot.gate.open & set(waits)

    monkeypatch.setattr(depot.gate, "released", fail_over)
    monkeypatch.setattr(relay.logger, "error", lambda *said, **_: told.append(said))
    _turns(depot, monkeypatch, _always())
    assert told == [("cannot return parked records",)]
    assert depot.returned() == [0, 1, 2]


def test_a_failed_term_is_followed_by_another(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}
    depot.kafka.answer(KafkaApi.PRODUCE, KafkaError.INVALID_PRODUCER_EPOCH)
    with caplog.at_level(logging.WARNING):
        _turns(depot, monkeypatch, _always())
    assert "relay failed, restarting" in caplog.text
    assert depot.returned() == [0]


def test_permanent_errors_are_logged_every_half_minute(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    depot.park(SPRING)
    depot.relay()._relayed.keep({0: OffsetSet(1_000)})
    lease, sleeper = _turns(depot, monkeypatch, _always(), 4)
    assert caplog.text.count("cannot return parked records") == 2
    assert sleeper.slept == [0, 30.0, 0, 30.0, 0]
    assert lease.released == 1


def test_a_stop_ends_a_relay_that_cannot_start(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.kafka.answer(
        KafkaApi.INIT_PRODUCER_ID, *[KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED] * 100
    )
    lease, _ = _turns(depot, monkeypatch, _always(), 4)
    assert lease.released == 1


def test_an_unreachable_redis_is_awaited(depot: FakeDepot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.park(SPRING)
    depot.gate.open = {SPRING}

    def hold() -> Iterator[bool]:
        depot.redis.is_down = True
        yield from [True] * 8
        depot.redis.is_down = False
        yield from _always()

    _turns(depot, monkeypatch, hold())
    assert depot.returned() == [0]
