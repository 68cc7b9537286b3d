"""Groups of records that become batches: one organization's, full or old enough."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable
from threading import Lock

from streamer.model.record import Record


class Batcher:
    """Admitted records that wait for a batch, by organization, first in first out.

    Organizations take turns, so that one with a long queue does not keep others waiting. All
    methods may be called from any thread. Times are seconds of one clock of the caller's.

    Args:
        size: records of a full batch.
        linger: seconds that a record waits for its batch to fill, at the longest.
    """

    def __init__(self, size: int, linger: float) -> None:
        self._size = size
        self._linger = linger
        self._queues: OrderedDict[str, deque[Record]] = OrderedDict()
        self._lock = Lock()
        self._bytes = 0

    def add(self, records: Iterable[Record]) -> None:
        """Queue records behind those of their organizations."""
        with self._lock:
            for record in records:
                organization = record.known_event.organization_id
                queue = self._queues.get(organization)
                if queue is None:
                    queue = self._queues[organization] = deque()
                queue.append(record)
                self._bytes += record.size

    def put_back(self, organization: str, records: Collection[Record]) -> None:
        """Queue records that were taken and not used in front of the others."""
        if not records:
            return
        with self._lock:
            self._queues.setdefault(organization, deque()).extendleft(reversed(list(records)))
            self._bytes += sum(record.size for record in records)

    def ready(self, now: float, passed_over: Callable[[str], bool]) -> str | None:
        """The next organization that can fill a batch, or whose oldest record waited enough.

        Args:
            passed_over: whether it is not an organization's turn, whatever it has.
        """
        with self._lock:
            for organization, queue in self._queues.items():
                if len(queue) < self._size and not self.overdue(queue[0], now):
                    continue
                if not passed_over(organization):
                    self._queues.move_to_end(organization)
                    return organization
        return None

    def overdue(self, record: Record, now: float) -> bool:
        """Whether a record has waited for its batch as long as it may."""
        return now - record.admitted_at >= self._linger

    def take(self, organization: str, count: int) -> list[Record]:
        """Take up to `count` records of the organization."""
        with self._lock:
            queue = self._queues.get(organization)
            if queue is None:
                return []
            taken = [queue.popleft() for _ in range(min(count, len(queue)))]
            self._bytes -= sum(record.size for record in taken)
            if not queue:
                del self._queues[organization]
            return taken

    def discard(self, unwanted: Collection[Record]) -> None:
        """Forget records, whose partitions were given up."""
        gone = set(map(id, unwanted))
        with self._lock:
            for organization, queue in list(self._queues.items()):
                kept = deque(record for record in queue if id(record) not in gone)
                self._bytes -= sum(record.size for record in queue if id(record) in gone)
                if kept:
                    self._queues[organization] = kept
                else:
                    del self._queues[organization]

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
            return sum(map(len, self._queues.values()))
