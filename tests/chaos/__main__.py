"""`make chaos`: a storm of a given size and seed."""

import random
import sys
from typing import Annotated

import typer

from tests.chaos.storm import Plan, run_storm


def main(
    recipients: Annotated[int, typer.Option(min=1)] = 20_000,
    kills: Annotated[int, typer.Option(min=0, help="kill -9 of workers")] = 30,
    zombies: Annotated[int, typer.Option(min=0, help="workers frozen past their session")] = 6,
    redis_kills: Annotated[int, typer.Option(min=0)] = 3,
    kafka_kills: Annotated[int, typer.Option(min=0)] = 2,
    stalls: Annotated[int, typer.Option(min=0, help="Redis stands still for 4.5 to 8 s")] = 2,
    failovers: Annotated[int, typer.Option(min=0, help="of a Redis with replicas")] = 0,
    resets: Annotated[int, typer.Option(min=0, help="replies of Redis are lost for 3 s")] = 3,
    refusals: Annotated[int, typer.Option(min=0, help="Resend refuses the account")] = 6,
    holds: Annotated[int, typer.Option(min=0, help="an operator holds the account")] = 3,
    pauses: Annotated[int, typer.Option(min=0, help="one of the campaigns is paused")] = 6,
    cancels: Annotated[int, typer.Option(min=0, help="one of the campaigns is cancelled")] = 1,
    repairs: Annotated[int, typer.Option(min=0, help="retry and dlq replay are run")] = 3,
    rejected: Annotated[int, typer.Option(min=0, help="recipients who spoil their batch")] = 20,
    failing: Annotated[int, typer.Option(min=0, help="recipients whose batch fails")] = 2,
    workers: Annotated[int, typer.Option(min=1)] = 3,
    pause: Annotated[float, typer.Option(help="Seconds between two happenings")] = 3.0,
    brokers: Annotated[int, typer.Option(min=1, help="1, or 3: each has a copy")] = 1,
    group_protocol: Annotated[str, typer.Option(help="classic, consumer")] = "classic",
    seed: Annotated[int | None, typer.Option(help="Repeats a run")] = None,
) -> None:
    """Disrupt three campaigns at random; exit 1 if a guarantee was broken."""
    chosen = random.SystemRandom().randrange(1_000_000) if seed is None else seed
    typer.echo(f"seed {chosen}")
    plan = Plan(
        recipients=recipients,
        workers=workers,
        kills=kills,
        zombies=zombies,
        redis_kills=redis_kills,
        kafka_kills=kafka_kills,
        stalls=stalls,
        resets=resets,
        failovers=failovers,
        refusals=refusals,
        holds=holds,
        pauses=pauses,
        cancels=cancels,
        repairs=repairs,
        rejected=min(rejected, recipients // 4),
        failing=min(failing, recipients // 4),
        seed=chosen,
        pause_s=pause,
        brokers=brokers,
        group_protocol=group_protocol,
    )
    try:
        report = run_storm(plan, typer.echo)
    except AssertionError as error:
        typer.echo(f"BROKEN with seed {chosen}:\n{error}", err=True)
        sys.exit(1)
    typer.echo(f"happened: {dict(report.happened)}")
    typer.echo(f"endings: {dict(report.resolutions)}")
    typer.echo(
        f"accepted {report.accepted} in {report.calls} calls, {report.seconds:.0f} s, "
        f"nobody twice, nobody lost"
    )


if __name__ == "__main__":
    typer.run(main)
