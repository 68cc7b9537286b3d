"""What failures of some organizations cost the others: `python -m bench stuck`.

Many organizations send equal shares at a limited rate. Each case runs twice: without failures, and
with some organizations failing. Measures how much later the others get their last mail, and how
many of their outcomes are still uncommitted a while later, blocked by failing records.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated

import orjson
import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from bench import content
from bench.site import BenchSite, read_metrics, show
from streamer.sandbox import AccountSpec, Faults, SandboxProcess
from streamer.stack import Stack
from streamer.stack.ports import free_port

ORGANIZATIONS = 20
RATE = 20
LATENCY_MS = 60
SLOWER_BAR = 0.10
_BATCH = 100
_AGE, _BLOCKED = "streamer_oldest_batch_age_seconds", "streamer_blocked_records"
_LOOK_EVERY_S = 0.1
_START_S = 60.0
_COMMITTED_S = 5.0
_MAX_TIMES = 4


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of failure and the organizations it affects.

    Attributes:
        accounts: account names with the organizations of each.
        troubled: the affected organizations.
        account: the account that is down; None if batches fail instead.
    """

    name: str
    accounts: Mapping[str, Sequence[str]]
    troubled: frozenset[str]
    account: str | None = None


@dataclass(frozen=True, slots=True)
class BacklogRun:
    """The measurements of the unaffected organizations in one run.

    Attributes:
        last_s: seconds from the first call to their last accepted mail.
        unread: number of their outcomes still uncommitted a while after that.
        calls: number of all calls until then, including those of affected organizations.
        oldest_s: the highest reported age of the oldest batch.
        blocked: the highest reported number of decided records blocked by an older one.
    """

    last_s: float
    unread: int
    calls: int
    oldest_s: float
    blocked: int


@dataclass(frozen=True, slots=True)
class StuckFinding:
    """A case without and with failures."""

    case: str
    healthy: BacklogRun
    troubled: BacklogRun

    @property
    def slower(self) -> float:
        """How much longer the others took, relative to the run without failures."""
        return self.troubled.last_s / self.healthy.last_s - 1

    @property
    def is_missed(self) -> bool:
        """Whether the bar was missed."""
        return self.slower > SLOWER_BAR


_NAMES = [f"org-{number}" for number in range(ORGANIZATIONS)]
_HALF = ORGANIZATIONS // 2
CASES = (
    Case("one organization's batches fail", {"default": _NAMES}, frozenset(_NAMES[:1])),
    Case(
        "an account is down",
        {"default": _NAMES[:_HALF], "other": _NAMES[_HALF:]},
        frozenset(_NAMES[:_HALF]),
        account="default",
    ),
)


class _Backlog:
    """The recipients of a case, enough to keep each account busy for this many seconds."""

    def __init__(self, case: Case, seconds: int) -> None:
        self._numbers: dict[str, range] = {}
        start = 0
        for served in case.accounts.values():
            each = seconds * RATE * _BATCH // len(served)
            for organization in served:
                self._numbers[organization] = range(start, start + each)
                start += each
        self.all = sum(map(len, self._numbers.values()))
        self.others = sum(
            len(numbers) for name, numbers in self._numbers.items() if name not in case.troubled
        )
        self.failing_addresses = frozenset(
            content.address(number) for name in case.troubled for number in self._numbers[name]
        )

    def events(self, campaign: str) -> Iterator[tuple[str, bytes]]:
        """Input records, alternating between all organizations."""
        in_turn = zip(
            *(
                content.events(campaign, numbers, inline=True, organization=name)
                for name, numbers in self._numbers.items()
            ),
            strict=True,
        )
        return (event for turn in in_turn for event in turn)


class _Watch:
    """Waits until this many mails are accepted, recording the worker's gauges."""

    def __init__(self, sandbox: SandboxProcess, mails: int, port: int) -> None:
        self._sandbox = sandbox
        self._mails = mails
        self._port = port
        self._until: float | None = None
        self.oldest_s = 0.0
        self.blocked = 0

    def is_over(self) -> bool:
        """Whether the mails are accepted and their outcomes had time to be committed."""
        shown = _read_gauges(self._port)
        self.oldest_s = max(self.oldest_s, shown[_AGE])
        self.blocked = max(self.blocked, round(shown[_BLOCKED]))
        if self._until is None and self._sandbox.stats().accepted >= self._mails:
            self._until = time.monotonic() + _COMMITTED_S
        return self._until is not None and time.monotonic() >= self._until


def measure(stack: Stack, case: Case, seconds: int, set_aside_s: float) -> StuckFinding:
    """Run a case without and with failures."""
    backlog = _Backlog(case, seconds)
    name = f"stuck-{len(case.accounts)}"
    specs = [AccountSpec(name=name, keys=(_key(name),), limit=None) for name in case.accounts]
    with SandboxProcess(
        accounts=specs,
        latency_ms=LATENCY_MS,
        count_addresses=False,
        keep_mails=0,
    ) as sandbox:
        place = (stack, sandbox, case, backlog)
        healthy = _run(*place, f"{name}-healthy", backlog.all, seconds, set_aside_s)
        if case.account is None:
            sandbox.set_faults(Faults(fail_addresses=backlog.failing_addresses))
        else:
            sandbox.set_faults(Faults(outage="unavailable"), case.account)
        troubled = _run(*place, f"{name}-troubled", backlog.others, seconds, set_aside_s)
    return StuckFinding(case.name, healthy, troubled)


def _run(
    stack: Stack,
    sandbox: SandboxProcess,
    case: Case,
    backlog: _Backlog,
    name: str,
    mails: int,
    seconds: int,
    set_aside_s: float,
) -> BacklogRun:
    port = free_port()
    with closing(BenchSite(stack, sandbox, name)) as site:
        site.make_topics()
        sandbox.reset()
        with site.worker(RATE, port, settings=_settings(case, set_aside_s)) as process:
            process.wait_until(lambda: site.members() == 1, _LOOK_EVERY_S, _START_S)
            site.write(backlog.events(name))
            watch = _Watch(sandbox, mails, port)
            process.wait_until(watch.is_over, _LOOK_EVERY_S, _MAX_TIMES * seconds + _START_S)
            committed = sum(o["organization_id"] not in case.troubled for o in site.outcomes())
            calls = sandbox.calls()
    first = min(call.wall for call in calls)
    last = max(a.wall for a in sandbox.acceptances() if a.organization not in case.troubled)
    unread = backlog.others - committed
    return BacklogRun(last - first, unread, len(calls), watch.oldest_s, watch.blocked)


def _settings(case: Case, set_aside_s: float) -> dict[str, str]:
    accounts = {
        name: {
            "api_key_env": f"KEY_OF_{name.upper()}",
            "requests_per_second": RATE,
            "organizations": list(served),
        }
        for name, served in case.accounts.items()
    }
    return {f"KEY_OF_{name.upper()}": _key(name) for name in case.accounts} | {
        "STREAMER_ACCOUNTS": orjson.dumps(accounts).decode(),
        "STREAMER_DELIVERY__SET_ASIDE_S": str(set_aside_s),
    }


def _key(account: str) -> str:
    return f"re_{account}"


def _read_gauges(port: int) -> dict[str, float]:
    return {
        family.name: family.samples[0].value
        for family in text_string_to_metric_families(read_metrics(port))
        if family.name in (_AGE, _BLOCKED)
    }


def stuck(
    seconds: Annotated[
        int, typer.Option(min=1, help="How long the backlog keeps a healthy account busy.")
    ] = 60,
    set_aside: Annotated[
        float, typer.Option(min=0.1, help="The setting `delivery.set_aside_s`.")
    ] = 20.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure what failures of some organizations cost the others."""
    with Stack.ephemeral() as stack:
        findings = [measure(stack, case, seconds, set_aside) for case in CASES]
    report = {
        "organizations": ORGANIZATIONS,
        "requests_per_second": RATE,
        "set_aside_s": set_aside,
        "bar": SLOWER_BAR,
        "cases": [{**asdict(finding), "slower": finding.slower} for finding in findings],
    }
    show(report, _table(findings), json)
    raise typer.Exit(1 if any(finding.is_missed for finding in findings) else 0)


def _table(findings: Sequence[StuckFinding]) -> Table:
    table = Table(
        title=f"{ORGANIZATIONS} organizations, {RATE} calls per second and account; the others' "
        f"last mail may be {SLOWER_BAR:.0%} later",
        title_justify="left",
    )
    table.add_column("case", no_wrap=True)
    for name in ("last s", "later", "unread", "calls", "oldest s", "blocked"):
        table.add_column(name, justify="right")
    for finding in findings:
        missed = " missed" if finding.is_missed else ""
        for name, run, later in (
            ("no failures", finding.healthy, ""),
            (finding.case, finding.troubled, f"{finding.slower:+.1%}{missed}"),
        ):
            table.add_row(
                name,
                f"{run.last_s:.1f}",
                later,
                f"{run.unread:,}",
                f"{run.calls:,}",
                f"{run.oldest_s:.1f}",
                f"{run.blocked:,}",
            )
    return table
