"""`streamer run`: run one or more workers."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from streamer import logs
from streamer.cli.common import ConfigOption, read_settings
from streamer.cli.output import fail, warn
from streamer.cli.times import parse_duration
from streamer.cli.version import version
from streamer.doctor.start import StartReport, examine_start
from streamer.errors import DONE, FAILED
from streamer.settings import Settings
from streamer.worker.health import HealthServer
from streamer.worker.identity import own_id
from streamer.worker.process import BROKEN_INPUT, run_worker
from streamer.worker.supervisor import Supervisor
from streamer.worker.systemd import notify

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_SAY_EVERY_S = 30.0


def run(
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    wait_for: Annotated[
        timedelta | None,
        typer.Option(
            metavar="TIME",
            parser=parse_duration,
            help="How long to wait for Kafka and Redis at the start, e.g. 60s. Default: for ever.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Mail the recipients arriving on the recipients topic until SIGTERM or SIGINT.

    First everything is looked at that a worker needs, and all faults are named at once. What may
    come by itself, as a server that is starting, is waited for.
    """
    with own_id(read_settings(config)) as settings:
        raise typer.Exit(_run(settings, workers, wait_for, config))


def _run(settings: Settings, workers: int, wait_for: timedelta | None, config: Path | None) -> int:
    """Run the workers, and return the exit code."""
    logs.configure(settings.log, settings.worker.id)
    report = _prepared(settings, workers, wait_for)
    if report is None:
        return DONE
    if report.faults:
        fail("\n".join(["cannot start:", *report.faults]), report.exit_code)
    _announce(settings, report)
    if workers == 1:
        code = run_worker(settings)
        return FAILED if code == BROKEN_INPUT else code
    return Supervisor(config, settings.worker.id, workers).run()


def _prepared(settings: Settings, workers: int, wait_for: timedelta | None) -> StartReport | None:
    """Return what was found, once nothing is absent; None if a signal ended the wait."""
    deadline = None if wait_for is None else time.monotonic() + wait_for.total_seconds()
    report = examine_start(settings, workers)
    if report.faults or not report.absent:
        return report
    said_at: float | None = None
    with _stop_on_signal() as stop, _readiness(settings) as why:
        while not report.faults and report.absent:
            why[:] = report.absent
            if said_at is None or time.monotonic() - said_at >= _SAY_EVERY_S:
                said_at = time.monotonic()
                logger.warning("waiting to start", extra={"cause": "; ".join(report.absent)})
                notify(f"STATUS=waiting to start: {'; '.join(report.absent)}")
            if deadline is not None and time.monotonic() >= deadline:
                fail("\n".join(["cannot start:", *report.absent]))
            if stop.wait(_LOOK_EVERY_S):
                return None
            report = examine_start(settings, workers)
    return report


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _readiness(settings: Settings) -> Iterator[list[str]]:
    """Serve `/readyz` during the wait; it says what is in the list that is yielded."""
    why: list[str] = []
    server: HealthServer | None = None
    if settings.metrics.port:
        try:
            server = HealthServer(
                settings.metrics.port,
                lambda: None,
                lambda: "; ".join(why),
                host=settings.metrics.host,
            )
        except OSError as error:
            fail(f"metrics.port: cannot listen on port {settings.metrics.port}: {error.strerror}")
    try:
        yield why
    finally:
        if server is not None:
            server.close()


def _announce(settings: Settings, report: StartReport) -> None:
    """Say what the workers work with: for humans as lines, otherwise as fields of the log."""
    if settings.log.format == "json":
        logger.info("streamer starts", extra={"version": version(), **_as_fields(report)})
        return
    width = max(map(len, report.facts))
    lines = [f"{subject:{width}}  {text}" for subject, text in report.facts.items()]
    warn("\n".join([f"streamer {version()}", *lines]))


def _as_fields(report: StartReport) -> dict[str, str]:
    return {subject.replace(" ", "_"): text for subject, text in report.facts.items()}
