"""Command line interface: one module per command group."""

from inspect import getdoc
from typing import Annotated

import typer
from typer.core import TyperGroup
from typer.models import CommandInfo, TyperInfo

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
    events,
    gateway,
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
from streamer.cli.examples import epilog
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

_SEND, _WATCH, _MEND, _RUN, _TRY = "Send", "Watch", "Mend", "Run", "Try"
"""What the commands are for, in the order of the help."""

app.command("produce", rich_help_panel=_SEND)(produce.produce)
app.command("watch", rich_help_panel=_WATCH)(watch.watch)
app.command("progress", rich_help_panel=_WATCH)(progress.progress)
app.command("outcomes", rich_help_panel=_WATCH)(outcomes.outcomes)
app.command("trace", rich_help_panel=_WATCH)(trace.trace)
app.command("doctor", rich_help_panel=_WATCH)(doctor.doctor)
app.command("retry", rich_help_panel=_MEND)(retry.retry)
app.command("run", rich_help_panel=_RUN)(run.run)
app.command("project", rich_help_panel=_RUN)(project.project)
app.command("gateway", rich_help_panel=_RUN)(gateway.gateway)
app.command("demo", rich_help_panel=_TRY)(demo.demo)
app.command("sandbox", rich_help_panel=_TRY)(sandbox.sandbox)
app.add_typer(campaign.app, name="campaign", rich_help_panel=_SEND)
app.add_typer(suppress.app, name="suppress", rich_help_panel=_SEND)
app.add_typer(account.app, name="account", rich_help_panel=_MEND)
app.add_typer(dlq.app, name="dlq", rich_help_panel=_MEND)
app.add_typer(ledger.app, name="ledger", rich_help_panel=_MEND)
app.add_typer(events.app, name="events", rich_help_panel=_MEND)
app.add_typer(topics.app, name="topics", rich_help_panel=_RUN)
app.add_typer(config.app, name="config", rich_help_panel=_RUN)
app.add_typer(stack.app, name="stack", rich_help_panel=_TRY)


def _write_help() -> None:
    """Fold the docstrings to the terminal, and show two examples below the options."""
    for name, commands in [("", app), *((f"{g.name} ", g.typer_instance) for g in _groups())]:
        for command in commands.registered_commands if commands else ():
            paragraphs = (getdoc(command.callback) or "").split("\n\n")
            command.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)
            command.epilog = epilog(f"{name}{_name(command)}")


def _groups() -> list[TyperInfo]:
    return app.registered_groups


def _name(command: CommandInfo) -> str:
    call = command.callback
    return command.name or (call.__name__ if call else "").rstrip("_").replace("_", "-")


_write_help()


def main() -> None:
    """Run the command line interface; the console script's entry point."""
    app()
