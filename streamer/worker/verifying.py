"""Verifies that the ledger is the one the worker relies on, and lacks nothing; raises its pulse,
and copies offsets to it."""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial

from streamer.ledger.connection import REDIS_ERRORS
from streamer.ledger.epoch import Epoch
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.pulse import Pulse
from streamer.model.pulse import OffsetMetadata
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

# Write unchanged offsets again, as a previous owner may have overwritten one by an older offset.
_KEEP_AGAIN_S = 60.0
_KEEP_S = 6.0
_LAST_S = 1.0


class EpochVerifier:
    """Runs the checks on the thread `epoch`, as an unresponsive Redis must not block polls and
    commits."""

    def __init__(self, epoch: Epoch, pulse: Pulse, offsets: InputOffsets, waiter: Waiter) -> None:
        self._epoch = epoch
        self._pulse = pulse
        self._offsets = offsets
        self._waiter = waiter
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="epoch")
        self._verified: Future[None] | None = None
        self._kept: Mapping[int, int] = {}
        self._keep_again_at = 0.0

    def check_arrived(self, committed: set[OffsetMetadata]) -> Future[dict[int, int]]:
        """Check the metadata of offsets, waiting for Redis; the future's result is the offsets that
        the ledger knows, by partition.

        The future raises:
            LedgerLostError: the epochs are of another ledger, or it lacks writes.
            StoppedError: the worker stops.
        """

        def check() -> dict[int, int]:
            self._epoch.verify(each.epoch for each in committed)
            self._pulse.verify([each.pulse for each in committed])
            return self._offsets.read()

        return self._thread.submit(self._waiter.retry_redis, check)

    def verify(self, offsets: Mapping[int, int], beat: Callable[[], None] | None = None) -> None:
        """Start checking the ledger and storing committed offsets in it, unless already running.

        Args:
            offsets: committed offsets, by partition.
            beat: writes the worker's heartbeat to Redis; called after the check.

        Raises:
            LedgerLostError: the last check found that the ledger is lost.
        """
        if self._verified is None or self._verified.done():
            if self._verified is not None:
                self._verified.result()
            verify = partial(self._verify, offsets, beat)
            self._verified = self._thread.submit(self._waiter.retry_redis, verify)

    def keep(self, offsets: Mapping[int, int]) -> None:
        """Store the last committed offsets in the ledger, if Redis can be used now.

        Raises:
            LedgerLostError: the ledger is lost.
        """
        try:
            self._thread.submit(self._verify, offsets).result(_KEEP_S)
        except (*REDIS_ERRORS, TimeoutError) as error:
            logger.warning(
                "cannot store the last committed offsets in the ledger; Kafka has them",
                extra={"error": str(error)},
            )

    def say_last(self, beat: Callable[[], None]) -> None:
        """Write the worker's last heartbeat, if Redis can be used now."""
        with suppress(*REDIS_ERRORS, TimeoutError, CancelledError):
            self._thread.submit(beat).result(_LAST_S)

    def close(self) -> None:
        """Start no more checks."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _verify(self, offsets: Mapping[int, int], beat: Callable[[], None] | None = None) -> None:
        self._epoch.verify()
        self._pulse.beat()
        now = time.monotonic()
        if offsets != self._kept or now >= self._keep_again_at:
            self._offsets.keep(offsets, self._epoch.name)
            self._kept, self._keep_again_at = offsets, now + _KEEP_AGAIN_S
        if beat is not None:
            beat()
