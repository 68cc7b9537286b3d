"""First and end offsets."""

from concurrent.futures import Future
from types import SimpleNamespace
from typing import cast

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.offsets import LATEST, OffsetsQuestion


@pytest.mark.parametrize(
    ("code", "refreshes"),
    [
        (KafkaError.FENCED_LEADER_EPOCH, 1),
        (KafkaError.UNKNOWN_LEADER_EPOCH, 1),
        (KafkaError._TIMED_OUT, 0),
    ],
)
def test_a_leader_epoch_of_before_a_crash_is_asked_for_again(code: int, refreshes: int) -> None:
    asked: list[float] = []

    def list_offsets(wanted: dict[object, object], **_: object) -> dict[object, Future[object]]:
        failed: Future[object] = Future()
        failed.set_exception(KafkaException(KafkaError(code)))
        return dict.fromkeys(wanted, failed)

    admin = SimpleNamespace(
        list_offsets=list_offsets, list_topics=lambda timeout: asked.append(timeout)
    )
    question = OffsetsQuestion(cast(AdminClient, admin), [("t", 0)], LATEST)
    with pytest.raises(KafkaException):
        question.answer()
    assert len(asked) == refreshes
