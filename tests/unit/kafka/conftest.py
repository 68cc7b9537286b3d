import pytest

from streamer.kafka import reading, repeating, stored, transactions
from tests.kit.fakes.kafka import FakeKafka


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeKafka:
    """A Kafka with a topic `t` of two partitions, beneath `streamer.kafka`."""
    made = FakeKafka({"t": 2})
    made.install(monkeypatch, reading, stored, repeating, transactions)
    return made
