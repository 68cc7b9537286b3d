"""The sender threads are there while there is something to send."""

import threading
from typing import cast

from streamer.flow.batcher import Batcher
from streamer.flow.concurrency import ConcurrencyLimiter
from streamer.flow.failures import FailureTracker
from streamer.model.event import RecipientEvent
from streamer.model.record import Record, RecordId
from streamer.worker.delivery import Delivery
from streamer.worker.dispatch import Dispatcher
from tests.kit.harness import wait_until

_PATIENCE_S = 10.0


class _Delivery:
    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def run(self, organization: str, records: list[Record]) -> None:
        assert (organization, len(records)) == ("acme", 1)
        self.threads.append(threading.current_thread())


def test_the_threads_end_when_there_is_nothing_to_send_and_are_made_again() -> None:
    batcher, delivery = Batcher(1, 0.0), _Delivery()
    dispatcher = Dispatcher(
        cast(Delivery, delivery),
        batcher,
        ConcurrencyLimiter(lambda _: "default", 1, 8),
        FailureTracker(20.0),
        batch_size=1,
        max_queued=100,
        set_aside_s=20.0,
    )

    def send(now: float) -> threading.Thread:
        record = Record(RecordId("t", 0, 0), None, b"", None, now)
        record.attach_event(
            RecipientEvent(
                organization_id="acme", campaign_id="spring", recipient_id="r", email="a@b.test"
            )
        )
        batcher.add([record])
        dispatcher.dispatch(now)
        wait_until(lambda: len(delivery.threads) == 1, _PATIENCE_S, "it is sent")
        return delivery.threads.pop()

    first = send(100.0)
    assert send(105.0) is first
    while dispatcher:
        dispatcher.dispatch(106.0)
    dispatcher.dispatch(115.0)
    assert first.is_alive()
    dispatcher.dispatch(116.1)
    first.join(_PATIENCE_S)
    assert not first.is_alive()
    assert send(200.0) is not first
    dispatcher.close()
