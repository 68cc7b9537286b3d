"""`streamer run`: the worker, or several."""

from pathlib import Path
from typing import Annotated

import typer

from streamer.settings import load
from streamer.worker.process import run_worker
from streamer.worker.supervisor import Supervisor


def run(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes to run.")] = 1,
    config: Annotated[Path | None, typer.Option(help="Settings file (TOML).")] = None,
) -> None:
    """Send what arrives on the recipients' topic, until SIGTERM or SIGINT."""
    settings = load(config)
    if workers == 1:
        raise typer.Exit(run_worker(settings))
    raise typer.Exit(Supervisor(config, workers).run())
