"""The way back from the parked topic, step by step: who comes back, once, whatever is forgotten."""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

import orjson
import pytest
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    NewPartitions,
)

from streamer.kafka.shared import shared_consumer
from streamer.model.parking import Scope
from streamer.model.record import Parked, Record, RecordId
from streamer.model.wire import parked_headers
from streamer.settings import KafkaSettings, Settings
from streamer.worker import relaying
from streamer.worker.relaying import RelaySession
from streamer.worker.scopes import ParkScopes
from tests.kit.harness import Harness, wait_until
from tests.kit.raw import produce_raw

SPRING, AUTUMN = (Parked(Scope.of_campaign("acme", name)) for name in ("spring", "autumn"))


class Gate(ParkScopes):
    """Scopes of which the test says which are free."""

    def __init__(self) -> None:
        self.open: set[Parked] = set()

    def released(self, waits: Collection[Parked]) -> set[Parked]:
        return self.open & set(waits)


class Depot:
    """A world with parked records, and relays that bring them back."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.gate = Gate()
        self.settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=harness.bootstrap_servers, group_id=harness.name),
            topics=harness.topics,
        )
        self.admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
        self.connect()
        self._sessions: list[RelaySession] = []
        self._offsets: Counter[int] = Counter()

    def connect(self) -> None:
        """Begin to write: it is known then which partitions there are."""
        self._producer = Producer(
            {
                "bootstrap.servers": self.harness.bootstrap_servers,
                "transactional.id": self.harness.name,
                "log_level": 0,
            }
        )
        self._producer.init_transactions(30)

    def park(
        self, waits: Iterable[Parked], partition: int = 0, value: bytes | None = None
    ) -> list[RecordId]:
        """Park a record for each in one transaction; returns where they stood first."""
        stood = []
        self._producer.begin_transaction()
        for wait in waits:
            first = RecordId(self.harness.topics.recipients, partition, self._offsets[partition])
            self._offsets[partition] += 1
            body = orjson.dumps({"n": first.offset}) if value is None else value
            record = Record(first, None, body, [("own", b"1")], 0.0)
            self._producer.produce(
                self.harness.topics.parked,
                record.value,
                b"key",
                partition=partition,
                headers=parked_headers(record, wait),
            )
            stood.append(first)
        self._producer.commit_transaction(30)
        return stood

    def relay(self) -> RelaySession:
        """A relay that takes the place of the one before."""
        before = len(self._sessions)
        wait_until(self._start, 30, "the relay starts")
        return self._sessions[before]

    def _start(self) -> bool:
        try:
            self._sessions.append(
                RelaySession(
                    self.settings, self.harness.redis, self.gate, shared_consumer(self.settings)
                )
            )
        except KafkaException:
            # A broker that was just started has no coordinator at once; a worker tries again.
            return False
        return True

    def work(self, session: RelaySession, returned: int) -> None:
        """Let it work until so many have come back in all, and nobody else does."""
        wait_until(lambda: self.step(session) and self.count() >= returned, 30, "they come back")
        for _ in range(3):
            self.step(session)
        assert self.count() == returned

    def read(self, session: RelaySession) -> None:
        """Let it read the parked topic to its end."""
        wait_until(
            lambda: (
                self.step(session)
                and len(session._ahead.ended) == len(session._departures.partitions)
            ),
            30,
            "it is read to the end",
        )

    def step(self, session: RelaySession) -> bool:
        """Let it go on, whatever the time is."""
        session._look_at = 0.0
        for _ in session.step():
            pass
        return True

    def count(self) -> int:
        """How many records came back."""
        return self.harness.returned().total()

    def returned(self) -> list[RecordId]:
        """Where those that came back first stood, as they stand in the input."""
        return self.harness.returned_from()

    def end(self, partition: int = 0) -> int:
        """Where a partition of the parked topic ends."""
        return self._watermarks(partition)[1]

    def beginning(self, partition: int = 0) -> int:
        """Where it begins."""
        return self._watermarks(partition)[0]

    def _watermarks(self, partition: int) -> tuple[int, int]:
        asked = TopicPartition(self.harness.topics.parked, partition)
        low, high = self._sessions[-1]._offsets().get_watermark_offsets(asked, 10)
        return low, high

    def forget_offsets(self) -> None:
        """What the broker does to offsets that nobody commits again."""
        (future,) = self.admin.delete_consumer_groups([f"{self.harness.name}.relay"]).values()
        future.result()

    def close(self) -> None:
        for session in self._sessions:
            session.close()


@pytest.fixture
def depot(harness: Harness) -> Iterator[Depot]:
    made = Depot(harness)
    yield made
    made.close()


def test_waiting_records_are_not_moved(depot: Depot) -> None:
    """Returns of a few do not write the others anew, and another relay knows who left."""
    stood = depot.park(([SPRING] * 40 + [AUTUMN]) * 50)
    session = depot.relay()
    depot.read(session)
    end = depot.end()
    depot.gate.open = {AUTUMN}
    depot.work(session, 50)
    # Behind what was there is nothing but what marks the end of the transaction.
    assert depot.end() == end
    assert sorted(depot.returned()) == stood[40::41]
    assert len(depot.harness.parked()) == 2_000
    depot.gate.open = {SPRING}
    depot.work(depot.relay(), 2_050)
    assert sorted(depot.returned()) == stood
    assert depot.harness.parked() == []
    spring = [first.offset for first in depot.returned() if first.offset % 41 != 40]
    assert spring == sorted(spring)


def test_no_record_returns_twice_after_the_broker_lost_offsets(depot: Depot) -> None:
    stood = depot.park([SPRING, AUTUMN] * 20) + depot.park([SPRING, AUTUMN] * 20, 1)
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay(), 40)
    depot.forget_offsets()
    assert len(depot.harness.parked()) == 80
    session = depot.relay()
    depot.work(session, 40)
    assert len(depot.harness.parked()) == 40  # they are committed again
    depot.gate.open = {SPRING}
    depot.work(session, 80)
    assert sorted(depot.returned()) == sorted(stood)


def test_returned_records_are_deleted_once_counted(depot: Depot) -> None:
    depot.park([SPRING] * 20)
    depot.park([AUTUMN] * 5)
    session = depot.relay()
    depot.gate.open = {SPRING}
    depot.work(session, 20)
    session._cut_at = 0.0
    depot.step(session)
    assert depot.beginning() == 20
    depot.gate.open = {AUTUMN}
    depot.work(depot.relay(), 25)


def test_added_partitions_are_used(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relaying, "_PARTITIONS_EVERY_S", 0.0)
    depot.park([SPRING])
    session = depot.relay()
    depot.gate.open = {SPRING}
    depot.work(session, 1)
    new = [
        NewPartitions(t, 6) for t in (depot.harness.topics.parked, depot.harness.topics.recipients)
    ]
    for future in depot.admin.create_partitions(new).values():
        future.result()

    def is_parked() -> bool:
        try:
            return bool(depot.park([SPRING], 5))
        except KafkaException:  # not all brokers know of it yet
            depot.connect()
            return False

    wait_until(is_parked, 30, "a record is parked in the new one")
    depot.work(session, 2)
    assert depot.harness.returned() == {0: 1, 5: 1}


def test_foreign_records_are_skipped(depot: Depot) -> None:
    servers, topic = depot.harness.bootstrap_servers, depot.harness.topics.parked
    produce_raw(servers, topic, b"{}", [(b"\xff\xfe", b"1"), (b"streamer-parked-for", b"x")])
    produce_raw(servers, topic, b"{}", [])
    stood = [first for partition in range(4) for first in depot.park([SPRING], partition)]
    session = depot.relay()
    depot.gate.open = {SPRING}
    depot.work(session, 4)
    assert sorted(depot.returned()) == sorted(stood)


def test_a_record_too_large_to_return_is_resolved(depot: Depot) -> None:
    """As large as the input takes: with the headers that say where it first stood it is larger."""
    noise = random.Random(0).randbytes(9_000).hex()
    event = orjson.dumps(depot.harness.event(7, variables={"first_name": noise}))
    stood = depot.park([SPRING] * 300)
    (too_large,) = depot.park([SPRING], value=event)
    stood += depot.park([SPRING] * 100)
    (no_event,) = depot.park([SPRING], value=event[:-1])
    stood += depot.park([SPRING] * 300)
    depot.harness.limit_messages(depot.harness.topics.recipients, 9_000)
    depot.gate.open = {SPRING}
    session = depot.relay()
    depot.work(session, len(stood))
    assert depot.returned() == stood
    depot.work(depot.relay(), len(stood))
    outcome, dead = sorted(
        depot.harness.resolutions(), key=lambda resolution: resolution.status == "dead"
    )
    assert (outcome.source, outcome.status, outcome.reason) == (too_large, "failed", "too_large")
    assert (dead.source, dead.status, dead.reason) == (no_event, "dead", "undecodable")
    assert depot.harness.parked() == []
