"""`streamer doctor`: check everything a worker needs."""

from dataclasses import asdict

import typer

from streamer.cli.common import FAILED, ConfigOption, JsonOption, read_settings, say, show_json
from streamer.doctor import CheckResult, Level, examine

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}
_WIDTH = max(map(len, Level))


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the settings, Kafka, Redis, Resend and the accounts, and suggest fixes."""
    settings = read_settings(config)
    results = []
    for result in examine(settings):
        results.append(result)
        if not as_json:
            _show(result)
    if as_json:
        show_json([asdict(finding) for finding in results])
    if any(finding.level is Level.FAILED for finding in results):
        raise typer.Exit(FAILED)


def _show(result: CheckResult) -> None:
    mark = result.level.ljust(_WIDTH)
    say(f"  {result.subject}: {result.text}", mark=mark, colour=_COLOURS[result.level])
    if result.mend is not None:
        say(f"{'':{_WIDTH}}  -> {result.mend}")
