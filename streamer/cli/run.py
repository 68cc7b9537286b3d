"""`streamer run`: run one or more workers."""

from typing import Annotated

import typer

from streamer.cli.common import ConfigOption, read_settings
from streamer.errors import FAILED
from streamer.worker.process import BROKEN_INPUT, run_worker
from streamer.worker.supervisor import Supervisor


def run(
    workers: Annotated[int, typer.Option(min=1, help="Number of worker processes.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Mail the recipients arriving on the recipients topic until SIGTERM or SIGINT."""
    settings = read_settings(config)
    if workers == 1:
        code = run_worker(settings)
        raise typer.Exit(FAILED if code == BROKEN_INPUT else code)
    raise typer.Exit(Supervisor(config, workers).run())
