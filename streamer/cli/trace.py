"""`streamer trace`: show the history of one recipient."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from pydantic import JsonValue

from streamer.cli.addresses import from_stdin
from streamer.cli.common import (
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.names import all_campaigns, unknown_campaign
from streamer.cli.output import stream_table
from streamer.cli.reading import topic_reader
from streamer.cli.times import parse_time
from streamer.ledger.claim_reader import ClaimStatus
from streamer.model.campaign import CampaignName
from streamer.model.instants import as_local_text, as_text, from_milliseconds, milliseconds
from streamer.model.outcome import same_address
from streamer.model.plural import plural
from streamer.recovery.trace import EventKind, History, HistoryEvent, LedgerStatus, RecipientQuery

_COLUMNS = (("TIME", 24), ("WHAT", 11), ("RECORD", 28), ("", 0))
_FEW = 100_000
"""So many offsets are read in about a second."""
_SILENT = ("recipient_id", "email", "occurred_at")


def trace(
    campaign: CampaignArgument,
    email: Annotated[
        str | None, typer.Option(help="The recipient's address; -: read it from standard input.")
    ] = None,
    recipient: Annotated[str | None, typer.Option(metavar="ID", help="The recipient's id.")] = None,
    complete: Annotated[
        bool, typer.Option("--all", help="Read the topics, however large they are.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME", parser=parse_time, help="Read records from this time on, e.g. 2h."
        ),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=parse_time, help="Read records before this time."),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the history of one recipient of a campaign.

    Shows its input records, where they were parked, their outcomes, what became of the mails, and
    the current state of the ledger. If the topics are large, an address is looked up in the ledger,
    which leads to the record that was mailed, its outcome and the attempts before it, and an id is
    looked for as the key of the records; --all, --since and --until read the topics instead, and
    find every record of the recipient.
    """
    settings = read_settings(config)
    if (email is None) == (recipient is None):
        fail("give either --email or --recipient", WRONG_USE)
    if email is not None:
        email = from_stdin(email)
    history = History(
        campaign,
        RecipientQuery(recipient, None if email is None else same_address(email)),
        None if since is None else milliseconds(since),
        None if until is None else milliseconds(until),
    )
    must_read = complete or since is not None or until is not None
    with redis_client(settings) as client:
        with topic_reader(settings) as reader:
            if must_read or history.size(reader, settings) <= _FEW:
                history.gather(reader, settings)
            elif not history.follow(reader, settings, client, _announce):
                found_by = "ledger" if recipient is None else "key"
                warn(f"the {found_by} does not lead to it: reading the topics")
                history.gather(reader, settings)
        ledger_statuses = history.ledger_statuses(client)
        is_traced = history.events or any(each.claim_status for each in ledger_statuses)
        known = [] if is_traced else all_campaigns(client, settings)
    if as_json:
        show_json(_as_json(campaign, history.events, ledger_statuses))
    else:
        _show(campaign, history.events, ledger_statuses)
    if not history.is_complete:
        warn(
            "found by the ledger alone; --all also finds duplicates, repeated events, and what "
            "was returned"
            if recipient is None
            else "found by the key alone; --all also finds records with other keys, and repeated "
            "events"
        )
    if history.unreadable:
        warn(
            f"{plural(history.unreadable, 'record')} of the outcomes topic skipped: "
            f"not valid outcomes"
        )
    if not is_traced:
        who = recipient or email
        if campaign in known:
            fail(f"no trace of {who} in campaign {campaign}")
        fail(f"no trace of {who}: {unknown_campaign(campaign, known)}")


def _announce(topic: str, count: int) -> None:
    if count > _FEW:
        warn(f"reading {count:,} records of {topic} for the id")


def _show(
    campaign: CampaignName, events: list[HistoryEvent], ledger_statuses: list[LedgerStatus]
) -> None:
    say(f"campaign: {campaign}")
    if events:
        stream_table(_COLUMNS, map(_row, events))
    for ledger_status in ledger_statuses:
        say()
        say(f"Ledger state of {ledger_status.address}")
        say(f"  suppressed: {'yes' if ledger_status.is_suppressed else 'no'}")
        if ledger_status.claim_status is None:
            say("  claimed: no")
            continue
        for line in _claim_lines(ledger_status.claim_status):
            say(f"  {line}")


def _row(event: HistoryEvent) -> tuple[str, ...]:
    return (
        as_local_text(from_milliseconds(event.timestamp_ms), with_milliseconds=True),
        event.kind.replace("_", " "),
        str(event.stands_at),
        "; ".join(_words(event)),
    )


def _words(event: HistoryEvent) -> Iterator[str]:
    if event.source != event.stands_at:
        yield f"of {event.source}"
    facts = event.facts
    if event.kind is EventKind.PARKED:
        yield f"for {facts['parked_for']}"
        until = facts["parked_until_ms"]
        if isinstance(until, int):
            yield f"until {as_local_text(from_milliseconds(until))}"
        yield "still parked" if facts["is_waiting"] else "released"
        return
    for name, value in facts.items():
        if value not in (None, 0, "") and name not in _SILENT:
            yield f"{name.replace('_', ' ')}: {value}"


def _claim_lines(claim_status: ClaimStatus) -> Iterator[str]:
    claim, batch = claim_status
    yield f"claimed: by {claim.record_id}, as item {claim.item} of batch {claim.batch_id}"
    if batch is None:
        yield "  the batch no longer exists: it expired, or the ledger has lost it"
        return
    pinned = (
        "deferred" if batch.pinned_at is None else f"pinned at {as_local_text(batch.pinned_at)}"
    )
    yield f"  {pinned}, account {batch.account}"
    if batch.result is None:
        yield "  unresolved: no result yet"
    else:
        outcome = batch.result.outcomes(claim.batch_id)[claim.item]
        words = (outcome.status, outcome.reason, outcome.email_id, outcome.detail)
        yield f"  result: {', '.join(word for word in words if word)}"


def _as_json(
    campaign: CampaignName, events: list[HistoryEvent], ledger_statuses: list[LedgerStatus]
) -> dict[str, JsonValue]:
    return {
        "organization_id": campaign.organization,
        "campaign_id": campaign.campaign_id,
        "events": [
            {
                "kind": event.kind.value,
                "time": as_text(from_milliseconds(event.timestamp_ms)),
                "stands_at": {**event.stands_at._asdict()},
                "source": {**event.source._asdict()},
                **event.facts,
            }
            for event in events
        ],
        "ledger": [
            {
                "address": ledger_status.address,
                "suppressed": ledger_status.is_suppressed,
                "claim": None
                if ledger_status.claim_status is None
                else _claim(ledger_status.claim_status),
            }
            for ledger_status in ledger_statuses
        ],
    }


def _claim(claim_status: ClaimStatus) -> JsonValue:
    claim, batch = claim_status
    shown: dict[str, JsonValue] = {
        "coordinates": str(claim.record_id),
        "batch_id": claim.batch_id,
        "item": claim.item,
        "batch": None,
    }
    if batch is None:
        return shown
    result: JsonValue = None
    if batch.result is not None:
        outcome = batch.result.outcomes(claim.batch_id)[claim.item]
        result = {
            "status": outcome.status.value,
            "reason": outcome.reason,
            "detail": outcome.detail,
            "email_id": outcome.email_id,
            "attempts": outcome.attempts,
        }
    pinned_at = None if batch.pinned_at is None else as_text(batch.pinned_at)
    shown["batch"] = {"pinned_at": pinned_at, "account": batch.account, "result": result}
    return shown
