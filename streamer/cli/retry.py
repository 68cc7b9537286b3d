"""`streamer retry`: retry recipients of a campaign that were not mailed."""

from dataclasses import asdict
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    YesOption,
    fail,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.interrupts import Interrupts, safe_points
from streamer.cli.names import require_campaign
from streamer.cli.output import confirm, stream_table
from streamer.cli.reading import campaign_began, topic_reader
from streamer.kafka.writing import WriteError
from streamer.model.campaign import CampaignName
from streamer.model.instants import milliseconds
from streamer.model.mail_event import EventType
from streamer.model.plural import plural
from streamer.model.reasons import Reason, Status
from streamer.recovery.candidates import Candidate, RetrySelector
from streamer.recovery.last_events import failed_later
from streamer.recovery.retry import Retrier, RetryReport

_COLUMNS = (("RECIPIENT", 16), ("EMAIL", 28), ("REASON", 20), ("SOURCE", 0))


class RetriableEvent(StrEnum):
    """The mail events after which a recipient can be retried."""

    FAILED = EventType.FAILED.value


class Retriable(StrEnum):
    """The statuses that can be retried."""

    FAILED = Status.FAILED.value
    INDETERMINATE = Status.INDETERMINATE.value


def retry(
    campaign: CampaignArgument,
    status: Annotated[Retriable | None, typer.Option(help="Status of the last outcome.")] = None,
    event: Annotated[
        RetriableEvent | None,
        typer.Option(help="Mails that Resend took, and that then failed there, instead."),
    ] = None,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(metavar="REASON", help="Only with this reason; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be retried.")
    ] = False,
    may_mail_twice: Annotated[
        bool,
        typer.Option(
            "--may-mail-twice",
            help="Accept that some recipients who were ever indeterminate have their mail.",
        ),
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a new record for each recipient whose last outcome has the given status.

    The new record is a copy of the original, marked as another attempt. Recipients whose mail was
    sent are never retried, but with --event failed those whose mail Resend took and then failed to
    send. Safe to repeat: each outcome is retried once.
    """
    if (status is None) == (event is None):
        fail("give either --status or --event", WRONG_USE)
    settings = read_settings(config)
    wanted = Status.SENT if status is None else Status(status.value)
    for each in reason or ():
        if each.status is not wanted:
            fail(f"--reason {each}: not a reason of {wanted}, but of {each.status}", WRONG_USE)
    if wanted is Status.INDETERMINATE and not (may_mail_twice or dry_run):
        fail(
            "indeterminate recipients may already have their mail, so a retry may mail some of "
            "them twice. Check Resend's log first; to accept the risk, give --may-mail-twice",
            WRONG_USE,
        )
    began = campaign_began(settings, campaign)
    since_ms = None if began is None else milliseconds(began)
    with Interrupts() as interrupts, topic_reader(settings, interrupts) as reader:
        accepted = may_mail_twice or wanted is Status.INDETERMINATE
        failed: set[str] = set()
        if event is not None:
            topic = settings.topics.events
            spans = reader.spans(topic)
            if since_ms is not None:
                spans = reader.since(topic, spans, since_ms)
            failed = failed_later(reader.read(topic, spans, "events"))
        selector = RetrySelector(
            wanted, frozenset(reason or ()), may_mail_twice=accepted, failed_later=failed
        )
        retrier = Retrier(settings, reader, campaign, selector, since_ms)
        stopped: str | None = None
        code = FAILED
        try:
            if dry_run:
                retrier.plan()
            else:
                retrier.run(
                    safe_points(interrupts), partial(_approve, campaign, interrupts, yes=yes)
                )
        except WriteError as error:
            stopped = str(error)
        except KeyboardInterrupt:
            stopped, code = "interrupted; the command is safe to repeat", interrupts.exit_code
    _report(retrier.result, dry_run=dry_run, as_json=as_json)
    if not retrier.result.selected and not dry_run:
        with redis_client(settings) as client:
            require_campaign(client, settings, campaign)
    if stopped:
        fail(stopped, code)
    if retrier.result.gone or retrier.result.too_large or retrier.result.unsure:
        raise typer.Exit(FAILED)


def _approve(
    campaign: CampaignName, interrupts: Interrupts, found: RetryReport, *, yes: bool
) -> None:
    count = found.selected - found.already - found.unsure
    plan = (
        f"{campaign}: {plural(count, 'recipient')} to be tried again, of whom {found.uncertain:,} "
        f"may have their mail already and get it twice"
    )
    if found.uncertain:
        with interrupts.waiting():
            confirm(plan, "nothing was retried", yes=yes)


def _report(result: RetryReport, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        planned = [_planned(candidate) for candidate in result.planned]
        show_json(asdict(result) | {"dry_run": dry_run, "planned": planned})
    else:
        if result.planned:
            stream_table(_COLUMNS, map(_row, result.planned))
        written = "would be retried" if dry_run else "written to be retried"
        say(
            f"{result.selected:,} selected: {result.retried:,} {written}, "
            f"{result.already:,} already retried"
        )
    if result.gone:
        warn(
            f"{result.gone:,} cannot be retried: Kafka no longer has their original records; "
            f"produce them again"
        )
    if result.unsure:
        warn(
            f"{result.unsure:,} skipped: an earlier attempt ended as indeterminate, so they may "
            f"have their mail; --may-mail-twice includes them"
        )
    if result.too_large:
        warn(f"{result.too_large:,} rejected by Kafka as too large with the added headers")
    if result.unreadable:
        warn(
            f"{plural(result.unreadable, 'record')} of the outcomes topic skipped: "
            f"not valid outcomes"
        )


def _planned(candidate: Candidate) -> dict[str, object]:
    return {
        "recipient_id": candidate.recipient_id,
        "email": candidate.email,
        "status": candidate.status,
        "reason": candidate.reason,
        "source": candidate.record_id._asdict(),
    }


def _row(candidate: Candidate) -> tuple[str, ...]:
    return (
        candidate.recipient_id,
        candidate.email,
        candidate.reason or "",
        str(candidate.record_id),
    )
