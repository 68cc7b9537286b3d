"""`streamer stack`: run Kafka and Redis on this machine, for trials."""

import os
import signal
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.common import JsonOption, fail, say, show_json, show_table, warn
from streamer.cli.output import show_json_line
from streamer.stack import DetachedStack, PortInUse, Service, Stack, StackError
from streamer.stack.artifacts import KAFKA_VERSION, kafka_is_here

app = typer.Typer(no_args_is_help=True, help="Run Kafka and Redis on this machine, for trials.")

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        metavar="DIR",
        file_okay=False,
        help="Data and logs. Default: streamer/stack in $XDG_DATA_HOME or ~/.local/share.",
    ),
]
_LOOK_S = 0.5


@app.command()
def up(
    folder: FolderOption = None,
    ephemeral: Annotated[
        bool,
        typer.Option(
            "--ephemeral",
            help="Run on free ports in a temporary folder until Ctrl-C, leaving nothing behind.",
        ),
    ] = False,
    kafka_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 9092.")] = None,
    redis_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Default: 6379.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Start Kafka and Redis. They run until `down`; their data is kept for the next `up`."""
    if ephemeral and not (folder is None and kafka_port is None and redis_port is None):
        raise typer.BadParameter(
            "cannot be combined with a folder or ports", param_hint="--ephemeral"
        )
    if kafka_port is not None and kafka_port == redis_port:
        raise typer.BadParameter(f"{kafka_port} is Kafka's port", param_hint="--redis-port")
    if not kafka_is_here():
        warn(f"Downloading Kafka {KAFKA_VERSION}, about 45 MB, once.")
    try:
        if ephemeral:
            _run_ephemeral(as_json)
            return
        stack = DetachedStack(_folder(folder))
        started = stack.up(kafka_port, redis_port)
    except PortInUse as error:
        fail(f"streamer stack: {error} with --{error.server}-port.")
    except (StackError, OSError) as error:
        fail(f"streamer stack: {error}")
    services = stack.status()
    if not (started or as_json):
        say("Already running.")
    _show(services, stack.folder, as_json)
    _fail_unless_all_serve(services)


@app.command()
def down(folder: FolderOption = None) -> None:
    """Stop Kafka and Redis, keeping their data."""
    stack = DetachedStack(_folder(folder))
    try:
        ended = stack.down()
    except (StackError, OSError) as error:
        fail(f"streamer stack: {error}")
    say(f"Stopped: {', '.join(ended)}." if ended else "Not running.")


@app.command()
def status(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """Show what is running. Exits with 1 unless both Kafka and Redis answer."""
    stack = DetachedStack(_folder(folder))
    try:
        services = stack.status()
    except (StackError, OSError) as error:
        fail(f"streamer stack: {error}")
    _show(services, stack.folder, as_json)
    _fail_unless_all_serve(services)


def _run_ephemeral(as_json: bool) -> None:
    # Explicit, because a shell starts background commands with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Stack.ephemeral() as stack:
            servers = (stack.kafka, stack.redis)
            if as_json:
                # On one line, for a program that reads it while this keeps running.
                places = {
                    server.name: {"address": server.address, "pid": server.pid}
                    for server in servers
                }
                show_json_line(places)
            else:
                for server in servers:
                    say(f"{server.name}  {server.address}")
                say("Press Ctrl-C to stop.")
            while all(server.pid is not None for server in servers):
                time.sleep(_LOOK_S)
            dead = next(server for server in servers if server.pid is None)
            raise StackError(f"{dead.name} died; the end of its log:\n{dead.last_words()}")
    except KeyboardInterrupt:
        return


def _folder(given: Path | None) -> Path:
    if given is not None:
        return given
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "streamer" / "stack"


def _fail_unless_all_serve(services: Sequence[Service]) -> None:
    if not all(service.serves for service in services):
        raise typer.Exit(1)


def _show(services: Sequence[Service], folder: Path, as_json: bool) -> None:
    if as_json:
        show_json(
            {"folder": str(folder)}
            | {
                service.name: {
                    "state": _state(service),
                    "address": service.address,
                    "pid": service.pid,
                    "version": service.version,
                    "uptime_seconds": service.uptime_s,
                    "log": str(service.log),
                }
                for service in services
            }
        )
        return
    rows = [
        [
            service.name,
            _state(service),
            service.address or "-",
            str(service.pid or "-"),
            service.version or "-",
            "-" if service.uptime_s is None else str(timedelta(seconds=int(service.uptime_s))),
            str(service.log),
        ]
        for service in services
    ]
    show_table(["server", "state", "address", "pid", "version", "uptime", "log"], rows)


def _state(service: Service) -> str:
    if service.serves:
        return "running"
    return "stopped" if service.pid is None else "not answering"
