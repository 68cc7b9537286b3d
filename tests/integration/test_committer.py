"""The committer on a Kafka that takes less than records need: each ends, and none keeps others."""

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, Message

from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.window import PartitionWindow
from streamer.kafka.headers import header_list
from streamer.model.event import parse
from streamer.model.parking import Scope
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import (
    DeadLetter,
    Headers,
    Outcome,
    Parked,
    Record,
    RecordId,
    Resolution,
)
from streamer.model.wire import DETAIL, REASON, SOURCE_OFFSET
from streamer.settings import Settings
from streamer.worker.checkpoint import no_checkpoint
from streamer.worker.committer import Committer, fencing_producer
from tests.kit.harness import Harness, wait_until

_LIMIT = 10_000
_EVENT = parse(b'{"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"}')
_DETAIL = random.Random(0).randbytes(600).hex()
_INVALID = DeadLetter(DeadReason.INVALID_EVENT, _DETAIL)
_PAUSED = Parked(Scope.of_campaign("o", "c"))
_ADDRESS = Outcome.of(Reason.INVALID_ADDRESS, "no address")


@pytest.fixture
def member(harness: Harness) -> Iterator[Consumer]:
    """A member of the group that commits."""
    consumer = Consumer(
        {"bootstrap.servers": harness.bootstrap_servers, "group.id": harness.name, "log_level": 0}
    )
    with closing(consumer):
        consumer.subscribe([harness.topics.recipients])

        def has_partitions() -> bool:
            consumer.poll(0.05)
            return bool(consumer.assignment())

        wait_until(has_partitions, 20, "the group has a member")
        yield consumer


@pytest.fixture
def committer(
    harness: Harness, member: Consumer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Committer]:
    """A committer whose topics take small records alone."""
    for name in ("outcomes", "dead_letters", "parked"):
        harness.limit_messages(getattr(harness.topics, name), _LIMIT)
    for name, value in harness.environment().items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    made = Committer(
        fencing_producer(settings),
        settings.topics,
        member.consumer_group_metadata,
        "an epoch",
        lambda: 0,
        4,
        DeadLetterBreaker(1_000, 1.0),
        no_checkpoint,
    )
    yield made
    made.close()


def _noise(size: int) -> bytes:
    """Bytes that cannot be compressed: Kafka holds its limit against what compression leaves."""
    return random.Random(size).randbytes(size)


class _Window(PartitionWindow):
    """A window that tests fill with records that are decided."""

    def __init__(self, topic: str) -> None:
        super().__init__(0, is_marked=True)
        self._topic = topic
        self.offset = 0

    def end(
        self,
        resolution: Resolution,
        value: int = 10,
        headers: int = 0,
        key: int = 3,
        email: str = "e",
    ) -> int:
        """Add a record of such sizes in bytes; returns its offset."""
        record_id = RecordId(self._topic, 0, self.offset)
        theirs: Headers | None = [("theirs", _noise(headers))] if headers else None
        record = Record(record_id, _noise(key), _noise(value), theirs, 0.0)
        if not isinstance(resolution, DeadLetter):
            record.attach_event(_EVENT)
            record.email = email
        record.resolve(resolution, 1.0)
        self.admit(record)
        self.offset += 1
        return self.offset - 1

    def commit(self, committer: Committer) -> None:
        """Commit all, whatever it takes."""
        wait_until(
            lambda: committer.commit({(self._topic, 0): self}) and not len(self),
            30,
            "all is committed",
        )


def test_a_result_rejected_by_kafka_is_reduced_and_blocks_no_other(
    harness: Harness, committer: Committer
) -> None:
    window = _Window(harness.topics.recipients)
    small = [window.end(_INVALID) for _ in range(50)]
    without_detail = window.end(_INVALID, _LIMIT - 1_000, headers=100)
    without_headers = window.end(_INVALID, _LIMIT - 1_000, headers=1_000)
    without_value = window.end(_INVALID, 2 * _LIMIT, headers=100)
    beyond_the_client = window.end(_INVALID, 11_000_000)
    without_key = window.end(_INVALID, key=2 * _LIMIT)
    not_parked = window.end(_PAUSED, 2 * _LIMIT)
    not_parked_pinned = window.end(replace(_PAUSED, maybe_pinned=True), 2 * _LIMIT)
    no_address = window.end(_ADDRESS, email="@" * 2 * _LIMIT)
    parked, last = window.end(_PAUSED), window.end(_ADDRESS)
    window.commit(committer)

    letters = {_offset(message): message for message in harness.dead_letters()}
    assert sorted(letters) == [
        *small, without_detail, without_headers, without_value, beyond_the_client, without_key
    ]  # fmt: skip
    assert all(_words(letters[offset])[REASON] == b"invalid_event" for offset in letters)
    assert {_words(letters[offset])[DETAIL] for offset in small} == {_DETAIL.encode()}
    for offset, size in ((without_detail, 100), (without_headers, 0)):
        assert _words(letters[offset])[DETAIL] == b""
        assert len(_words(letters[offset]).get("theirs", b"")) == size
        assert letters[offset].value() == _noise(_LIMIT - 1_000)
    for offset in (without_value, beyond_the_client):
        assert letters[offset].value() is None
        assert b"bytes was rejected" in _words(letters[offset])[DETAIL]
    assert letters[without_key].key() is None

    outcomes = {_source_offset(outcome): outcome for outcome in harness.outcomes()}
    assert sorted(outcomes) == [not_parked, not_parked_pinned, no_address, last]
    assert outcomes[not_parked]["reason"] == "too_large"
    assert outcomes[not_parked_pinned]["reason"] == "provider_error"
    assert str(outcomes[no_address]["email"]).startswith("@@@")
    assert [record_id.offset for record_id in harness.parked()] == [parked]


def _words(message: Message) -> dict[str, bytes]:
    return {name: value for name, value in header_list(message) or () if isinstance(value, bytes)}


def _offset(message: Message) -> int:
    return int(_words(message)[SOURCE_OFFSET])


def _source_offset(outcome: dict[str, object]) -> int:
    source = outcome["source"]
    assert isinstance(source, dict)
    return int(source["offset"])
