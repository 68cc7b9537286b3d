"""Command line interface: one module per command group."""

from typing import Annotated

import typer
from typer.core import TyperGroup

from streamer.cli.lazy import CommandSource, LazyCommands
from streamer.cli.output import fail, say
from streamer.cli.version import version
from streamer.errors import INTERRUPTED

_SEND, _WATCH, _MEND, _RUN, _TRY = "Send", "Watch", "Mend", "Run", "Try"
"""What the commands are for, in the order of the help."""

_COMMANDS = {
    "produce": CommandSource("produce", "produce", _SEND),
    "watch": CommandSource("watch", "watch", _WATCH),
    "progress": CommandSource("progress", "progress", _WATCH),
    "outcomes": CommandSource("outcomes", "outcomes", _WATCH),
    "trace": CommandSource("trace", "trace", _WATCH),
    "doctor": CommandSource("doctor", "doctor", _WATCH),
    "retry": CommandSource("retry", "retry", _MEND),
    "run": CommandSource("run", "run", _RUN),
    "project": CommandSource("project", "project", _RUN),
    "gateway": CommandSource("gateway", "gateway", _RUN),
    "demo": CommandSource("demo", "demo", _TRY),
    "sandbox": CommandSource("sandbox", "sandbox", _TRY),
    "campaign": CommandSource("campaign_commands", "app", _SEND),
    "suppress": CommandSource("suppress", "app", _SEND),
    "account": CommandSource("account", "app", _MEND),
    "dlq": CommandSource("dlq", "app", _MEND),
    "ledger": CommandSource("ledger", "app", _MEND),
    "events": CommandSource("events", "app", _MEND),
    "topics": CommandSource("topics", "app", _RUN),
    "config": CommandSource("config", "app", _RUN),
    "stack": CommandSource("stack", "app", _TRY),
}


class _Commands(TyperGroup):
    """The commands; Ctrl-C ends each with the same exit code."""

    def __init__(self, **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]  # typer's own
        self.commands = LazyCommands(_COMMANDS)  # type: ignore[assignment]  # nothing is added

    def list_commands(self, ctx: object) -> list[str]:
        del ctx
        return [*self.commands]  # the inherited one would import them

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


def main() -> None:
    """Run the command line interface; the console script's entry point."""
    app()
