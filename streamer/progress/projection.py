"""Adding chunks of progress records to the counts exactly once."""

from collections.abc import Mapping

from streamer.kafka.offsets import Partition
from streamer.progress.fold import Chunk, fold
from streamer.progress.store import Store, Update


class Projection:
    """Adds chunks to the counts of one generation; see `store` for why each record counts once.

    Several may run concurrently. After one was interrupted anywhere, a new one continues from the
    positions in the store.
    """

    def __init__(self, store: Store, generation: str) -> None:
        self._store = store
        self._generation = generation

    def add(self, chunks: Mapping[Partition, Chunk]) -> None:
        """Add chunks to the counts.

        Each chunk must start, without a gap, at a position from the store or at the end of the
        previous chunk.

        Raises:
            StaleGenerationError: a new generation has started; do not add more.
            redis.exceptions.RedisError: Redis cannot be used; restart from the store's positions.
        """
        updates = [
            Update(partition, name, share)
            for partition, chunk in chunks.items()
            for name, share in fold(chunk.records).items()
        ]
        while updates:
            counted = self._store.apply(self._generation, updates)
            updates = [
                _rest(update, chunks[update.partition], offset)
                for update, offset in zip(updates, counted, strict=True)
                if offset is not None
            ]
        self._store.advance(self._generation, {place: chunk.end for place, chunk in chunks.items()})


def _rest(update: Update, chunk: Chunk, offset: int) -> Update:
    """Return the share of the records not counted yet; another projector counted some."""
    rest = [record for record in chunk.records if (record.offset() or 0) >= offset]
    return update._replace(share=fold(rest)[update.name])
