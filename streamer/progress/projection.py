"""The fold with its guard: chunks of records become counts, once and only once."""

from collections.abc import Iterable, Mapping

from streamer.progress.fold import Chunk, Place, RecordLike, Shares, fold
from streamer.progress.store import Positions, Store, Update


class Projection:
    """Adds chunks to the counts of one generation; see `store` for why each record counts once.

    Several may work at once, and one that was cut off anywhere is followed by another that
    begins with the positions that the store has then.
    """

    def __init__(self, store: Store, positions: Positions) -> None:
        self._store = store
        self._generation = positions.generation
        self.parked_from: dict[int, int] = {}
        """From where on the parked topic is counted, by partition; set before it is read."""

    def add(self, chunks: Mapping[Place, Chunk]) -> None:
        """Add chunks, each read without a gap from a position that this store gave, or from the
        end of the chunk before it.

        Raises:
            StaleGenerationError: the projection began anew; nothing more is to be added.
            redis.exceptions.RedisError: Redis cannot be used: begin with the store's positions.
        """
        updates = [
            Update(place, key, share)
            for place, chunk in chunks.items()
            for key, share in self._fold(place, chunk.records).items()
        ]
        while updates:
            counted = self._store.apply(self._generation, updates)
            updates = [
                self._rest(update, chunks[update.place], offset)
                for update, offset in zip(updates, counted, strict=True)
                if offset is not None
            ]
        self._store.advance(self._generation, {place: chunk.end for place, chunk in chunks.items()})

    def _rest(self, update: Update, chunk: Chunk, offset: int) -> Update:
        """The share of the records that are not counted yet: somebody was in their midst."""
        rest = [record for record in chunk.records if (record.offset() or 0) >= offset]
        return update._replace(share=self._fold(update.place, rest)[update.key])

    def _fold(self, place: Place, records: Iterable[RecordLike]) -> Shares:
        return fold(place, records, self.parked_from)
