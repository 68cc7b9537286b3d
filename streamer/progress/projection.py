"""Adding chunks of records to the counts exactly once."""

from collections.abc import Iterable, Mapping

from streamer.progress.fold import Chunk, CountDeltas, Cursor, RecordLike, fold
from streamer.progress.store import Positions, Store, Update


class Projection:
    """Adds chunks to the counts of one generation; see `store` for why each record counts once.

    Several may run concurrently. After one was interrupted anywhere, a new one continues from the
    positions in the store.
    """

    def __init__(self, store: Store, positions: Positions) -> None:
        self._store = store
        self._generation = positions.generation
        self.parked_from: dict[int, int] = {}
        """First counted offset of the parked topic by partition; set before reading it."""

    def add(self, chunks: Mapping[Cursor, Chunk]) -> None:
        """Add chunks to the counts.

        Each chunk must start, without a gap, at a position from the store or at the end of the
        previous chunk.

        Raises:
            StaleGenerationError: a new generation has started; do not add more.
            redis.exceptions.RedisError: Redis cannot be used; restart from the store's positions.
        """
        updates = [
            Update(cursor, key, delta)
            for cursor, chunk in chunks.items()
            for key, delta in self._fold(cursor, chunk.records).items()
        ]
        while updates:
            counted = self._store.apply(self._generation, updates)
            updates = [
                self._rest(update, chunks[update.cursor], offset)
                for update, offset in zip(updates, counted, strict=True)
                if offset is not None
            ]
        self._store.advance(self._generation, {place: chunk.end for place, chunk in chunks.items()})

    def _rest(self, update: Update, chunk: Chunk, offset: int) -> Update:
        """Return the share of the records not counted yet; another projector counted some."""
        rest = [record for record in chunk.records if (record.offset() or 0) >= offset]
        return update._replace(delta=self._fold(update.cursor, rest)[update.key])

    def _fold(self, cursor: Cursor, records: Iterable[RecordLike]) -> CountDeltas:
        return fold(cursor, records, self.parked_from)
