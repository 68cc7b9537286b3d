"""Makes sure that no two live workers use one `worker.id`.

Two that did would fence each other in turn, for as long as somebody restarts them. So each worker
holds a lease on its id, and a second one does not start. A worker that is started again must not
wait for the lease of its dead predecessor: on one machine, a file says which lease that was, and
the lock on the file, which the kernel releases when a process ends, says that it is dead.
"""

import fcntl
import hashlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TextIO

from streamer import private_files
from streamer.errors import WrongUseError
from streamer.ledger import keys
from streamer.ledger.connection import REDIS_ERRORS, connect
from streamer.ledger.lease import Lease
from streamer.settings import Settings
from streamer.worker.ticker import Ticker
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

LEASE_S = 5.0
_ASK_EVERY_S = 1.0
_PATIENCE_S = LEASE_S + 2.0
"""Longer than the lease of a dead worker lasts."""


class WorkerIdTakenError(WrongUseError):
    """A live worker uses the id; the message says where."""


class MachineLock:
    """A named lock between the processes of this user on this machine, with a line of text.

    It is released when the process ends, however it ends.

    Args:
        name: any text.

    Raises:
        BlockingIOError: a live process has it.
        OSError: there is no folder for it, as in a container without a writable one.
    """

    def __init__(self, name: str) -> None:
        folder = Path(tempfile.gettempdir()) / f"streamer-{os.getuid()}"
        private_files.make_folder(folder)
        digest = hashlib.blake2b(name.encode(), digest_size=12).hexdigest()
        self._path = folder / f"{digest}.lock"
        self._file = self._locked()

    def _locked(self) -> TextIO:
        while True:
            file = self._path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Its last owner may have deleted it meanwhile: that lock would be worth nothing.
                if self._path.samefile(f"/dev/fd/{file.fileno()}"):
                    return file
            except FileNotFoundError:
                pass
            except OSError:
                file.close()
                raise
            file.close()

    def read(self) -> str:
        """Return the text, which may be that of an earlier owner that did not release the lock."""
        self._file.seek(0)
        return self._file.read()

    def write(self, text: str) -> None:
        """Replace the text."""
        self._file.truncate(0)
        self._file.write(text)
        self._file.flush()

    def release(self) -> None:
        """Release the lock, and forget its text."""
        self._path.unlink(missing_ok=True)
        self._file.close()


@contextmanager
def own_id(settings: Settings) -> Iterator[Settings]:
    """Yield the settings with a `worker.id` that no other process of this machine has by default.

    A configured one is left as it is. The default is the host name, unless another `streamer run`
    of the same group has it: then `HOST.1`, and so on. Whoever is started again gets the first
    free one, which is its own again if the others are alive.
    """
    if "id" in settings.worker.model_fields_set:
        yield settings
        return
    lock: MachineLock | None = None
    chosen = settings.worker.id
    for number in count():
        chosen = f"{settings.worker.id}.{number}" if number else settings.worker.id
        try:
            lock = MachineLock(f"run {settings.kafka.group_id} {chosen}")
        except BlockingIOError:
            continue
        except OSError as error:
            logger.debug("cannot lock the default worker id", extra={"error": str(error)})
            chosen = settings.worker.id
        break
    try:
        yield with_id(settings, chosen)
    finally:
        if lock is not None:
            lock.release()


def with_id(settings: Settings, worker_id: str) -> Settings:
    """Return the settings with another `worker.id`."""
    worker = settings.worker.model_copy(update={"id": worker_id})
    return settings.model_copy(update={"worker": worker})


class IdLease:
    """Holds the lease on a worker's id.

    Args:
        ticker: renews it; to be stopped before the release.

    Raises:
        WorkerIdTakenError: a live worker has it.
        StoppedError: the worker stops.
        redis.exceptions.RedisError: Redis fails in a way that waiting does not fix.
    """

    def __init__(self, settings: Settings, waiter: Waiter, ticker: Ticker) -> None:
        self._id = settings.worker.id
        self._waiter = waiter
        group = settings.kafka.group_id
        self._lock = self._lock_id(group)
        self._client = waiter.retry_redis(lambda: connect(settings.redis, 1))
        self._lease = Lease(self._client, keys.worker_lease(group, self._id), self._name(), LEASE_S)
        self._on_lost: Callable[[str], None] = lambda _: None
        self._lost: str | None = None
        self._await()
        ticker.add(self._renew)

    def _lock_id(self, group: str) -> MachineLock | None:
        """Lock the id on this machine; None if a live process has it, or there is no folder."""
        with suppress(OSError):
            return MachineLock(f"worker {group} {self._id}")
        return None

    def _name(self) -> str:
        """The name of a predecessor that is known to be dead, or a new one."""
        predecessor = self._lock.read() if self._lock is not None else ""
        name = predecessor or f"{socket.gethostname()}/{secrets.token_hex(8)}"
        if self._lock is not None and not predecessor:
            self._lock.write(name)
        return name

    def _await(self) -> None:
        clock = self._waiter.clock
        deadline = clock.monotonic() + _PATIENCE_S
        while not self._waiter.retry_redis(self._lease.hold):
            if clock.monotonic() >= deadline:
                holder = self._waiter.retry_redis(self._lease.holder) or ""
                raise WorkerIdTakenError(
                    f"a live worker on {holder.partition('/')[0] or 'another machine'} has the id "
                    f"{self._id}: give each worker a worker.id of its own"
                )
            self._waiter.sleep(_ASK_EVERY_S)

    def _renew(self) -> None:
        if self._lost is not None:
            return
        try:
            if not self._lease.hold():  # it expired
                self._lost = (
                    f"two workers use one id, {self._id}: the other was started while this one was "
                    f"frozen or cut off from Redis"
                )
                self._on_lost(self._lost)
        except REDIS_ERRORS as error:  # the threads that need Redis say so
            logger.debug("cannot renew the worker's id", extra={"error": str(error)})

    def reports_to(self, on_lost: Callable[[str], None]) -> None:
        """Call this with what happened once another worker has the id, on the ticker's thread. The
        worker must then end: the two would take each other's place in turn."""
        self._on_lost = on_lost
        if self._lost is not None:
            on_lost(self._lost)

    def release(self) -> None:
        """Let others have the id."""
        with suppress(*REDIS_ERRORS):  # otherwise the lease expires
            self._lease.release()
        self._client.close()
        if self._lock is not None:
            self._lock.release()
