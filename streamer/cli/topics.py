"""`streamer topics`: the topics that streamer reads and writes."""

from dataclasses import asdict
from typing import Annotated

import typer

from streamer import topics
from streamer.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    fail,
    kafka_admin,
    read_settings,
    show_json,
)
from streamer.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="The topics that streamer reads and writes.")


@app.callback()
def _group() -> None:
    """Makes a group of it, though there is one command."""


@app.command()
def create(
    partitions: Annotated[
        int, typer.Option(min=1, help="Partitions of each: the most workers that can share it.")
    ] = topics.DEFAULT_PARTITIONS,
    replication: Annotated[
        int | None,
        typer.Option(min=1, help="Copies of each. By default 3, or one on each broker if fewer."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that are missing, and say in what the others fall short.

    An existing topic is not changed. It may have more partitions or keep records longer.
    """
    settings = read_settings(config)
    try:
        with kafka_admin(settings) as admin:
            reports = topics.ensure(admin, settings.topics, partitions, replication)
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)
    if as_json:
        show_json([asdict(report) for report in reports])
    else:
        for report in reports:
            _show(report)
    if any(report.differences for report in reports):
        raise typer.Exit(FAILED)


def _show(report: topics.TopicReport) -> None:
    if report.created:
        typer.echo(f"{report.name}: created")
    elif not report.differences:
        typer.echo(f"{report.name}: there, as it should be")
    for difference in report.differences:
        typer.echo(f"{report.name}: {difference}\n  {difference.mend}")
