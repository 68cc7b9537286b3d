"""`streamer topics`: create and check the topics."""

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
    say,
    show_json,
)
from streamer.settings import SettingsError

app = typer.Typer(no_args_is_help=True, help="Create and check the topics.")


@app.callback()
def _group() -> None:
    """Force typer to treat the single command as a group."""


@app.command()
def create(
    partitions: Annotated[
        int, typer.Option(min=1, help="Partitions per topic, the maximum number of workers.")
    ] = topics.DEFAULT_PARTITIONS,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1, help="Replicas per partition. Default: 3, or fewer with fewer brokers."
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create missing topics, and report where existing ones fall short.

    Existing topics are not changed. They may have more partitions or a longer retention.
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
        say(f"{report.name}: created")
    elif not report.differences:
        say(f"{report.name}: ok")
    for difference in report.differences:
        say(f"{report.name}: {difference}")
        say(f"  {difference.mend}")
