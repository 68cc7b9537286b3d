"""`streamer outcomes`: what became of a campaign's recipients."""

import csv
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from streamer.cli.common import CampaignArgument, ConfigOption, read_settings, warn
from streamer.cli.reading import topic_reader
from streamer.cli.shown import label_if_apart, stream_table
from streamer.kafka.reading import Stored
from streamer.model.instants import as_text
from streamer.model.outcome import same_address
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.recovery.outcomes import OutcomeFilter, Told

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
    """How outcomes are printed."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


def outcomes(
    campaign: CampaignArgument,
    status: Annotated[Status | None, typer.Option(help="Of this status only.")] = None,
    reason: Annotated[
        list[Reason] | None, typer.Option(help="For this reason only; may be given again.")
    ] = None,
    email: Annotated[str | None, typer.Option(help="Of this address only.")] = None,
    recipient: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this recipient only.")
    ] = None,
    form: Annotated[
        OutcomesFormat, typer.Option("--format", help="How to print them.")
    ] = OutcomesFormat.TABLE,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format jsonl.")] = False,
) -> None:
    """Print what became of a campaign's recipients, as far as it is known now.

    In no order, and as they are read: however many there are, they take no memory. JSON lines
    are the outcomes as they stand in Kafka.
    """
    settings = read_settings(config)
    address = None if email is None else same_address(email)
    wanted = OutcomeFilter(status, frozenset(reason or ()), recipient, address)
    told = Told(campaign)
    form = OutcomesFormat.JSONL if as_json else form
    topic = settings.topics.outcomes
    with topic_reader(settings) as reader:
        records = told.among(reader.read(topic, reader.spans(topic), label_if_apart("outcomes")))
        _print((pair for pair in records if wanted.matches(pair[1])), form)
    if told.unreadable:
        warn(f"{told.unreadable:,} records of {topic} are no outcomes that can be read")


def _print(wanted: Iterable[tuple[Stored, PublishedOutcome]], form: OutcomesFormat) -> None:
    if form is OutcomesFormat.JSONL:
        for stored, _ in wanted:
            # JSON has line breaks only between its words, where a blank does as well.
            line = (stored.value or b"").replace(b"\r", b" ").replace(b"\n", b" ")
            typer.echo(line)
    elif form is OutcomesFormat.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(_CSV_HEADER)
        writer.writerows(_csv(outcome) for _, outcome in wanted)
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
        *outcome.coordinates,
    )
