"""`streamer ledger`: compare the ledger in Redis with Kafka, and rebuild one that lost writes."""

from collections.abc import Iterable
from functools import partial

import typer

from streamer.cli.common import (
    FAILED,
    ConfigOption,
    JsonOption,
    YesOption,
    fail,
    kafka_admin,
    read_settings,
    redis_client,
    say,
    show_json,
    show_table,
    warn,
)
from streamer.cli.interrupts import Interrupts
from streamer.cli.output import confirm
from streamer.cli.reading import topic_reader
from streamer.feedback.applier import Application
from streamer.kafka.writing import Checkpoint
from streamer.ledger.epoch import LedgerLostError
from streamer.model.campaign import CampaignName
from streamer.model.instants import as_text, from_milliseconds
from streamer.recovery.active import active_campaigns
from streamer.recovery.ledger_status import LedgerComparison, compare
from streamer.recovery.rebuild import Rebuilder, RebuildError, RebuildReport

app = typer.Typer(
    no_args_is_help=True,
    help="The ledger in Redis: compare it with Kafka, and rebuild it if it lost writes.",
)

_ACTIVITY_S = 60.0
_SHOWN = 20


@app.command()
def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Compare the ledger in Redis with what the committed offsets in Kafka say of it.

    Shows the epoch, the pulse as a time, each slot that lacks writes, and the campaigns that were
    active since. Exits with 1 if the ledger lacks writes.
    """
    settings = read_settings(config)
    with redis_client(settings) as client, topic_reader(settings) as reader:
        found = compare(settings, client, reader)
        since_ms = found.since_ms
        active = {}
        if since_ms is not None:
            active = dict(active_campaigns(settings, reader, since_ms, _ACTIVITY_S).records)
    if as_json:
        show_json(_summary(found, active))
    else:
        _show(found, active)
    if since_ms is not None or found.is_another:
        raise typer.Exit(FAILED)


@app.command()
def rebuild(
    yes: YesOption = False, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """Rebuild a ledger that lost writes, or everything, from the topics.

    All workers must be stopped. Every recipient with an outcome is claimed again. Records that may
    have been sent, and have no outcome, end as `indeterminate`, `ledger_lost`: they are never sent
    again. Safe to repeat, even after a crash.

    Suppressions by events, such as a click on an unsubscribe link, are brought back too. Others,
    campaign definitions, their states and holds are not in the topics: restore those that are
    missing before workers are started.
    """
    settings = read_settings(config)
    with (
        Interrupts() as interrupts,
        redis_client(settings) as client,
        kafka_admin(settings) as admin,
        topic_reader(settings, interrupts) as reader,
    ):
        events = Application(settings, client)
        rebuilder = Rebuilder(settings, client, admin, reader, events.apply)
        try:
            report = rebuilder.run(partial(_approve, interrupts, yes=yes), _stoppable(interrupts))
        except (RebuildError, LedgerLostError) as error:
            fail(error)
        except KeyboardInterrupt:
            fail(
                "interrupted: workers do not start until the command, which is safe to repeat, "
                "has finished",
                interrupts.exit_code,
            )
    if report is None:
        _say_nothing_missing(as_json=as_json)
    elif as_json:
        show_json(_report(report))
    else:
        _show_report(report)


def _stoppable(interrupts: Interrupts) -> Checkpoint:
    """A checkpoint at which a signal ends the command: each step may be repeated."""

    def checkpoint(name: str) -> None:
        del name
        interrupts.check()

    return checkpoint


def _approve(interrupts: Interrupts, found: LedgerComparison, since_ms: int, *, yes: bool) -> None:
    plan = (
        f"the ledger lacks writes since {_time(found.since_ms or 0)}. What was committed since "
        f"{_time(since_ms)} is claimed again; records that were in flight end as indeterminate"
    )
    with interrupts.waiting():
        confirm(plan, "nothing was changed", yes=yes)


def _summary(found: LedgerComparison, active: dict[str, int]) -> dict[str, object]:
    return {
        "epoch": found.epoch,
        "committed_epochs": sorted(found.committed_epochs),
        "pulse": found.pulses.pulse,
        "committed_pulse": found.committed_pulse,
        "lacks_writes_since": None if found.since_ms is None else _stamp(found.since_ms),
        "is_another_ledger": found.is_another,
        "rebuild_begun": found.pulses.rebuild_since_ms is not None,
        "slots": [
            {
                "slot": slot,
                "has_epoch": slot not in found.without_epoch,
                "pulse": found.pulses.slots.get(slot, 0),
                "expected_pulse": found.pulses.expected.get(slot, 0),
            }
            for slot in sorted({*found.slots, *found.pulses.expected})
        ],
        "offsets": [
            {"partition": each.partition, "offset": each.offset, **each.metadata._asdict()}
            for each in found.offsets
        ],
        "active_campaigns": active,
    }


def _show(found: LedgerComparison, active: dict[str, int]) -> None:
    epochs = ", ".join(sorted(found.committed_epochs)) or "none"
    say(f"epoch: {found.epoch or 'missing'}, committed: {epochs}")
    say(f"pulse: {_pulse(found.pulses.pulse)}, committed: {_pulse(found.committed_pulse)}")
    say(f"slots: {len({*found.slots, *found.pulses.expected}):,}")
    if found.is_another:
        warn("this is another ledger than that of the offsets: check redis.url and kafka.group_id")
        return
    if found.pulses.rebuild_since_ms is not None:
        warn("a rebuild has begun and is not over: streamer ledger rebuild")
    if found.since_ms is None:
        say("nothing is missing")
        return
    rows = [
        (slot, _pulse(pulse), _pulse(found.pulses.expected.get(slot, found.committed_pulse)))
        for slot, pulse in sorted(found.behind.items(), key=lambda each: (each[1], each[0]))
    ]
    if rows:
        show_table(("SLOT WITHOUT ITS LATEST WRITES", "PULSE", "EXPECTED"), rows[:_SHOWN])
        _say_rest(len(rows))
    say(f"records committed since {_time(found.since_ms)}, by campaign:")
    for name, count in sorted(active.items(), key=lambda each: -each[1])[:_SHOWN]:
        say(f"  {name}: {count:,}")
    _say_rest(len(active))
    warn("the ledger lacks writes: stop all workers, and run `streamer ledger rebuild`")


def _say_nothing_missing(*, as_json: bool) -> None:
    if as_json:
        show_json({"since": None})
    else:
        say("nothing is missing from the ledger")


def _report(report: RebuildReport) -> dict[str, object]:
    return {
        "since": _stamp(report.since_ms),
        "outcomes": report.outcomes,
        "claimed": report.claimed,
        "events": report.events,
        "unreadable": report.unreadable,
        "lost": [
            {
                "organization_id": lost.campaign.organization,
                "campaign_id": lost.campaign.campaign_id,
                "recipient_id": lost.recipient_id or None,
                "email": lost.address,
                "source": record_id._asdict(),
            }
            for record_id, lost in sorted(report.lost.items())
        ],
        "campaigns": {str(name): count for name, count in sorted(report.campaigns.items())},
        "undefined_campaigns": [str(name) for name in report.undefined],
    }


def _show_report(report: RebuildReport) -> None:
    say(
        f"{report.outcomes:,} outcomes since {_time(report.since_ms)} read, "
        f"{report.claimed:,} claims written; {report.events:,} events applied again"
    )
    say(f"{len(report.lost):,} records were in flight and end as indeterminate, ledger_lost:")
    rows = [
        (str(lost.campaign), lost.recipient_id or "-", lost.address, str(record_id))
        for record_id, lost in sorted(report.lost.items())
    ]
    if rows:
        show_table(("CAMPAIGN", "RECIPIENT", "EMAIL", "SOURCE"), rows[:_SHOWN])
        _say_rest(len(rows))
    if report.unreadable:
        warn(f"{report.unreadable:,} records of the outcomes topic skipped: they are no outcomes")
    warn(
        "not in the topics, and as old as Redis: suppressions by other services and operators, "
        "holds, campaign definitions and states (paused, cancelled). Restore what is missing "
        "before you start the workers: "
        "`streamer suppress import`, `streamer account hold`, `streamer campaign create`, "
        "`streamer campaign pause`"
    )
    if report.undefined:
        warn(
            f"without a definition in Redis, which they need unless each event has a message: "
            f"{_named(report.undefined)}"
        )
    say("the ledger is accepted: start the workers")


def _named(names: Iterable[CampaignName]) -> str:
    shown = [str(name) for name in names]
    rest = len(shown) - _SHOWN
    return ", ".join(shown[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _say_rest(count: int) -> None:
    if count > _SHOWN:
        say(f"  and {count - _SHOWN:,} more; --json shows all")


def _pulse(pulse: int) -> str:
    return _time(pulse) if pulse else "missing"


def _time(ms: int) -> str:
    return as_text(from_milliseconds(ms)) if ms else "the beginning"


def _stamp(ms: int) -> str:
    return as_text(from_milliseconds(ms))
