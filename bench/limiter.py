"""How well workers use a shared rate limit: `python -m bench limiter`.

The stand-in for Resend strictly limits calls per second and answers 429 beyond that. All workers
have joined the group before the backlog is produced, and the backlog always exceeds the limit.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from rich.table import Table

from bench import content
from bench.measured import BenchError
from bench.site import BenchSite, show, totals_alone
from streamer.sandbox import Call, SandboxProcess
from streamer.stack import Stack

LIMIT = 10
LATENCY_MS = 60
SHARE_BAR = 0.98
THROTTLED_BAR = 0.001
FILL_BAR = 0.99
_BATCH = 100
_THROTTLED = 429
_SPARE_S = 5
_START_S = 120.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Use:
    """How the limit was used, over whole seconds starting at the first call.

    Attributes:
        calls: number of calls received.
        accepted: number of calls answered 200.
        throttled: number of calls answered 429.
        mails: number of mails in accepted calls.
    """

    workers: int
    seconds: int
    calls: int
    accepted: int
    throttled: int
    mails: int

    @property
    def share(self) -> float:
        """Accepted calls as a share of the allowed calls."""
        return self.accepted / (LIMIT * self.seconds)

    @property
    def throttled_share(self) -> float:
        """Throttled calls as a share of all calls."""
        return self.throttled / self.calls

    @property
    def fill(self) -> float:
        """Mails per accepted call as a share of the batch size."""
        return self.mails / (_BATCH * self.accepted) if self.accepted else 0.0

    @property
    def missed(self) -> list[str]:
        """Names of the missed bars."""
        kept = {
            "share": self.share >= SHARE_BAR,
            "429": self.throttled_share < THROTTLED_BAR,
            "fill": self.fill >= FILL_BAR,
        }
        return [name for name, is_kept in kept.items() if not is_kept]


def use_of(calls: Sequence[Call], workers: int, most_seconds: int) -> Use:
    """Count the calls in the first whole seconds, at most `most_seconds`.

    Raises:
        BenchError: the calls span less than a second.
    """
    arrivals = [call.arrived for call in calls]
    first, last = min(arrivals, default=0.0), max(arrivals, default=0.0)
    seconds = min(most_seconds, int(last - first))
    if seconds < 1:
        raise BenchError(f"too little to measure: {len(calls)} calls within {last - first:.1f} s")
    counted = [call for call in calls if call.arrived < first + seconds]
    accepted = [call for call in counted if call.status == 200]
    return Use(
        workers=workers,
        seconds=seconds,
        calls=len(counted),
        accepted=len(accepted),
        throttled=sum(call.status == _THROTTLED for call in counted),
        mails=sum(call.mails for call in accepted),
    )


def measure(stack: Stack, sandbox: SandboxProcess, workers: int, seconds: int) -> Use:
    """Run this many workers on one limit for this many seconds."""
    recipients = (seconds + _SPARE_S) * LIMIT * _BATCH
    with closing(BenchSite(stack, sandbox, f"limiter-{workers}")) as site:
        site.make_topics()
        sandbox.reset()
        with site.worker(LIMIT, workers=workers) as process:
            process.wait_until(lambda: site.members() == workers, _LOOK_EVERY_S, _START_S)
            site.write(content.events(site.name, range(recipients), inline=True))
            process.wait_until(lambda: sandbox.stats().calls > 0, _LOOK_EVERY_S, _START_S)
            process.wait_until(_later(seconds + 1.0), 1.0, seconds + 2.0)
            calls = sandbox.calls()
    return use_of(calls, workers, seconds)


def limiter(
    workers: Annotated[
        str, typer.Option(help="Numbers of workers, each measured separately.")
    ] = "1,2,4,8",
    seconds: Annotated[int, typer.Option(min=1, help="Duration from the first call.")] = 30,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure how well workers use a shared rate limit."""
    counts = _counts(workers)
    with Stack.ephemeral() as stack, totals_alone(LIMIT, LATENCY_MS) as sandbox:
        uses = [measure(stack, sandbox, count, seconds) for count in counts]
    show(_report(uses), _table(uses), json)
    raise typer.Exit(1 if any(use.missed for use in uses) else 0)


def _counts(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise typer.BadParameter(
            f"invalid list {text!r}: expected numbers such as 1,2,4", param_hint="--workers"
        )
    return [int(word) for word in words]


def _later(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _report(uses: Sequence[Use]) -> dict[str, object]:
    return {
        "limit": LIMIT,
        "latency_ms": LATENCY_MS,
        "bars": {"share": SHARE_BAR, "throttled_share": THROTTLED_BAR, "fill": FILL_BAR},
        "runs": [
            {
                **asdict(use),
                "share": use.share,
                "throttled_share": use.throttled_share,
                "fill": use.fill,
                "missed": use.missed,
            }
            for use in uses
        ],
    }


def _table(uses: Sequence[Use]) -> Table:
    table = Table(
        title=f"{LIMIT} calls per second allowed, {LATENCY_MS} ms each", title_justify="left"
    )
    for name in ("workers", "seconds", "calls", "share", "429", "fill", "missed"):
        table.add_column(name, justify="right")
    table.add_row(
        "bar", "", "", f"≥ {SHARE_BAR:.0%}", f"< {THROTTLED_BAR:.1%}", f"≥ {FILL_BAR:.0%}"
    )
    for use in uses:
        table.add_row(
            str(use.workers),
            str(use.seconds),
            str(use.calls),
            f"{use.share:.1%}",
            f"{use.throttled_share:.2%}",
            f"{use.fill:.1%}",
            ", ".join(use.missed),
        )
    return table
