"""Commands read a topic up to its end, from its start or a time."""

import pytest
from confluent_kafka import KafkaException

from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.reading import ReadError
from streamer.kafka.stored import PartitionRange, Reader
from streamer.settings import Settings
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.fakes.kafka.admin import FakeAdminClient
from tests.kit.fakes.kafka.consumer import FakeConsumer
from tests.unit.kafka.written import B, write, write_in_open_transaction

_SETTINGS = Settings()


@pytest.fixture
def command(kafka: FakeKafka) -> Reader:
    def show(*_: object) -> None:
        raise AssertionError("nothing is shown without a label")

    return Reader(_SETTINGS, KafkaErrorLog(_SETTINGS), show)  # type: ignore[arg-type]  # not called


def test_a_command_reads_up_to_the_current_end(kafka: FakeKafka, command: Reader) -> None:
    write(kafka, b"a")
    write(kafka, b"b", partition=B)
    producer = write_in_open_transaction(kafka, b"open")
    spans = command.spans("t")
    assert spans == [PartitionRange(0, 0, 2), PartitionRange(1, 0, 2)]
    assert [(r.record_id.partition, r.value) for r in command.read("t", spans)] == [
        (0, b"a"),
        (1, b"b"),
    ]
    wider = command.spans("t", include_open_transactions=True)
    assert wider[0] == PartitionRange(0, 0, 3)
    producer.commit()
    assert [r.value for r in command.read("t", wider)] == [b"a", b"open", b"b"]
    assert [*command.read("t", [PartitionRange(0, 2, 2)])] == []


def test_a_command_reads_since_a_time(kafka: FakeKafka, command: Reader) -> None:
    write(kafka, b"old")
    kafka.clock.sleep(100)
    since_ms = int(kafka.clock.now * 1_000)
    write(kafka, b"new")
    spans = command.since("t", command.spans("t"), since_ms)
    assert [r.value for r in command.read("t", spans)] == [b"new"]
    kafka.clock.sleep(100)
    spans = command.since("t", command.spans("t"), int(kafka.clock.now * 1_000))
    assert [*command.read("t", spans)] == []


def test_what_is_in_an_open_transaction_is_read_since_a_time(
    kafka: FakeKafka, command: Reader
) -> None:
    write(kafka, b"old")
    kafka.clock.sleep(100)
    since_ms = int(kafka.clock.now * 1_000)
    write(kafka, b"new", partition=B)
    producer = write_in_open_transaction(kafka, b"open")
    spans = command.whole_since("t", since_ms)
    producer.commit()
    assert [r.value for r in command.read("t", spans)] == [b"open", b"new"]
    assert [r.value for r in command.read("t", command.whole_since("t", None))] == [
        b"old", b"open", b"new",
    ]  # fmt: skip


def test_a_missing_topic_is_an_error(kafka: FakeKafka, command: Reader) -> None:
    with pytest.raises(ReadError, match="topic nothing does not exist"):
        command.spans("nothing")


@pytest.mark.parametrize("request_", [KafkaApi.METADATA, KafkaApi.LIST_OFFSETS])
def test_an_unresponsive_kafka_is_an_error(
    kafka: FakeKafka, command: Reader, request_: KafkaApi
) -> None:
    kafka.answer(request_, Silence.UNHEARD)
    with pytest.raises(KafkaException):
        command.spans("t")


def test_both_clients_know_the_leaders_before_they_need_them(
    command: Reader, kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    for client in (FakeAdminClient, FakeConsumer):
        ask = client.list_topics

        def note(self: object, *given: object, ask: object = ask, **more: object) -> object:
            told.append(type(self).__name__)
            assert callable(ask)
            return ask(self, *given, **more)

        monkeypatch.setattr(client, "list_topics", note)
    command.spans("t")
    assert sorted(told) == ["FakeAdminClient", "FakeConsumer"]
