"""`make faults`: every fault at every point of the main job, the applier and the gateway."""

import random
import sys
import time
from typing import Annotated

import typer

from streamer.stack import Stack
from tests.faults import matrix


def main(
    points: Annotated[str, typer.Option(help="Patterns: pin, pin#2, hold:*, kafka")] = "",
    fault: Annotated[str, typer.Option(help="Patterns: reply_lost, 4*, death*")] = "",
    lanes: Annotated[int, typer.Option(min=1, max=15, help="Runs at a time")] = 6,
    sample: Annotated[int, typer.Option(min=0, help="So many of the pairs; 0: all")] = 0,
    seed: Annotated[int | None, typer.Option(help="Of the sample, and of the order")] = None,
    show: Annotated[bool, typer.Option("--list", help="Only say what there is")] = False,
) -> None:
    """Visit every pair of a point and a fault; exit 1 on a broken guarantee or a missed pair."""
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    began = time.monotonic()
    with Stack.ephemeral() as stack:
        found = matrix.discover(stack)
        pairs = matrix.pairs_of(found, points, fault)
        typer.echo(f"{len(found)} points, {len(pairs)} pairs to visit, seed {chosen}")
        if show:
            for pair in pairs:
                typer.echo(str(pair))
            return
        if not pairs:
            typer.echo("no such point, or no such fault", err=True)
            sys.exit(2)
        # Shuffle, so that slow pairs do not accumulate at the end.
        pairs = matrix.sample(pairs, sample or len(pairs) * 3, chosen)
        findings = matrix.visit(stack, pairs, lanes, typer.echo)
    for line in findings.table():
        typer.echo(line)
    for pair in findings.unreached:
        typer.echo(f"not reached: {pair}")
    for pair, words in findings.broken:
        typer.echo(f"broken: {pair}: {words.splitlines()[0]}")
    for words in findings.worlds:
        typer.echo(f"broken: {words.splitlines()[0]}")
    typer.echo(f"{time.monotonic() - began:.0f} s")
    sys.exit(0 if findings.is_clean else 1)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command()(main)
    app()
