"""The commands, one file a group: each parses, calls and shows."""

import typer

from streamer.cli import (
    campaign,
    close,
    demo,
    doctor,
    produce,
    progress,
    project,
    run,
    sandbox,
    stack,
    suppress,
    topics,
    watch,
)

app = typer.Typer(
    name="streamer",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Sends email campaigns from Kafka through Resend: no recipient twice, none lost.",
)

app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("produce")(produce.produce)
app.command("progress")(progress.progress)
app.command("project")(project.project)
app.command("run")(run.run)
app.command("sandbox")(sandbox.sandbox)
app.command("watch")(watch.watch)
campaign.app.command("close")(close.close)
app.add_typer(campaign.app, name="campaign")
app.add_typer(stack.app, name="stack")
app.add_typer(suppress.app, name="suppress")
app.add_typer(topics.app, name="topics")


def main() -> None:
    """Entry point of the console script."""
    app()
