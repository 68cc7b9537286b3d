"""Groups of records that become batches: one organization's, full or old enough."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heappush
from itertools import count
from math import inf
from threading import RLock

from streamer.model.record import Record

_BY_AGE_EVERY = 4
"""Of so many turns one is that of who waits for longest, whoever has more."""


class Batcher:
    """Admitted records that wait for a batch, by organization and campaign.

    Those of a campaign are first in, first out. An organization is ready when it can fill a batch,
    or when its oldest record waited enough. Of those that are ready the fullest comes first, and
    now and then the one that is ready for longest: where batches wait for their calls none goes
    with less than could be had, and nobody starves. Among equals they take turns, and so do
    accounts, and the campaigns of one organization. All methods may be called from any thread;
    none looks at more organizations than it has to. Times are seconds of one clock of the
    caller's.

    Args:
        size: records of a full batch.
        linger: seconds that a record waits for its batch to fill, at the longest.
        account_of: the account of an organization; None if no account serves it.
    """

    def __init__(
        self, size: int, linger: float, account_of: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._size = size
        self._linger = linger
        self._account_of = account_of
        self._queues: dict[str, _Queue] = {}
        self._turns: OrderedDict[str | None, _Turns] = OrderedDict()
        """Of the organizations of each account."""
        self._lock = RLock()  # who is asked by `take_ready` may ask back
        self._length = self._bytes = self._full = 0

    def add(self, records: Iterable[Record]) -> None:
        """Queue records behind those of their campaigns."""
        with self._lock:
            for record in records:
                queue = self._queue(record.organization_id)
                queue.of(record.campaign_id).append(record)
                self._grown(queue, record)

    def put_back(self, organization: str, records: Collection[Record]) -> None:
        """Queue records that were taken and not used in front of the others."""
        with self._lock:
            for record in reversed(list(records)):
                queue = self._queue(organization)
                queue.of(record.campaign_id).appendleft(record)
                self._grown(queue, record)

    def take_ready(
        self,
        now: float,
        count: int,
        is_saturated: Callable[[str | None], bool],
        is_passed_over: Callable[[str], bool],
    ) -> tuple[str, list[Record]] | None:
        """The next organization that is ready, and up to `count` of its records, taken.

        Args:
            is_saturated: whether it is the turn of none of an account's organizations.
            is_passed_over: whether it is not an organization's turn, whatever it has.
        """
        with self._lock:
            for account, turns in self._turns.items():
                turns.ripen(now)
                if not len(turns) or is_saturated(account):
                    continue
                queue = turns.next(is_passed_over)
                if queue is not None:
                    self._turns.move_to_end(account)
                    return queue.organization, self.take(queue.organization, count)
        return None

    def overdue(self, record: Record, now: float) -> bool:
        """Whether a record has waited for its batch as long as it may."""
        return now >= record.admitted_at + self._linger

    def take(self, organization: str, count: int) -> list[Record]:
        """Take up to `count` records of the organization, as many of each campaign as there are
        places for each."""
        with self._lock:
            queue = self._queues.get(organization)
            if queue is None:
                return []
            before = queue.length
            taken = queue.take(count)
            self._bytes -= sum(record.size for record in taken)
            self._shrunk(queue, before)
            return taken

    def queued(self, organization: str) -> int:
        """How many records of the organization wait."""
        with self._lock:
            queue = self._queues.get(organization)
            return 0 if queue is None else queue.length

    def discard(self, unwanted: Iterable[Record]) -> set[int]:
        """Forget records, whose partitions were given up; returns the `id`s of those found."""
        gone = set(map(id, unwanted))
        found: set[int] = set()
        with self._lock:
            for queue in list(self._queues.values()):
                before = queue.length
                for record in queue.without(gone):
                    found.add(id(record))
                    self._bytes -= record.size
                if queue.length < before:
                    self._shrunk(queue, before)
        return found

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._queues.clear()
            self._turns.clear()
            self._length = self._bytes = self._full = 0

    @property
    def bytes(self) -> int:
        """Of memory that the queued records hold, about."""
        return self._bytes

    @property
    def full_batches(self) -> int:
        """How many full batches could be had of what is queued."""
        return self._full

    def __len__(self) -> int:
        return self._length

    def _queue(self, organization: str) -> "_Queue":
        queue = self._queues.get(organization)
        if queue is None:
            account = self._account_of(organization)
            turns = self._turns.get(account)
            if turns is None:
                turns = self._turns[account] = _Turns(self._size)
            queue = self._queues[organization] = _Queue(organization, turns)
        return queue

    def _grown(self, queue: "_Queue", record: Record) -> None:
        queue.length += 1
        self._length += 1
        self._bytes += record.size
        self._full += not queue.length % self._size
        queue.turns.grown(queue, record.admitted_at + self._linger)

    def _shrunk(self, queue: "_Queue", before: int) -> None:
        self._length += queue.length - before
        self._full += queue.length // self._size - before // self._size
        queue.turns.leave(queue)
        if queue.length:
            queue.turns.grown(queue, queue.oldest() + self._linger)
        else:
            del self._queues[queue.organization]


class _Turns:
    """Whose turn is next among the organizations of one account."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._picks = 0
        self._numbers = count()
        self._coming: list[tuple[float, int, _Queue]] = []
        """A heap of those that are not ready, by when they will be; and of some that were."""
        self._ready: OrderedDict[str, _Queue] = OrderedDict()
        """Who is for longest comes first."""
        self._by_length: list[OrderedDict[str, _Queue]] = [OrderedDict() for _ in range(size + 1)]
        """The same ones, by how much they have: a full batch and more is all the same."""

    def __len__(self) -> int:
        return len(self._ready)

    def grown(self, queue: "_Queue", due: float) -> None:
        """A queue has one more record, or has come back; what it has now is due then."""
        if queue.organization in self._ready:
            if queue.rank < self._size:
                del self._by_length[queue.rank][queue.organization]
                self._rank(queue)
        elif queue.length >= self._size:
            self._enter(queue)
        elif due < queue.due:
            queue.due = due
            heappush(self._coming, (due, next(self._numbers), queue))

    def leave(self, queue: "_Queue") -> None:
        """Forget a queue."""
        queue.due = inf
        if self._ready.pop(queue.organization, None) is not None:
            del self._by_length[queue.rank][queue.organization]

    def ripen(self, now: float) -> None:
        """Make those ready whose time has come."""
        while self._coming and self._coming[0][0] <= now:
            due, _, queue = heappop(self._coming)
            if queue.due == due:
                self._enter(queue)

    def next(self, is_passed_over: Callable[[str], bool]) -> "_Queue | None":
        """The next of those that are ready; None if all are passed over."""
        by_age = (self._picks + 1) % _BY_AGE_EVERY == 0
        for ready in (self._ready,) if by_age else reversed(self._by_length):
            for queue in ready.values():
                if not is_passed_over(queue.organization):
                    self._picks += 1
                    return queue
        return None

    def _enter(self, queue: "_Queue") -> None:
        queue.due = inf
        self._ready[queue.organization] = queue
        self._rank(queue)

    def _rank(self, queue: "_Queue") -> None:
        queue.rank = min(queue.length, self._size)
        self._by_length[queue.rank][queue.organization] = queue


class _Queue:
    """One organization's records; the campaign whose turn is next comes first."""

    __slots__ = ("campaigns", "due", "length", "organization", "rank", "turns")

    def __init__(self, organization: str, turns: _Turns) -> None:
        self.organization = organization
        self.turns = turns
        self.campaigns: OrderedDict[str, deque[Record]] = OrderedDict()
        self.length = self.rank = 0
        self.due = inf

    def of(self, campaign: str) -> deque[Record]:
        records = self.campaigns.get(campaign)
        if records is None:
            records = self.campaigns[campaign] = deque()
        return records

    def take(self, count: int) -> list[Record]:
        taken: list[Record] = []
        while self.campaigns and len(taken) < count:
            quota = max(1, (count - len(taken)) // len(self.campaigns))
            for campaign, records in list(self.campaigns.items()):
                most = min(quota, len(records), count - len(taken))
                taken += [records.popleft() for _ in range(most)]
                if not records:
                    del self.campaigns[campaign]
                elif most:
                    self.campaigns.move_to_end(campaign)
        self.length -= len(taken)
        return taken

    def without(self, gone: set[int]) -> list[Record]:
        """Take out the records that have these `id`s."""
        found: list[Record] = []
        for campaign, records in list(self.campaigns.items()):
            kept: deque[Record] = deque()
            for record in records:
                (found if id(record) in gone else kept).append(record)
            if kept:
                self.campaigns[campaign] = kept
            else:
                del self.campaigns[campaign]
        self.length -= len(found)
        return found

    def oldest(self) -> float:
        """When the oldest record was admitted."""
        return min(records[0].admitted_at for records in self.campaigns.values())
