"""`streamer project`: count the progress of campaigns."""

import signal
import threading
import time
from types import FrameType
from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient

from streamer import logs
from streamer.cli.common import ConfigOption, fail, kafka_admin, read_settings, redis_client, warn
from streamer.feedback.applier import Applier
from streamer.kafka.offsets import EARLIEST, OffsetsQuestion
from streamer.kafka.shared import shared_consumer
from streamer.progress.projector import Projector
from streamer.progress.store import Store
from streamer.progress.topic_reader import ProjectionError, find_partitions
from streamer.settings import Settings
from streamer.worker.health import HealthServer

_STEP_LIMIT_S = 60.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def project(
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Drop the counts and add them up again from the beginning of the topic. What its "
            "retention has deleted is no longer counted.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Count the progress of campaigns, and apply mail events, until SIGTERM or SIGINT.

    Workers do this too, unless `progress.embedded` is false. Several can run at once without
    counting anything twice.
    """
    settings = read_settings(config)
    stop = threading.Event()

    def on_signal(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stop.set()

    with kafka_admin(settings) as admin:
        _check_topic(settings, admin, rebuild=rebuild)
    with redis_client(settings) as client:
        if rebuild:
            _drop(Store(client, settings.kafka.group_id))
        readers = shared_consumer(settings)
        projector = Projector(settings, readers, lambda: warn("caught up with the topic"))
    logs.configure(settings.log, f"{settings.worker.id}-project")
    server = _serve_metrics(settings, projector)
    previous = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    applier = threading.Thread(target=Applier(settings, readers).run, args=(stop,), name="events")
    applier.start()
    try:
        projector.work(stop)
    except ProjectionError as error:
        fail(error)
    finally:
        stop.set()
        applier.join()
        if server is not None:
            server.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_topic(settings: Settings, admin: AdminClient, *, rebuild: bool) -> None:
    try:
        partitions = find_partitions(admin, settings.topics)
    except ProjectionError as error:
        fail(error)
    if rebuild and any(OffsetsQuestion(admin, partitions, EARLIEST).answer().values()):
        warn(
            f"retention has deleted the beginning of {settings.topics.progress}: campaigns of that "
            f"time show fewer recipients than they had"
        )


def _serve_metrics(settings: Settings, projector: Projector) -> HealthServer | None:
    """Serve metrics as a worker does; a worker on the same machine may already use the port."""
    port = settings.metrics.port
    if port == 0:
        return None

    def stands_still() -> str | None:
        still_s = time.monotonic() - projector.last_step
        return None if still_s < _STEP_LIMIT_S else f"nothing counted for {still_s:.0f} s"

    try:
        return HealthServer(port, alive=stands_still, ready=stands_still)
    except OSError as error:
        warn(
            f"metrics.port: cannot listen on port {port} ({error.strerror}), no metrics are "
            f"served; use another port, or 0 to disable them"
        )
        return None


def _drop(store: Store) -> None:
    generation = store.open(anew=True).generation
    store.drop_older(generation)
    warn("counts dropped, counting from the beginning of the topic")
