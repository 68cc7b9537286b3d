"""What a rebuild makes of each record that Kafka knows; workers are in `test_old_snapshot.py`."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from pydantic import JsonValue

from streamer.cli.common import kafka_admin
from streamer.cli.reading import topic_reader
from streamer.feedback.applier import Application
from streamer.ledger import claim_reader, keys, suppression
from streamer.ledger.claims import Claims
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, By, Hold, Holds
from streamer.ledger.pulse import Pulse
from streamer.model.campaign import CampaignName
from streamer.model.payload import Payload
from streamer.model.pulse import OffsetMetadata
from streamer.model.record import Headers, Record, RecordId
from streamer.model.wire import PARKED_PINNED, source_headers
from streamer.recovery.rebuild import Rebuilder, RebuildError, RebuildReport
from streamer.settings import Settings
from streamer.stack import RedisServer
from tests.kit.harness import Harness
from tests.kit.mail_events import event_value

_CAMPAIGN = "spring"


class RebuildBench:
    """A group whose topics and ledger a test fills by hand."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.client: Client = harness.redis
        self.epoch = Epoch.establish(self.client, ())
        pulse = Pulse(self.client, self.epoch, harness.name)
        pulse.begin([])
        self.pulse = pulse.value
        self.claims = Claims(self.client, self.epoch, 90_000)
        self.settings = Settings()
        self._producer = Producer({"bootstrap.servers": harness.bootstrap_servers, "log_level": 0})

    def write(self, topic: str, value: dict[str, object], headers: Headers | None = None) -> None:
        """Write to partition 0 of a topic."""
        self._producer.produce(topic, orjson.dumps(value), partition=0, headers=headers or [])
        assert not self._producer.flush(20)

    def recipients(self, *numbers: int) -> None:
        """Write input records to partition 0, the first at offset 0."""
        for number in numbers:
            self.write(self.harness.topics.recipients, self.harness.event(number))

    def park(self, number: int, offset: int, *headers: tuple[str, bytes]) -> None:
        """Write a parked record, which was at this offset of the input."""
        self.write(
            self.harness.topics.parked,
            self.harness.event(number),
            [*source_headers(self.source(offset)), *headers],
        )

    def outcome(self, number: int, offset: int, status: str, **changes: JsonValue) -> None:
        """Write an outcome."""
        topic, partition, at = self.source(offset)
        outcome: dict[str, object] = {
            "organization_id": self.harness.organization,
            "campaign_id": _CAMPAIGN,
            "recipient_id": f"r-{number}",
            "email": _address(number),
            "status": status,
            "reason": None,
            "detail": None,
            "email_id": None,
            "batch_id": None,
            "attempts": 1,
            "occurred_at": datetime.now(UTC).isoformat(),
            "source": {"topic": topic, "partition": partition, "offset": at},
        }
        self.write(self.harness.topics.outcomes, outcome | changes)

    def commit(self, offset: int, reach: int | None) -> None:
        """Commit an offset of partition 0, under a later pulse than the ledger's."""
        metadata = OffsetMetadata(self.epoch.name, self.pulse + 60_000, reach)
        consumer = Consumer(
            {"bootstrap.servers": self.harness.bootstrap_servers, "group.id": self.harness.name}
        )
        at = TopicPartition(self.harness.topics.recipients, 0, offset, str(metadata))
        consumer.commit(offsets=[at], asynchronous=False)
        consumer.close()

    def source(self, offset: int) -> RecordId:
        return RecordId(self.harness.topics.recipients, 0, offset)

    def pin(self, number: int, offset: int) -> str:
        """Pin a record alone; return its batch."""
        record = Record(self.source(offset), None, None, None, 0.0)
        record.address, record.campaign_id = _address(number), _CAMPAIGN
        batch = secrets.token_hex(12)
        payload = Payload([orjson.dumps({"to": [_address(number)]})])
        organization = self.harness.organization
        self.claims.pin(organization, batch, "default", "d.test", [record], payload)
        return batch

    def holder(self, number: int) -> RecordId | None:
        """The record that has the claim on an address."""
        found = claim_reader.find(
            self.client, self.harness.organization, _CAMPAIGN, _address(number)
        )
        return None if found is None else found.claim.record_id

    def rebuild(self) -> RebuildReport | None:
        """Rebuild the ledger."""
        with topic_reader(self.settings) as reader, kafka_admin(self.settings) as admin:
            events = Application(self.settings, self.client)
            rebuilder = Rebuilder(self.settings, self.client, admin, reader, events.apply)
            return rebuilder.run(lambda found, since: None)

    def lost(self) -> set[int]:
        """Rebuild the ledger; return the numbers of the recipients whose fate is unknown."""
        report = self.rebuild()
        assert report is not None
        assert report.accepted
        assert set(report.campaigns) <= {CampaignName(self.harness.organization, _CAMPAIGN)}
        assert self.rebuild() is None
        return {
            int(lost.address.removeprefix("user").partition("@")[0])
            for lost in report.lost.values()
        }


@pytest.fixture
def bench(
    make_redis: Callable[[], RedisServer],
    make_harness: Callable[..., Harness],
    monkeypatch: pytest.MonkeyPatch,
) -> RebuildBench:
    harness = make_harness(redis=make_redis())
    for name, value in harness.environment().items():
        monkeypatch.setenv(name, value)
    return RebuildBench(harness)


def _address(number: int) -> str:
    return f"user{number}@example.com"


def test_only_records_between_offset_and_reach_are_lost(bench: RebuildBench) -> None:
    bench.recipients(*range(6))
    bench.commit(2, 4)
    assert bench.lost() == {2, 3}
    assert [bench.holder(n) is not None for n in range(6)] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_without_a_reach_all_to_the_end_are_lost(bench: RebuildBench) -> None:
    """As earlier versions committed it."""
    bench.recipients(*range(4))
    bench.commit(1, None)
    assert bench.lost() == {1, 2, 3}


def test_a_record_that_the_ledger_knows_keeps_its_result(bench: RebuildBench) -> None:
    bench.recipients(0, 1)
    known, sent = bench.pin(0, 0), bench.pin(1, 1)
    bench.client.set(keys.result(bench.harness.organization, known), b"default\n1\n" + _RESULT)
    bench.commit(0, 2)
    assert bench.lost() == {1}
    assert bench.claims.load(bench.harness.organization, known) is not None
    assert bench.claims.load(bench.harness.organization, sent) is None


_RESULT = b"\x01\x00\x00\x00\x01\x00\x00\x00\x00"
"""Of a batch without items."""


def test_each_outcome_is_claimed_again(bench: RebuildBench) -> None:
    batch = secrets.token_hex(12)
    bench.recipients(*range(4))
    bench.outcome(0, 0, "sent", batch_id=batch, email_id="x")
    bench.outcome(1, 1, "failed", reason="rejected", batch_id=batch)
    bench.outcome(2, 2, "skipped", reason="suppressed")
    bench.outcome(3, 3, "indeterminate", reason="provider_error")
    bench.commit(4, 4)
    assert bench.lost() == set()
    assert [bench.holder(n) for n in range(4)] == [
        bench.source(0),
        bench.source(1),
        None,
        bench.source(3),
    ]


def test_parked_records_are_lost_only_if_they_may_have_been_pinned(bench: RebuildBench) -> None:
    bench.recipients(*range(4))
    bench.commit(4, 4)
    bench.park(0, 0)
    bench.park(1, 1, (PARKED_PINNED, b"1"))
    bench.park(2, 2, (PARKED_PINNED, b"1"))
    bench.outcome(2, 2, "skipped", reason="cancelled")  # it has returned since
    assert bench.lost() == {1}
    assert [bench.holder(n) for n in range(4)] == [None, bench.source(1), None, None]


def test_a_batch_that_tests_a_hold_is_not_sent_again(bench: RebuildBench) -> None:
    """It may have been sent as a test since; and unpinned, and its records pinned anew."""
    bench.recipients(0)
    batch = BatchRef(bench.harness.organization, bench.pin(0, 0))
    assert bench.claims.defer(*batch, "")
    hold = Hold(by=By.ANSWER, reason="quota", detail="", since=datetime.now(UTC))
    Holds(bench.client).put("default", None, hold, batch=batch, sender="d.test")
    bench.commit(1, 1)
    bench.park(0, 0)
    assert bench.lost() == {0}
    assert bench.claims.load(*batch) is None
    assert bench.holder(0) == bench.source(0)


def test_invalid_records_in_flight_are_left_to_the_workers(bench: RebuildBench) -> None:
    topic = bench.harness.topics.recipients
    bench.write(topic, {"no": "event"})
    bench.write(topic, bench.harness.event(1, email="nobody"))
    bench.commit(0, 2)
    assert bench.lost() == set()


def test_another_ledger_is_refused(bench: RebuildBench) -> None:
    bench.commit(0, 0)
    bench.client.set(keys.EPOCH, "another")
    with pytest.raises(RebuildError, match="another ledger"):
        bench.rebuild()


def test_a_ledger_that_never_was_is_refused(bench: RebuildBench) -> None:
    bench.client.flushall()
    with pytest.raises(RebuildError, match="no ledger yet"):
        bench.rebuild()


def test_two_rebuilds_do_not_run_at_once(bench: RebuildBench) -> None:
    bench.commit(0, 0)
    bench.client.set(keys.rebuild_lease(bench.harness.name), "somebody")
    with pytest.raises(RebuildError, match="is running"):
        bench.rebuild()
    assert bench.client.get(keys.rebuild(bench.harness.name)) is None


def test_who_unsubscribed_since_is_suppressed_again(bench: RebuildBench) -> None:
    """The workers have committed that they applied it: to the ledger that was lost."""
    name = CampaignName(bench.harness.organization, _CAMPAIGN)
    bench.write(
        bench.harness.topics.events,
        orjson.loads(event_value("unsubscribed", _address(1), name=name)),
    )
    bench.commit(0, 0)
    report = bench.rebuild()
    assert report is not None
    assert report.events == 1
    organization = bench.harness.organization
    assert suppression.check(bench.client, organization, [_address(1)]) == [True]
