"""Command line interface: one module per command group."""

from typing import Annotated

import typer
from typer.core import TyperGroup

from streamer.cli import (
    account,
    campaign,
    close,
    config,
    demo,
    dlq,
    doctor,
    drafts,
    drop,
    ledger,
    outcomes,
    preview,
    produce,
    progress,
    project,
    retry,
    run,
    sandbox,
    send_test,
    stack,
    suppress,
    topics,
    trace,
    watch,
)
from streamer.cli.output import fail, say
from streamer.cli.version import version
from streamer.errors import INTERRUPTED


class _Commands(TyperGroup):
    """The commands; Ctrl-C ends each with the same exit code."""

    def invoke(self, ctx: object) -> object:
        try:
            return super().invoke(ctx)  # type: ignore[arg-type]  # its class is typer's own
        except KeyboardInterrupt:
            fail("interrupted", INTERRUPTED)


app = typer.Typer(
    name="streamer",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Send email campaigns from Kafka through Resend: no recipient twice, none lost.",
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        say(f"streamer {version()}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    del show_version  # done by its callback


campaign.app.command("edit")(drafts.edit)
campaign.app.command("copy")(drafts.copy)
campaign.app.command("delete")(drafts.delete)
campaign.app.command("close")(close.close)
campaign.app.command("drop")(drop.drop)
campaign.app.command("preview")(preview.preview)
campaign.app.command("test")(send_test.send_test_command)

app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("outcomes")(outcomes.outcomes)
app.command("produce")(produce.produce)
app.command("progress")(progress.progress)
app.command("project")(project.project)
app.command("retry")(retry.retry)
app.command("run")(run.run)
app.command("sandbox")(sandbox.sandbox)
app.command("trace")(trace.trace)
app.command("watch")(watch.watch)
app.add_typer(account.app, name="account")
app.add_typer(campaign.app, name="campaign")
app.add_typer(config.app, name="config")
app.add_typer(dlq.app, name="dlq")
app.add_typer(ledger.app, name="ledger")
app.add_typer(stack.app, name="stack")
app.add_typer(suppress.app, name="suppress")
app.add_typer(topics.app, name="topics")


def main() -> None:
    """Run the command line interface; the console script's entry point."""
    app()
