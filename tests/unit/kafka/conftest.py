import pytest

from streamer.kafka import reading, transactions
from tests.unit.kafka.fake import FakeConsumer, FakeProducer


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    """What every transactional producer is made of."""
    made = FakeProducer()
    monkeypatch.setattr(transactions, "Producer", made)
    monkeypatch.setattr(transactions, "_RETRY_S", 0.0)
    return made


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    """What every reader is made of."""
    made = FakeConsumer()
    monkeypatch.setattr(reading, "Consumer", made)
    return made
