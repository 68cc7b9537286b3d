"""`streamer run`: the worker, or several."""

from typing import Annotated

import typer

from streamer.cli.common import ConfigOption, read_settings
from streamer.errors import FAILED
from streamer.worker.process import BROKEN_INPUT, run_worker
from streamer.worker.supervisor import Supervisor


def run(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes to run.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Send what arrives on the recipients' topic, until SIGTERM or SIGINT."""
    settings = read_settings(config)
    if workers == 1:
        code = run_worker(settings)
        raise typer.Exit(FAILED if code == BROKEN_INPUT else code)
    raise typer.Exit(Supervisor(config, workers).run())
