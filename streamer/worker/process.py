"""A worker process: settings, signals, watchdog, shutdown and exit code."""

import ctypes
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from types import FrameType

from confluent_kafka import KafkaException

from streamer import logs
from streamer.errors import DONE, FAILED, StreamerError, exit_code
from streamer.feedback.applier import Applier
from streamer.kafka.reading import ReadError
from streamer.kafka.shared import SharedConsumer, shared_consumer
from streamer.kafka.transactions import describe_loss
from streamer.ledger.connection import REDIS_ERRORS, RedisRefusedError, connect
from streamer.ledger.persistence import check_persistence
from streamer.ledger.pulse import StaleLedgerError
from streamer.mail.compose import Composer
from streamer.mail.templates import Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.memory import tune_garbage_collection
from streamer.progress.projector import Projector
from streamer.provider.accounts import Accounts
from streamer.recovery.active import describe_activity
from streamer.settings import Settings, SettingsError
from streamer.worker.affinity import CpuAffinity
from streamer.worker.build import build_pipeline
from streamer.worker.checkpoint import Checkpoint, no_checkpoint
from streamer.worker.committer import BreakerError
from streamer.worker.health import HealthServer
from streamer.worker.identity import IdLease, with_id
from streamer.worker.life import Life, WorkerState
from streamer.worker.pipeline import Pipeline
from streamer.worker.systemd import SystemdNotifier
from streamer.worker.ticker import Ticker
from streamer.worker.waiter import StoppedError, Waiter

logger = logging.getLogger(__name__)

BROKEN_INPUT = 3
"""Most records are dead letters. A supervisor does not restart the worker; users see exit code
1."""

_FATAL = (StreamerError, KafkaException, *REDIS_ERRORS)
_TICK_LIMIT_S = 30.0
_CLOSE_GRACE_S = 20.0
_FOLLOWER_END_S = 5.0
_CHECK_EVERY_S = 1.0
_STANDSTILL_CHECKS = 40
_COMMIT_CHECKS = 15
_ACTIVITY_S = 10.0
_M_ARENA_MAX, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -8, -1, -3  # from glibc's malloc.h


def run_worker(settings: Settings, number: int = 0, checkpoint: Checkpoint = no_checkpoint) -> int:
    """Run worker `number` until SIGTERM or SIGINT.

    Returns:
        The exit code; its cause is logged. 0 if everything was finished or handed over, 1 if the
        worker could not go on, 2 for unusable settings, or `BROKEN_INPUT`.
    """
    settings = _numbered(settings, number)
    logs.configure(settings.log, settings.worker.id)
    _set_up_heaps()  # both before any thread starts
    _interrupt_less()
    threading.excepthook = _end_with_thread
    waiter = Waiter()
    life = Life(waiter)
    with ExitStack() as at_end:
        at_end.callback(life.enter, WorkerState.STOPPED)
        return _run(settings, waiter, life, checkpoint, at_end)


def _run(
    settings: Settings, waiter: Waiter, life: Life, checkpoint: Checkpoint, at_end: ExitStack
) -> int:
    ticker = Ticker()
    stop = _StopRequest(settings.worker.shutdown_timeout_s, waiter, ticker)
    ticker.add(CpuAffinity().look)
    ticker.start()
    checks = _Checks(waiter)
    health = None
    try:
        composer, accounts = make_composer(settings), make_accounts(settings)
        # Before Redis and Kafka, so that `/readyz` can show what the worker waits for.
        health = _serve_health(settings, checks, life)
        if multiprocessing.parent_process() is None:  # otherwise the supervisor is the service
            systemd = SystemdNotifier(checks.alive, checks.ready, lambda: life.state.value)
            systemd.start()
            at_end.callback(systemd.stop)
        _check_redis(settings, waiter)
        # Before this worker fences whoever has its id.
        identity = IdLease(settings, waiter, ticker)
        at_end.callback(identity.release)
        at_end.callback(ticker.stop)
        readers = shared_consumer(settings)
        pipeline = build_pipeline(
            settings, composer, accounts, readers, waiter, ticker, life, checkpoint
        )
        checks.pipeline = pipeline
    except StoppedError:
        return DONE
    except (*_FATAL, OSError) as error:
        logger.critical("cannot start", extra={"cause": str(error)})
        _say_activity(settings, error)
        return exit_code(error)
    identity.reports_to(pipeline.fence)
    stop.reaches(pipeline)
    tune_garbage_collection()
    threading.Thread(target=_watch_ticks, args=(pipeline,), name="watchdog", daemon=True).start()
    stop_following = threading.Event()
    followers = _start_followers(settings, readers, waiter, stop_following)
    try:
        pipeline.run()
    except BreakerError as error:
        logger.critical("too many dead letters, exiting", extra={"cause": str(error)})
        return BROKEN_INPUT
    except KafkaException as exception:
        cause = describe_loss(exception.args[0])
        logger.critical(
            "lost the Kafka client, exiting; the next owner adopts what is in flight",
            extra={"cause": cause},
        )
        return exit_code(exception)
    except _FATAL as error:
        logger.critical("fatal error, exiting", extra={"cause": str(error)})
        _say_activity(settings, error)
        return exit_code(error)
    finally:
        stop_following.set()
        pipeline.join()
        for follower in followers:
            follower.join(_FOLLOWER_END_S)
        if health is not None:
            health.close()
    return DONE


def _say_activity(settings: Settings, error: BaseException) -> None:
    """If the ledger lacks writes, say of which campaigns."""
    if not isinstance(error, StaleLedgerError):
        return
    try:
        active = describe_activity(settings, error.since_ms, _ACTIVITY_S)
    except (ReadError, KafkaException) as failure:
        active = f"unknown: {failure}"
    logger.critical("campaigns that were active since then", extra={"campaigns": active})


def _check_redis(settings: Settings, waiter: Waiter) -> None:
    """Wait for Redis, and check that its persistence is safe enough for the guarantees.

    Raises:
        StoppedError, UnsafeRedisError, redis.exceptions.RedisError
    """

    def check() -> None:
        client = connect(settings.redis, 1)
        try:
            check_persistence(client)
        finally:
            client.close()

    waiter.retry_redis(check)


class _Checks:
    """Health checks of the worker; they do not block.

    Attributes:
        pipeline: None while the worker starts.
    """

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter
        self.pipeline: Pipeline | None = None

    def alive(self) -> str | None:
        """What is wrong with the loop, or None."""
        if self.pipeline is None:
            return None
        still_s = time.monotonic() - self.pipeline.last_tick
        return None if still_s < _TICK_LIMIT_S else f"the loop made no progress for {still_s:.0f} s"

    def ready(self) -> str | None:
        """Why the worker is not ready, or None."""
        trouble = self._waiter.redis_problem
        if trouble is not None:
            return trouble
        if self.pipeline is None:
            return "starting"
        return None if self.pipeline.joined else "not a member of the group yet"


def _start_followers(
    settings: Settings, readers: SharedConsumer, waiter: Waiter, stop: threading.Event
) -> list[threading.Thread]:
    """Start the threads of what serves the group once, wherever, if enabled: counting progress and
    applying events."""
    if not settings.progress.embedded:
        return []

    def serve(make: Callable[[], Projector | Applier]) -> None:
        with suppress(StoppedError):  # retried, as a cluster client connects when it is created
            waiter.retry_redis(make).run(stop)

    threads = [
        threading.Thread(
            target=serve, args=(partial(make, settings, readers),), name=name, daemon=True
        )
        for name, make in (("progress", Projector), ("events", Applier))
    ]
    for thread in threads:
        thread.start()
    return threads


def make_composer(settings: Settings) -> Composer:
    """Create the composer from the settings.

    Raises:
        SettingsError: unsubscribe links are required but not configured, or misconfigured.
    """
    unsubscribe = settings.unsubscribe
    links = None
    if unsubscribe.base_url and unsubscribe.secrets:
        try:
            links = UnsubscribeLinks(unsubscribe.base_url, unsubscribe.secrets)
        except ValueError as error:
            raise SettingsError(f"unsubscribe: {error}") from None
    elif unsubscribe.required:
        raise SettingsError(
            "every mail needs one-click unsubscribe headers: set unsubscribe.base_url and "
            "unsubscribe.secret, or unsubscribe.required = false to send without them"
        )
    return Composer(Templates(settings.mail.max_bytes), links, settings.mail.max_bytes)


def make_accounts(settings: Settings) -> Accounts:
    """Create the accounts from the settings.

    Raises:
        SettingsError: an organization is assigned to two accounts.
    """
    try:
        return Accounts(settings.accounts)
    except ValueError as error:
        raise SettingsError(f"accounts: {error}") from None


def _set_up_heaps() -> None:
    """Limit glibc's malloc to two arenas, instead of one per busy thread: they cost nothing, as
    Python's threads allocate one at a time anyway.

    Have it keep what is freed, for the next batch: memory from the kernel costs a page fault for
    every 4 KB. But not the memory of large bodies, of which an arena would keep too much.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another libc
            libc = ctypes.CDLL(None)
            libc.mallopt(_M_ARENA_MAX, 2)
            libc.mallopt(_M_TRIM_THRESHOLD, 2 * 1024 * 1024)
            libc.mallopt(_M_MMAP_THRESHOLD, 256 * 1024)


def _interrupt_less() -> None:
    """Have a thread that wakes up wait for the one that computes, as Linux does for batch jobs: it
    would only interrupt that one to ask it for the interpreter's lock."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # not allowed here; another libc
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _watch_ticks(pipeline: Pipeline) -> None:
    """End the process when its loop hangs.

    librdkafka's transaction calls can exceed their timeout of a few seconds, as after a broker
    crash. What was in flight is adopted, as after any crash. Counts checks, not seconds, so that
    a process that was frozen gets time to recover after it resumes.
    """
    seen, still = pipeline.last_tick, 0
    while still < (_COMMIT_CHECKS if pipeline.committing else _STANDSTILL_CHECKS):
        time.sleep(_CHECK_EVERY_S)
        still = still + 1 if pipeline.last_tick == seen else 0
        seen = pipeline.last_tick
    logger.critical("the worker's loop is stuck, exiting")
    os._exit(FAILED)


def _end_with_thread(args: threading.ExceptHookArgs) -> None:
    """End the process when a thread dies of an unexpected exception: otherwise the worker would
    run on without, for example, seeing holds or returning parked records."""
    if isinstance(args.exc_value, RedisRefusedError):
        logger.critical("fatal error, exiting", extra={"cause": str(args.exc_value)})
        os._exit(FAILED)
    logger.critical(
        "a thread died, exiting",
        exc_info=args.exc_value,
        extra={"died": args.thread.name if args.thread else "unknown"},
    )
    os._exit(FAILED)


def _numbered(settings: Settings, number: int) -> Settings:
    port = settings.metrics.port + number if settings.metrics.port else 0
    metrics = settings.metrics.model_copy(update={"port": port})
    numbered = with_id(settings, f"{settings.worker.id}-{number}")
    return numbered.model_copy(update={"metrics": metrics})


def _serve_health(settings: Settings, checks: _Checks, life: Life) -> HealthServer | None:
    if settings.metrics.port == 0:
        return None
    try:
        return HealthServer(
            settings.metrics.port,
            checks.alive,
            checks.ready,
            lambda: life.state.value,
            settings.metrics.host,
        )
    except OSError as error:
        raise SettingsError(
            f"metrics.port: cannot listen on port {settings.metrics.port} ({error.strerror}); "
            f"use another port, or 0 to disable the endpoints"
        ) from None


class _StopRequest:
    """Stops the pipeline gracefully on SIGTERM, on SIGINT, or when the supervisor has exited.

    Listens from its creation, also while there is no pipeline yet.
    """

    def __init__(self, shutdown_timeout_s: float, waiter: Waiter, ticker: Ticker) -> None:
        self._shutdown_timeout_s = shutdown_timeout_s
        self._waiter = waiter
        self._pipeline: Pipeline | None = None
        self._asked = False
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if multiprocessing.parent_process() is not None:
            ticker.add(self._watch_parent)

    def reaches(self, pipeline: Pipeline) -> None:
        """Set the pipeline to stop; stop it at once if a stop was already requested."""
        self._pipeline = pipeline
        if self._asked:
            pipeline.stop()

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        del frame
        logger.info("signal received", extra={"signal": signal.Signals(signum).name})
        self._ask()

    def _watch_parent(self) -> None:
        parent = multiprocessing.parent_process()
        if not self._asked and parent is not None and not parent.is_alive():
            logger.warning("the supervisor has exited, stopping")
            self._ask()

    def _ask(self) -> None:
        if self._asked:
            return
        self._asked = True
        if self._pipeline is None:
            self._waiter.stop()
        else:  # batches in flight may keep waiting until the pipeline stops the waiter
            self._pipeline.stop()
        # Closing a librdkafka consumer can hang forever, even while it holds the GIL, which stops
        # every Python thread. This timer is a thread of C; it writes to the log where it hangs.
        # What is not committed is adopted.
        faulthandler.dump_traceback_later(self._shutdown_timeout_s + _CLOSE_GRACE_S, exit=True)
