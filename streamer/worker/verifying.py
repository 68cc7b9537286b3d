"""Whether the ledger is still the one that this worker relies on."""

from concurrent.futures import Future, ThreadPoolExecutor

from streamer.ledger.epoch import Epoch
from streamer.worker.waiting import Waiting


class EpochVerifier:
    """Owns the thread `epoch`: a Redis that stands still must not hold up polls and commits."""

    def __init__(self, epoch: Epoch, waiting: Waiting) -> None:
        self._epoch = epoch
        self._waiting = waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="epoch")
        self._verified: Future[None] | None = None

    def verify_committed(self, committed: set[str]) -> None:
        """Check the epochs in the metadata of offsets, now and on the caller's thread.

        Raises:
            LedgerLostError: they are of another ledger.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        self._epoch.verify(committed)

    def verify(self) -> None:
        """Begin to check the ledger, unless a check is under way.

        Raises:
            LedgerLostError: the last check said that it is lost.
        """
        if self._verified is None or self._verified.done():
            if self._verified is not None:
                self._verified.result()
            self._verified = self._thread.submit(self._waiting.for_redis, self._epoch.verify)

    def close(self) -> None:
        """Begin no more checks."""
        self._thread.shutdown(wait=False, cancel_futures=True)
