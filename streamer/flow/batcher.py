"""Groups of records that become batches: one organization's, full or old enough."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from threading import RLock

from streamer.model.record import Record


class Batcher:
    """Admitted records that wait for a batch, by organization and campaign.

    Those of a campaign are first in, first out. Organizations take turns, and so do the campaigns
    of one: a long queue does not keep others waiting. All methods may be called from any thread.
    Times are seconds of one clock of the caller's.

    Args:
        size: records of a full batch.
        linger: seconds that a record waits for its batch to fill, at the longest.
    """

    def __init__(self, size: int, linger: float) -> None:
        self._size = size
        self._linger = linger
        self._queues: OrderedDict[str, _Queue] = OrderedDict()
        self._lock = RLock()  # who is asked by `ready` may ask back
        self._bytes = 0

    def add(self, records: Iterable[Record]) -> None:
        """Queue records behind those of their campaigns."""
        with self._lock:
            for record in records:
                queue = self._queues.get(record.organization_id)
                if queue is None:
                    queue = self._queues[record.organization_id] = _Queue()
                queue.of(record.campaign_id).append(record)
                queue.length += 1
                self._bytes += record.size

    def put_back(self, organization: str, records: Collection[Record]) -> None:
        """Queue records that were taken and not used in front of the others."""
        if not records:
            return
        with self._lock:
            queue = self._queues.setdefault(organization, _Queue())
            for record in reversed(list(records)):
                queue.of(record.campaign_id).appendleft(record)
                self._bytes += record.size
            queue.length += len(records)

    def ready(self, now: float, passed_over: Callable[[str], bool]) -> str | None:
        """The next organization that can fill a batch, or whose oldest record waited enough.

        Args:
            passed_over: whether it is not an organization's turn, whatever it has.
        """
        with self._lock:
            for organization, queue in self._queues.items():
                if queue.length < self._size and not any(
                    self.overdue(campaign[0], now) for campaign in queue.campaigns.values()
                ):
                    continue
                if not passed_over(organization):
                    self._queues.move_to_end(organization)
                    return organization
        return None

    def overdue(self, record: Record, now: float) -> bool:
        """Whether a record has waited for its batch as long as it may."""
        return now - record.admitted_at >= self._linger

    def take(self, organization: str, count: int) -> list[Record]:
        """Take up to `count` records of the organization, as many of each campaign as there are
        places for each."""
        with self._lock:
            queue = self._queues.get(organization)
            if queue is None:
                return []
            taken = queue.take(count)
            self._bytes -= sum(record.size for record in taken)
            if not queue.length:
                del self._queues[organization]
            return taken

    def queued(self, organization: str) -> int:
        """How many records of the organization wait."""
        with self._lock:
            queue = self._queues.get(organization)
            return 0 if queue is None else queue.length

    def discard(self, unwanted: Collection[Record]) -> None:
        """Forget records, whose partitions were given up."""
        gone = set(map(id, unwanted))
        with self._lock:
            for organization, queue in list(self._queues.items()):
                queue.keep(lambda record: id(record) not in gone)
                if not queue.length:
                    del self._queues[organization]
            self._bytes = sum(queue.bytes() for queue in self._queues.values())

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._queues.clear()
            self._bytes = 0

    @property
    def bytes(self) -> int:
        """Of the queued records' values as they were read."""
        return self._bytes

    def __len__(self) -> int:
        with self._lock:
            return sum(queue.length for queue in self._queues.values())


class _Queue:
    """One organization's records; the campaign whose turn is next comes first."""

    __slots__ = ("campaigns", "length")

    def __init__(self) -> None:
        self.campaigns: OrderedDict[str, deque[Record]] = OrderedDict()
        self.length = 0

    def of(self, campaign: str) -> deque[Record]:
        records = self.campaigns.get(campaign)
        if records is None:
            records = self.campaigns[campaign] = deque()
        return records

    def take(self, count: int) -> list[Record]:
        taken: list[Record] = []
        while self.campaigns and len(taken) < count:
            share = max(1, (count - len(taken)) // len(self.campaigns))
            for campaign, records in list(self.campaigns.items()):
                most = min(share, len(records), count - len(taken))
                taken += [records.popleft() for _ in range(most)]
                if not records:
                    del self.campaigns[campaign]
                elif most:
                    self.campaigns.move_to_end(campaign)
        self.length -= len(taken)
        return taken

    def keep(self, wanted: Callable[[Record], bool]) -> None:
        for campaign, records in list(self.campaigns.items()):
            kept = deque(filter(wanted, records))
            if kept:
                self.campaigns[campaign] = kept
            else:
                del self.campaigns[campaign]
        self.length = sum(map(len, self.campaigns.values()))

    def bytes(self) -> int:
        return sum(record.size for records in self.campaigns.values() for record in records)
