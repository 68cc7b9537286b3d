"""What `dlq replay` asks, looks up and reports."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from streamer.cli.common import WRONG_USE, fail, say, show_json, warn
from streamer.cli.dead_letters import warn_of_malformed
from streamer.cli.interrupts import Interrupts
from streamer.cli.output import confirm, stream_table
from streamer.ledger import campaigns
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.ledger.failure import redis_failure
from streamer.model.campaign import CampaignName
from streamer.model.plural import plural
from streamer.recovery.patch import InvalidPatchError, Patch, read_patch
from streamer.recovery.replay import DeadLetterReplay, ReplayReport, ReplayResult
from streamer.settings import Settings

_COLUMNS = (("OFFSET", 10), ("SOURCE", 24))


def read_fix(fix: str | None) -> Patch | None:
    """Read the patch of --fix; exit with 2 if it is none."""
    if fix is None:
        return None
    try:
        return read_patch(fix)
    except InvalidPatchError as error:
        fail(f"--fix: {error}", WRONG_USE)


@contextmanager
def definitions(settings: Settings) -> Iterator[Callable[[CampaignName], bool]]:
    """Yield what tells whether a campaign is defined; without Redis, each is taken to be."""
    known: dict[CampaignName, bool] = {}
    is_away = False
    client: Client | None = None

    def is_defined(name: CampaignName) -> bool:
        nonlocal client, is_away
        if is_away:
            return True
        try:
            client = client or connect(settings.redis, 1)
            if name not in known:
                known[name] = campaigns.created_at(client, *name) is not None
        except (ValueError, *REDIS_ERRORS) as error:
            is_away = True
            warn(f"not checked whether the campaigns are defined: {redis_failure(settings, error)}")
            return True
        return known[name]

    try:
        yield is_defined
    finally:
        if client is not None:
            client.close()


def approve(interrupts: Interrupts, count: int, *, yes: bool) -> None:
    """Ask before replaying what may have been replayed before; exit unless approved."""
    plan = f"{plural(count, 'dead letter')} may have been replayed before, and may be mailed twice"
    if count:
        with interrupts.waiting():
            confirm(plan, "nothing was replayed", yes=yes)


def report(result: ReplayReport, *, dry_run: bool, as_json: bool) -> None:
    """Print what became of each dead letter, or would."""
    if as_json:
        records = [asdict(each) | {"source": each.source._asdict()} for each in result.records]
        show_json(asdict(result) | {"dry_run": dry_run, "records": records})
    else:
        if result.records:
            rows = ((r.place, str(r.source), _words(r, dry_run)) for r in result.records)
            heading = "WHAT WOULD HAPPEN" if dry_run else "WHAT HAPPENED"
            stream_table((*_COLUMNS, (heading, 0)), rows)
        written = "would be replayed" if dry_run else "replayed"
        say(
            f"{result.selected:,} selected: {result.replayed:,} {written}, "
            f"{result.already:,} already replayed"
        )
    if result.still_dead:
        warn(f"{result.still_dead:,} of these will be dead letters again")
    if result.unknown:
        warn(
            f"{result.unknown:,} skipped: whether they were already replayed is unknown, since "
            f"they are older than what the input topic retains, or than the topic itself; "
            f"--may-mail-twice includes them, except those whose coordinates were used again"
        )
    if result.unpatchable:
        warn(f"{result.unpatchable:,} skipped: not JSON, so --fix cannot be applied")
    if result.too_large:
        warn(f"{result.too_large:,} rejected by Kafka as too large")
    warn_of_malformed(result.strangers)


def _words(replay: DeadLetterReplay, dry_run: bool) -> str:
    match replay.result:
        case ReplayResult.REPLAYED:
            words = "would be replayed" if dry_run else "replayed"
            return words if replay.fault is None else f"{words}, to fail again: {replay.fault}"
        case ReplayResult.ALREADY:
            return "skipped: replayed before"
        case ReplayResult.UNKNOWN:
            return "skipped: perhaps replayed before"
        case ReplayResult.UNPATCHABLE:
            return "skipped: not JSON, so --fix cannot be applied"
        case ReplayResult.TOO_LARGE:
            return "rejected by Kafka as too large"
