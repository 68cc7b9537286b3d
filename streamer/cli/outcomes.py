"""`streamer outcomes`: print the outcomes of a campaign's recipients."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from streamer.cli.common import CampaignArgument, ConfigOption, read_settings, warn
from streamer.cli.output import label_if_apart, show_csv, show_stored_json, stream_table
from streamer.cli.reading import topic_reader
from streamer.kafka.reading import StoredRecord
from streamer.model.instants import as_text
from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.recovery.outcomes import OutcomeFilter, OutcomeReader

_COLUMNS = (
    ("OCCURRED", 24),
    ("RECIPIENT", 16),
    ("EMAIL", 28),
    ("STATUS", 13),
    ("REASON", 15),
    ("DETAIL", 0),
)
_CSV_HEADER = (
    "organization_id",
    "campaign_id",
    "recipient_id",
    "email",
    "status",
    "reason",
    "detail",
    "email_id",
    "batch_id",
    "attempts",
    "occurred_at",
    "source_topic",
    "source_partition",
    "source_offset",
)


class OutcomesFormat(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


def outcomes(
    campaign: CampaignArgument,
    status: Annotated[Status | None, typer.Option(help="Only with this status.")] = None,
    reason: Annotated[
        list[Reason] | None, typer.Option(help="Only with this reason; repeatable.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Only of this address.")] = None,
    recipient: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this recipient.")
    ] = None,
    form: Annotated[
        OutcomesFormat, typer.Option("--format", help="Output format.")
    ] = OutcomesFormat.TABLE,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format jsonl.")] = False,
) -> None:
    """Print the outcomes that a campaign's recipients have so far.

    Outcomes are streamed as they are read, in no particular order and in constant memory. JSON
    lines are the records' values as stored in Kafka. In CSV a cell that a spreadsheet would
    evaluate as a formula gets a leading apostrophe.
    """
    settings = read_settings(config)
    address = None if email is None else same_address(email)
    wanted = OutcomeFilter(status, frozenset(reason or ()), recipient, address)
    told = OutcomeReader(campaign)
    form = OutcomesFormat.JSONL if as_json else form
    topic = settings.topics.outcomes
    with topic_reader(settings) as reader:
        records = told.among(reader.read(topic, reader.spans(topic), label_if_apart("outcomes")))
        _print((pair for pair in records if wanted.matches(pair[1])), form)
    if told.unreadable:
        warn(f"{told.unreadable:,} records of {topic} skipped: not valid outcomes")


def _print(wanted: Iterable[tuple[StoredRecord, PublishedOutcome]], form: OutcomesFormat) -> None:
    if form is OutcomesFormat.JSONL:
        for stored, _ in wanted:
            show_stored_json(stored.value or b"")
    elif form is OutcomesFormat.CSV:
        show_csv(_CSV_HEADER, (_csv(outcome) for _, outcome in wanted))
    else:
        stream_table(_COLUMNS, (_row(outcome) for _, outcome in wanted))


def _row(outcome: PublishedOutcome) -> tuple[str, ...]:
    return (
        as_text(outcome.occurred_at),
        outcome.recipient_id,
        outcome.email,
        outcome.status,
        outcome.reason or "",
        outcome.detail or "",
    )


def _csv(outcome: PublishedOutcome) -> tuple[str | int | None, ...]:
    return (
        outcome.organization_id,
        outcome.campaign_id,
        outcome.recipient_id,
        outcome.email,
        outcome.status,
        outcome.reason,
        outcome.detail,
        outcome.email_id,
        outcome.batch_id,
        outcome.attempts,
        as_text(outcome.occurred_at),
        *outcome.record_id,
    )
