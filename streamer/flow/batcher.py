"""Groups records into batches of one organization, when full or old enough."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heappush
from itertools import count, groupby
from math import inf
from operator import attrgetter
from threading import RLock

from streamer.model.record import Record

_organization_of: Callable[[Record], str] = attrgetter("organization_id")
_campaign_of: Callable[[Record], str] = attrgetter("campaign_id")
_size_of: Callable[[Record], int] = attrgetter("size")
_admitted_at: Callable[[Record], float] = attrgetter("admitted_at")
_BY_AGE_EVERY = 4
"""Every n-th turn goes to the organization that is ready for longest, whatever its size."""


class Batcher:
    """Queues of admitted records waiting for a batch, by organization and campaign.

    The queue of each campaign is FIFO. An organization is ready when it can fill a batch, or when
    its oldest record has waited long enough. The ready organization with the most records is served
    first, so that batches are as full as possible while calls are the bottleneck; every few turns
    the one that is ready for longest is served instead, so that none starves. Ties are broken by
    taking turns; accounts, and the campaigns of an organization, take turns too.

    All methods are thread-safe, and none examines more organizations than necessary. Times are
    seconds of the caller's clock.

    Args:
        size: the number of records in a full batch.
        linger: the maximum seconds that a record waits for its batch to fill.
        account_of: returns the account of an organization; None if no account serves it.
    """

    def __init__(
        self, size: int, linger: float, account_of: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._size = size
        self._linger = linger
        self._account_of = account_of
        self._queues: dict[str, _Queue] = {}
        self._turns: OrderedDict[str | None, _Turns] = OrderedDict()
        """The turns of each account's organizations."""
        self._lock = RLock()  # reentrant: the callbacks of `take_ready` may call back
        self._length = self._bytes = self._full = 0

    def add(self, records: Iterable[Record]) -> None:
        """Append records to the queues of their campaigns."""
        with self._lock:
            for organization, own in groupby(records, _organization_of):
                self._put(organization, own, deque.extend)

    def put_back(self, organization: str, records: Collection[Record]) -> None:
        """Return taken but unused records to the front of their queues."""
        if records:
            with self._lock:
                self._put(organization, reversed([*records]), deque.extendleft)

    def take_ready(
        self,
        now: float,
        count: int,
        is_saturated: Callable[[str | None], bool],
        is_passed_over: Callable[[str], bool],
    ) -> tuple[str, list[Record]] | None:
        """Take up to `count` records of the next ready organization; None if there is none.

        Args:
            is_saturated: returns whether to skip all organizations of an account.
            is_passed_over: returns whether to skip an organization.
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
        """Return whether a record has waited for its batch for the maximum time."""
        return now >= record.admitted_at + self._linger

    def take(self, organization: str, count: int) -> list[Record]:
        """Take up to `count` records of the organization, divided evenly among its campaigns."""
        with self._lock:
            queue = self._queues.get(organization)
            if queue is None:
                return []
            before = queue.length
            taken = queue.take(count)
            self._bytes -= sum(map(_size_of, taken))
            self._shrunk(queue, before)
            return taken

    def queued(self, organization: str) -> int:
        """Return the number of queued records of the organization."""
        with self._lock:
            queue = self._queues.get(organization)
            return 0 if queue is None else queue.length

    def discard(self, unwanted: Iterable[Record]) -> set[int]:
        """Remove records whose partitions were revoked; return the `id`s of those found."""
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
        """Remove all records."""
        with self._lock:
            self._queues.clear()
            self._turns.clear()
            self._length = self._bytes = self._full = 0

    @property
    def bytes(self) -> int:
        """The approximate memory used by the queued records."""
        return self._bytes

    @property
    def full_batches(self) -> int:
        """The number of full batches that the queued records make up."""
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

    def _put(
        self,
        organization: str,
        records: Iterable[Record],
        extend: Callable[[deque[Record], list[Record]], None],
    ) -> None:
        """Queue one or more records of an organization, those of a campaign with `extend`."""
        queue = self._queue(organization)
        before, oldest = queue.length, inf
        for campaign, group in groupby(records, _campaign_of):
            own = [*group]
            extend(queue.of(campaign), own)
            queue.length += len(own)
            self._bytes += sum(map(_size_of, own))
            oldest = min(oldest, *map(_admitted_at, own))
        self._count(queue, before)
        queue.turns.grown(queue, oldest + self._linger)

    def _shrunk(self, queue: "_Queue", before: int) -> None:
        self._count(queue, before)
        queue.turns.leave(queue)
        if queue.length:
            queue.turns.grown(queue, queue.oldest() + self._linger)
        else:
            del self._queues[queue.organization]

    def _count(self, queue: "_Queue", before: int) -> None:
        self._length += queue.length - before
        self._full += queue.length // self._size - before // self._size


class _Turns:
    """Determines whose turn is next among the organizations of one account."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._picks = 0
        self._numbers = count()
        self._coming: list[tuple[float, int, _Queue]] = []
        """A heap of the queues that are not ready, by due time; it may contain stale entries."""
        self._ready: OrderedDict[str, _Queue] = OrderedDict()
        """The ready queues, the one that is ready for longest first."""
        self._by_length: list[OrderedDict[str, _Queue]] = [OrderedDict() for _ in range(size + 1)]
        """The ready queues by length, capped at a full batch."""

    def __len__(self) -> int:
        return len(self._ready)

    def grown(self, queue: "_Queue", due: float) -> None:
        """Update a queue that has more records or is re-added, and is due at `due`."""
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
        """Remove a queue."""
        queue.due = inf
        if self._ready.pop(queue.organization, None) is not None:
            del self._by_length[queue.rank][queue.organization]

    def ripen(self, now: float) -> None:
        """Mark the queues whose due time has passed as ready."""
        while self._coming and self._coming[0][0] <= now:
            due, _, queue = heappop(self._coming)
            if queue.due == due:
                self._enter(queue)

    def next(self, is_passed_over: Callable[[str], bool]) -> "_Queue | None":
        """Return the next ready queue; None if all are passed over."""
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
    """The queued records of one organization; `campaigns` is in order of turns."""

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
        """Remove and return the records with these `id`s."""
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
        """Return when the oldest record was admitted."""
        return min(records[0].admitted_at for records in self.campaigns.values())
