"""`streamer outcomes`: print the outcomes of a campaign's recipients."""

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import orjson
import typer

from streamer.cli.addresses import from_stdin
from streamer.cli.common import (
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    fail,
    read_settings,
    redis_client,
    warn,
)
from streamer.cli.names import require_campaign
from streamer.cli.output import (
    Cell,
    binary_output,
    label_if_apart,
    on_terminal,
    show_csv,
    show_stored_json,
    stream_table,
)
from streamer.cli.reading import campaign_began, topic_reader
from streamer.cli.times import parse_time
from streamer.kafka.stored import PartitionRange, Reader, StoredRecord
from streamer.model.instants import as_local_text, as_text, milliseconds
from streamer.model.outcome import same_address
from streamer.model.plural import plural
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Reason, Status
from streamer.recovery.last_events import LastEvent, LastEvents
from streamer.recovery.outcomes import LastOutcomes, OutcomeFilter, OutcomeReader
from streamer.recovery.prefilter import ValueTest

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
_CSV_HEADER_WITH_EVENTS = (*_CSV_HEADER, "event", "event_occurred_at")

_LOOK_EVERY_S = 0.5


class OutcomesFormat(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def outcomes(
    campaign: CampaignArgument,
    status: Annotated[Status | None, typer.Option(help="Only with this status.")] = None,
    reason: Annotated[
        list[Reason] | None,
        typer.Option(metavar="REASON", help="Only with this reason; repeatable."),
    ] = None,
    email: Annotated[
        str | None, typer.Option(help="Only of this address; -: read it from standard input.")
    ] = None,
    recipient: Annotated[
        str | None, typer.Option(metavar="ID", help="Only of this recipient.")
    ] = None,
    last: Annotated[
        bool,
        typer.Option("--last/--all", help="The last outcome of each recipient, or every outcome."),
    ] = True,
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME",
            parser=parse_time,
            help="From this time on, e.g. 2h. Default: since the campaign was created.",
        ),
    ] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Every outcome, and those to come, until Ctrl-C."),
    ] = False,
    with_events: Annotated[
        bool,
        typer.Option("--with-events", help="Also show what became of each mail last."),
    ] = False,
    form: Annotated[
        OutcomesFormat, typer.Option("--format", help="Output format.")
    ] = OutcomesFormat.TABLE,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format jsonl.")] = False,
) -> None:
    """Print the outcomes that a campaign's recipients have so far, one row for each recipient.

    A recipient who was retried has several: --last shows the one that counts, which is `sent` if
    any is. Outcomes are streamed as they are read, in no particular order. Those from before the
    campaign was created, as of one that was dropped, are left out unless --since is given. JSON
    lines are the records' values as stored in Kafka. In CSV a cell that a spreadsheet would
    evaluate as a formula gets a leading apostrophe. Parquet has the columns of CSV, and needs
    pip install 'streamer[parquet]'.
    """
    if with_events and (follow or not last):
        fail("--with-events shows last outcomes: not with --all or --follow", WRONG_USE)
    form = OutcomesFormat.JSONL if as_json else form
    if form is OutcomesFormat.PARQUET:
        _require_parquet(follow=follow)
    settings = read_settings(config)
    address = None if email is None else same_address(from_stdin(email))
    wanted = OutcomeFilter(status, frozenset(reason or ()), recipient, address)
    told = OutcomeReader(campaign)
    topic = settings.topics.outcomes
    is_met = False

    def require() -> None:
        with redis_client(settings) as client:
            require_campaign(client, settings, campaign)

    def matching(pairs: Iterable[Pair]) -> Iterator[Pair]:
        nonlocal is_met
        for pair in pairs:
            is_met = is_met or wanted.is_of(pair[1])
            if wanted.matches(pair[1]):
                yield pair
        if not told.found:  # before a header is printed
            require()

    of_recipient = wanted.of_recipient()
    # Of one recipient there are few, which also tell whether there are any.
    of_words = of_recipient or wanted.of_words()
    begin = since or campaign_began(settings, campaign)
    if follow and begin is None:
        require()
    with topic_reader(settings) as reader:
        spans = reader.spans(topic)
        if begin is not None:
            spans = reader.since(topic, spans, milliseconds(begin))

        def read(label: str, may_match: ValueTest | None) -> Iterator[Pair]:
            return told.read(reader, spans, topic, label_if_apart(label), may_match)

        if follow:
            found = told.among(_follow(reader, topic, spans), of_words)
            _print(matching(found), form, may_wait=True)
            return
        if last:
            events = None
            if with_events:
                events = LastEvents(campaign)
                of_events = settings.topics.events
                since_begin = reader.spans(of_events)
                if begin is not None:
                    since_begin = reader.since(of_events, since_begin, milliseconds(begin))
                events.read(reader.read(of_events, since_begin, "events"))
            known = LastOutcomes()
            for stored, outcome in read("outcomes", of_recipient):
                known.add(stored, outcome)
            again = (pair for pair in read("outcomes again", of_words) if known.is_last(*pair))
            _print(matching(again), form, events)
        else:
            _print(matching(read("outcomes", of_words)), form)
    if told.unreadable:
        warn(f"{plural(told.unreadable, 'record')} of {topic} skipped: not valid outcomes")
    if not is_met and (recipient is not None or email is not None):
        who = f"recipient {recipient}" if recipient is not None else f"address {email}"
        fail(f"campaign {campaign} has no outcome of {who}")


Pair = tuple[StoredRecord, PublishedOutcome]


def _follow(reader: Reader, topic: str, spans: Sequence[PartitionRange]) -> Iterator[StoredRecord]:
    """Yield the records of the spans, and then those that are written, without end."""
    while True:
        yield from reader.read(topic, spans)
        ends = {span.partition: span.end for span in spans}
        time.sleep(_LOOK_EVERY_S)
        spans = [
            span._replace(start=ends.get(span.partition, span.start))
            for span in reader.spans(topic)
        ]


def _print(
    wanted: Iterable[Pair],
    form: OutcomesFormat,
    events: LastEvents | None = None,
    *,
    may_wait: bool = False,
) -> None:
    if events is not None:
        _print_with_events(wanted, form, events)
    elif form is OutcomesFormat.JSONL:
        for stored, _ in wanted:
            show_stored_json(stored.value or b"")
    elif form is OutcomesFormat.CSV:
        show_csv(_CSV_HEADER, (_csv(outcome) for _, outcome in wanted))
    elif form is OutcomesFormat.PARQUET:
        _write_parquet(_CSV_HEADER, (_csv(outcome) for _, outcome in wanted))
    else:
        stream_table(_COLUMNS, (_row(outcome) for _, outcome in wanted), may_wait=may_wait)


def _print_with_events(wanted: Iterable[Pair], form: OutcomesFormat, events: LastEvents) -> None:
    if form is OutcomesFormat.JSONL:
        for stored, outcome in wanted:
            event = events.of(outcome)
            shown = None
            if event is not None:
                shown = {"type": event.type, "occurred_at": as_text(event.occurred_at)}
            value = {**orjson.loads(stored.value or b""), "event": shown}
            show_stored_json(orjson.dumps(value))
    elif form is OutcomesFormat.CSV:
        rows = ((*_csv(outcome), *_event(events.of(outcome))) for _, outcome in wanted)
        show_csv(_CSV_HEADER_WITH_EVENTS, rows)
    elif form is OutcomesFormat.PARQUET:
        events_of = ((outcome, _event(events.of(outcome))) for _, outcome in wanted)
        _write_parquet(
            _CSV_HEADER_WITH_EVENTS,
            ((*_csv(outcome), *(cell or None for cell in event)) for outcome, event in events_of),
        )
    else:
        columns = (*_COLUMNS[:-1], ("EVENT", 13), ("EVENT AT", 24), _COLUMNS[-1])
        stream_table(
            columns,
            (
                (*_row(outcome)[:-1], *_event(events.of(outcome)), _row(outcome)[-1])
                for _, outcome in wanted
            ),
        )


def _require_parquet(*, follow: bool) -> None:
    """Exit with 2 if Parquet cannot be written, before anything is read."""
    if follow:
        fail("--format parquet needs an end: not with --follow", WRONG_USE)
    if on_terminal():
        fail("Parquet is not for a terminal: add > outcomes.parquet", WRONG_USE)
    if find_spec("pyarrow") is None:
        fail("--format parquet needs pyarrow: pip install 'streamer[parquet]'", WRONG_USE)


def _write_parquet(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    from streamer.cli.parquet import write_parquet  # an extra, and slow to import

    write_parquet(binary_output(), header, rows)


def _event(event: LastEvent | None) -> tuple[str, str]:
    return ("", "") if event is None else (event.type, as_text(event.occurred_at))


def _row(outcome: PublishedOutcome) -> tuple[str, ...]:
    return (
        as_local_text(outcome.occurred_at),
        outcome.recipient_id,
        outcome.email,
        outcome.status,
        outcome.reason or "",
        outcome.detail or "",
    )


def _csv(outcome: PublishedOutcome) -> tuple[Cell, ...]:
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
