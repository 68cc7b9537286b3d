"""The relay on a Kafka in memory: who comes back, what is refused, and what is kept meanwhile."""

from collections.abc import Collection
from typing import cast

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException, Message

from streamer.flow import waitlist
from streamer.flow.offsets import OffsetSet
from streamer.kafka import reading, transactions
from streamer.kafka.headers import header_list
from streamer.ledger.claim_reader import ClaimStatus
from streamer.ledger.claims import Claim
from streamer.ledger.connection import Client
from streamer.model.parking import Scope
from streamer.model.record import Headers, Parked, Record, RecordId
from streamer.model.record_headers import decode_headers, source_id
from streamer.model.wire import PARKED_AT, REASON, parked_headers
from streamer.settings import Settings
from streamer.worker import relay, unmovable
from streamer.worker.relay import RelayError, RelaySession
from streamer.worker.scopes import ParkScopes
from tests.unit.kafka.fake_kafka import FakeKafka

TOPICS = Settings().topics
SPRING, AUTUMN = (Parked(Scope.of_campaign("acme", name)) for name in ("spring", "autumn"))
_LIMIT = 2_000


class _Gate(ParkScopes):
    def __init__(self) -> None:
        self.open: set[Parked] = set()

    def released(self, waits: Collection[Parked]) -> set[Parked]:
        return self.open & set(waits)


class _Redis:
    """What the relay keeps in Redis, and nothing else that it asks for."""

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}

    def hgetall(self, key: str) -> dict[bytes, bytes]:
        return self.fields if key.endswith("relay:streamer:positions") else {}

    def hset(self, key: str, mapping: dict[str, str]) -> None:
        self.fields |= {name.encode(): value.encode() for name, value in mapping.items()}


class FakeDepot:
    """Parked records on a Kafka in memory, and relays that bring them back."""

    def __init__(self) -> None:
        self.kafka = FakeKafka(
            {TOPICS.recipients: 1, TOPICS.parked: 1, TOPICS.outcomes: 1, TOPICS.dead_letters: 1}
        )
        self.gate = _Gate()
        self.redis = _Redis()
        self.claims: dict[str, Claim] = {}
        self._parked = 0

    def find(self, client: Client, *of: str) -> ClaimStatus | None:
        claim = self.claims.get(of[-1])
        return None if claim is None else ClaimStatus(claim, None)

    def park(
        self, *waits: Parked, size: int = 10, event: bool = True, headers: Headers | None = None
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
            first = RecordId(TOPICS.recipients, 0, number)
            record = Record(first, b"key", orjson.dumps(value), headers, 0.0)
            records.append(
                ((TOPICS.parked, 0), record.value, record.key, parked_headers(record, wait))
            )
        self.kafka.write(records)

    def relay(self) -> RelaySession:
        return RelaySession(Settings(), cast(Client, self.redis), self.gate)

    def work(self, session: RelaySession, turns: int = 3) -> None:
        for _ in range(turns):
            session._look_at = 0.0
            for _ in session.step():
                pass

    def returned(self) -> list[int]:
        """The numbers of those that came back, as they stand in the input."""
        return [orjson.loads(value or b"")["n"] for value in self.kafka.values(TOPICS.recipients)]

    def written(self, topic: str) -> list[Message]:
        return self.kafka.logs[topic, 0]


@pytest.fixture
def depot(monkeypatch: pytest.MonkeyPatch) -> FakeDepot:
    made = FakeDepot()
    monkeypatch.setattr(transactions, "Producer", made.kafka.producer)
    monkeypatch.setattr(reading, "Consumer", made.kafka.consumer)
    monkeypatch.setattr(relay, "AdminClient", lambda *_, **__: None)
    monkeypatch.setattr(relay, "topic_id", lambda *_: "id")
    monkeypatch.setattr(unmovable, "find", made.find)
    return made


def _source(message: Message) -> int | None:
    first = source_id(decode_headers(header_list(message) or []))
    return first and first.offset


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
    outcomes = [orjson.loads(message.value() or b"") for message in ended]
    assert [outcome["source"]["offset"] for outcome in outcomes] == [11, 21]
    for outcome, message in zip(outcomes, ended, strict=True):
        assert (outcome["status"], outcome["reason"]) == ("failed", "too_large")
        assert "campaign acme/spring" in outcome["detail"]
        assert message.key() == b"key"
    # Where they left, so that they are no more counted as parked.
    assert dict(header_list(ended[0]) or [])[PARKED_AT] == b"0/12"
    depot.work(session)
    assert session._gone[0] == OffsetSet(depot.kafka.ends[TOPICS.parked, 0] - 1)
    depot.work(depot.relay())
    assert len(depot.returned()) == 20
    assert len(ended) == 2


def test_a_possibly_mailed_record_is_not_failed(depot: FakeDepot) -> None:
    depot.park(SPRING, SPRING, size=_LIMIT)
    depot.claims = {
        "user0@example.com": Claim("b" * 24, 0, str(RecordId(TOPICS.recipients, 0, 0))),
        "user1@example.com": Claim("c" * 24, 0, str(RecordId(TOPICS.recipients, 0, 77))),
    }
    depot.kafka.limits[TOPICS.recipients] = _LIMIT
    depot.gate.open = {SPRING}
    depot.work(depot.relay())
    own, others = (orjson.loads(m.value() or b"") for m in depot.written(TOPICS.outcomes))
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
    assert _source(letter) == 0
    assert letter.value() is None  # it was refused there, too
    assert dict(header_list(letter) or [])[REASON] == b"invalid_event"


def test_a_record_rejected_by_the_parked_topic_is_resolved(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "_MAX_WASTE", 5)
    depot.park(AUTUMN, size=_LIMIT)
    depot.park(AUTUMN)
    depot.park(*[SPRING] * 10)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.kafka.limits[TOPICS.parked] = _LIMIT
    depot.work(session)
    assert depot.returned() == [*range(2, 12)]
    (ended,) = depot.written(TOPICS.outcomes)
    assert orjson.loads(ended.value() or b"")["reason"] == "too_large"
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


def test_offsets_before_the_base_are_dropped(depot: FakeDepot) -> None:
    """A relay lives for months, and each transaction that parks leaves a gap behind it."""
    depot.gate.open = {SPRING}
    session = depot.relay()
    for _ in range(50):
        depot.park(SPRING, SPRING)
        depot.work(session, 1)
    assert len(depot.returned()) == 100
    assert len(session._empty[0].spans) <= 1
    # What lies behind it is not: the base goes on where the first of them leaves.
    depot.park(AUTUMN)
    for _ in range(50):
        depot.park(SPRING)
    depot.work(session)
    depot.gate.open = {AUTUMN}
    depot.work(session)
    assert session._gone[0].spans == []
    assert session._gone[0].base == depot.kafka.ends[TOPICS.parked, 0] - 1


def test_an_unknown_offset_is_not_mistaken_for_a_new_partition(depot: FakeDepot) -> None:
    depot.park(SPRING)
    depot.kafka.errors[TOPICS.parked, 0] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(KafkaException):
        depot.relay()


@pytest.mark.parametrize("turn", [50, 1_000])
def test_bounded_reading_skips_no_record(
    depot: FakeDepot, monkeypatch: pytest.MonkeyPatch, turn: int
) -> None:
    """Who stands behind what is read in one turn comes in a later one, in its order."""
    monkeypatch.setattr(relay, "_OFFSETS_A_TURN", turn)
    monkeypatch.setattr(relay, "_CHUNK", 7)
    monkeypatch.setattr(reading, "_PORTIONS", 1)
    monkeypatch.setattr(waitlist, "SPAN", 20)
    monkeypatch.setattr(waitlist, "SEEK", 5)
    for at in range(100):
        depot.park(*[AUTUMN if (at + n) % 3 else SPRING for n in range(10)])
    session = depot.relay()
    depot.gate.open = {SPRING}
    depot.work(session, 10)
    depot.gate.open = {SPRING, AUTUMN}
    monkeypatch.setattr(relay, "_OFFSETS_A_TURN", 20_000)
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
