"""`streamer doctor`: check everything a worker needs."""

from dataclasses import asdict

import typer

from streamer.cli.common import FAILED, ConfigOption, JsonOption, read_settings, show_json
from streamer.doctor import Finding, Level, examine

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILED: "red"}
_WIDTH = max(map(len, Level))


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the settings, Kafka, Redis, Resend and the accounts, and suggest fixes."""
    settings = read_settings(config)
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        show_json([asdict(finding) for finding in findings])
    if any(finding.level is Level.FAILED for finding in findings):
        raise typer.Exit(FAILED)


def _show(finding: Finding) -> None:
    word = typer.style(finding.level.ljust(_WIDTH), fg=_COLOURS[finding.level])
    typer.echo(f"{word}  {finding.subject}: {finding.text}")
    if finding.mend is not None:
        typer.echo(f"{'':{_WIDTH}}  -> {finding.mend}")
