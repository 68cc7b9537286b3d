"""Which batch is delivered next, and by which thread."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from streamer.flow.batcher import Batcher
from streamer.flow.places import Places
from streamer.flow.troubles import Troubles
from streamer.model.parking import Scope
from streamer.model.record import Parked
from streamer.worker.batch import new_id
from streamer.worker.delivery import Delivery
from streamer.worker.filling import with_spare
from streamer.worker.waiting import StoppedError

_CROWD = 0.25
"""The part of the queue that an organization in trouble may fill."""


class Dispatcher:
    """Gives the queue's batches to the threads `sender`, which it owns.

    Its methods are called by the thread that owns the consumer.

    Args:
        batch_size: records that a batch takes.
        most_queued: records that the queue holds, about.
        set_aside_s: for how long, about, a queue is set aside.
    """

    def __init__(
        self,
        delivery: Delivery,
        batcher: Batcher,
        places: Places,
        troubles: Troubles,
        batch_size: int,
        most_queued: int,
        set_aside_s: float,
    ) -> None:
        self._delivery = delivery
        self._batcher = batcher
        self._places = places
        self._troubles = troubles
        self._batch_size = batch_size
        self._much = most_queued * _CROWD
        self._set_aside_s = set_aside_s
        self._under_way: dict[Future[None], str] = {}
        """Batches, with their organizations."""
        self._senders = ThreadPoolExecutor(places.all, thread_name_prefix="sender")

    def __len__(self) -> int:
        """How many batches are under way."""
        return len(self._under_way)

    def dispatch(self, now: float) -> None:
        """Give batches to idle senders, and notice how the others ended.

        Raises:
            Exception: a delivery did, for other than the worker's stop.
        """
        for delivery in [delivery for delivery in self._under_way if delivery.done()]:
            del self._under_way[delivery]
            error = delivery.exception()
            if error is not None and not isinstance(error, StoppedError):
                raise error
        for organization in set(self._under_way.values()):
            while self._makes_room(organization, now):
                self._set_aside(organization)
        most = with_spare(self._batch_size)
        while (
            ready := self._batcher.take_ready(
                now, most, self._is_closed, lambda name: not self._has_place(name, now)
            )
        ) is not None:
            self._under_way[self._senders.submit(self._delivery.run, *ready)] = ready[0]

    def close(self) -> None:
        """Begin no more; what is under way is left to itself."""
        self._senders.shutdown(wait=False, cancel_futures=True)

    def _is_closed(self, account: str | None) -> bool:
        """Whether no batch of the account may be under way beside those that are."""
        return self._places.is_closed(account, self._under_way.values())

    def _has_place(self, organization: str, now: float) -> bool:
        """Whether one more batch of the organization may be under way."""
        most_own = self._troubles.most_batches(organization, self._places.share, now)
        return self._places.has_one(organization, self._under_way.values(), most_own)

    def _makes_room(self, organization: str, now: float) -> bool:
        """Whether what an organization in trouble has queued goes aside while it has no place."""
        queued = self._batcher.queued(organization)
        return (
            queued > 0
            and not self._has_place(organization, now)
            and self._troubles.sets_queue_aside(
                organization, self._places.share, now, is_much=queued > self._much
            )
        )

    def _set_aside(self, organization: str) -> None:
        """Park a batch of records as they are: those that were pinned, too, are tried when they
        are back."""
        now = time.time()
        # Not each at a time of its own: bringing some back moves all that are parked.
        until_s = (now // self._set_aside_s + 2) * self._set_aside_s
        scope = Scope.of_batch(organization, new_id())
        for record in self._batcher.take(organization, self._batch_size):
            record.end(Parked(scope, round(until_s * 1000), perhaps_pinned=True), now)
