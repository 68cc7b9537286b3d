"""How a worker ends whose transactions fail for good."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.flow.batcher import Batcher
from streamer.flow.window import PartitionWindow
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record, RecordId
from streamer.worker.admission import Admission
from streamer.worker.committer import Committer
from streamer.worker.dispatch import Dispatcher
from streamer.worker.life import Life
from streamer.worker.measures import Measures
from streamer.worker.pipeline import Pipeline
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.source import RecordSource, Windows
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiter import Waiter
from tests.kit.fakes.kafka import errors


class _Source:
    """Gives its partition up when it is closed, as a consumer does."""

    def __init__(self) -> None:
        window = PartitionWindow(0, is_marked=True)
        record = Record(RecordId("t", 0, 0), None, b"?", None, 0.0)
        window.admit(record)
        record.resolve(DeadLetter(DeadReason.UNDECODABLE, "not JSON"), 0.0)
        self.windows: Windows = {("t", 0): window}

    def start(self, check: object, on_revoke: Callable[[Windows], None]) -> None:
        self._on_revoke = on_revoke

    def close(self) -> None:
        self._on_revoke(self.windows)


def test_a_failed_last_commit_still_closes_everything() -> None:
    closed: list[str] = []

    def commit(windows: Windows) -> bool:
        raise KafkaException(errors.fatal(KafkaError._FENCED, "fenced"))

    def part(name: str, **calls: object) -> SimpleNamespace:
        return SimpleNamespace(close=lambda: closed.append(name), start=lambda: None, **calls)

    pipeline = Pipeline(
        cast(RecordSource, _Source()),
        cast(Admission, part("admission", poll=lambda now: [], admit=lambda records: None)),
        cast(Batcher, part("batcher", discard=lambda records: set())),
        cast(Dispatcher, part("dispatcher", dispatch=lambda now: None)),
        cast(Committer, part("committer", commit=commit, in_haste=False)),
        cast(Measures, part("measures", is_much_done=lambda: True)),
        cast(EpochVerifier, part("verifier", check_arrived=None)),
        cast(Prober, part("prober")),
        cast(Relay, part("relay", join=lambda seconds: closed.append("relay"))),
        Waiter(),
        cast(Life, part("life", enter=lambda state: None)),
        1.0,
    )
    with pytest.raises(KafkaException, match="fenced"):
        pipeline.run()
    assert closed == ["dispatcher", "verifier", "committer", "relay"]
