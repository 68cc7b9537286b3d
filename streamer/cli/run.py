"""`streamer run`: the worker, or several."""

from typing import Annotated

import typer

from streamer.cli.common import ConfigOption, read_settings
from streamer.worker.process import run_worker
from streamer.worker.supervisor import Supervisor


def run(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes to run.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Send what arrives on the recipients' topic, until SIGTERM or SIGINT."""
    settings = read_settings(config)
    if workers == 1:
        raise typer.Exit(run_worker(settings))
    raise typer.Exit(Supervisor(config, workers).run())
