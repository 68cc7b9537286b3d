"""`streamer produce`: write a file of recipients to Kafka."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from confluent_kafka import KafkaException

from streamer import private_files
from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    kafka_admin,
    read_settings,
    redis_client,
    say,
    show_json,
    warn,
)
from streamer.cli.first_rows import FirstRows
from streamer.cli.interrupts import Interrupts
from streamer.cli.producing import DeliveryStoppedError, NoTopicError, RecipientsWriter
from streamer.cli.progress_bar import progress_bar
from streamer.cli.recipient_file import (
    MAX_SHOWN,
    SHOW_EVERY,
    RecipientFile,
    RowCounts,
    check,
    open_file,
    warn_of_unknown,
)
from streamer.cli.rows import (
    FORMATS,
    Format,
    InvalidFileError,
    InvalidRow,
    ParsedRow,
    RowOptions,
)
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.offsets import end_offsets
from streamer.ledger import campaigns
from streamer.model.campaign import CampaignName, CampaignState, Definition
from streamer.model.nearest import did_you_mean
from streamer.model.plural import plural
from streamer.model.standing import CampaignCondition, standing
from streamer.progress.store import Store
from streamer.settings import Settings

_STOP = "stop"


class _BadRowError(Exception):
    """A bad row was read, and there is no file to write bad rows to."""


def produce(
    campaign: CampaignArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV or JSON lines; -: standard input.")
    ],
    form: Annotated[
        Format | None,
        typer.Option("--format", help="Format of FILE. Default: by its suffix."),
    ] = None,
    bad_rows: Annotated[
        str,
        typer.Option(
            metavar="stop|FILE",
            help="stop: produce nothing if any row is bad (standard input: stop at that row). "
            "FILE: copy bad rows there unchanged and continue.",
        ),
    ] = _STOP,
    email_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The CSV column with the addresses. Default: email."),
    ] = None,
    id_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The one with their ids. Default: recipient_id."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing",
            help="Produce even if the first rows lack variables that the templates need.",
        ),
    ] = False,
    allow_multiline: Annotated[
        bool,
        typer.Option(
            "--allow-multiline", help="Accept a CSV cell with a line that looks like another row."
        ),
    ] = False,
    done: Annotated[
        bool,
        typer.Option(
            "--done",
            help="FILE holds all recipients, or the last ones: close the campaign, and expect as "
            "many recipients as it has good rows. It completes when all have an outcome.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write recipients to Kafka, one event per row.

    CSV needs a header row with column `email`; `recipient_id`, `name` and `expires_at` are
    optional, and every other column is a template variable. JSON lines are events, with or
    without the ids. A missing `recipient_id` is derived from the address. The mails of the first
    three rows are rendered before anything is written. Safe to repeat: no recipient is mailed
    twice.
    """
    settings = read_settings(config)
    form = form or FORMATS.get(file.suffix.lower())
    if form is None:
        fail(f"unknown format of {file}: use --format csv or --format jsonl", WRONG_USE)
    aside = None if bad_rows == _STOP else Path(bad_rows)
    if form is not Format.CSV and (email_column or id_column):
        fail("--email-column and --id-column are for CSV", WRONG_USE)
    options = RowOptions(email_column or "email", id_column or "recipient_id", allow_multiline)
    definition = _check_campaign(settings, campaign, form)
    with Interrupts() as interrupts, ExitStack() as stack:
        stream, size = open_file(file, stack)
        source = RecipientFile(stream, form, size, campaign, definition is not None, options)
        sample = FirstRows(settings, definition, allow_missing=allow_missing)
        try:
            if aside is None and size is not None:
                check(source, interrupts)
            _produce(settings, source, aside, sample, interrupts, done=done, as_json=as_json)
        except InvalidFileError as error:
            fail(f"{'standard input' if size is None else file}: {error}")


def _what_follows(condition: CampaignCondition) -> str | None:
    """What becomes of recipients that cannot be mailed at once because of the campaign's state."""
    if condition.state is CampaignState.CANCELLED:
        return "its recipients will be skipped"
    if condition.state is CampaignState.PAUSED:
        when = "then" if condition.waits_until is not None else "it is resumed"
        return f"its recipients wait until {when}"
    return None


def _check_campaign(settings: Settings, name: CampaignName, form: Format) -> Definition | None:
    with redis_client(settings) as client:
        try:
            found = campaigns.load(client, *name)
        except campaigns.UnreadableDefinitionError as error:
            fail(error)
        (condition,) = campaigns.conditions(client, [name])
        near = did_you_mean(str(name), map(str, campaigns.names(client))) if not found else ""
    follows = _what_follows(condition)
    if found is not None and follows is not None:
        warn(f"campaign {name} is {standing(condition, datetime.now(UTC))}: {follows}")
    if found is None and form is Format.CSV:
        fail(
            f"campaign {name} is not defined and CSV rows carry no message"
            f"{near}; define it with: streamer campaign create"
        )
    return None if found is None else found.definition


def _produce(
    settings: Settings,
    source: RecipientFile,
    aside: Path | None,
    sample: FirstRows,
    interrupts: Interrupts,
    *,
    done: bool,
    as_json: bool,
) -> None:
    kafka_errors = KafkaErrorLog(settings)
    lines, rows = source.open()
    try:
        checked = sample.check(interrupts.reading(rows), rows.variables)
    except KeyboardInterrupt:
        fail("interrupted: nothing was produced", interrupts.exit_code)
    refused: list[InvalidRow] = []
    keep_refused: Keep = _discard

    def refuse(row: InvalidRow) -> None:
        if len(refused) < MAX_SHOWN:
            refused.append(row)
        keep_refused(row)

    try:
        writer = RecipientsWriter(settings, kafka_errors, refuse)
    except NoTopicError as error:
        fail(error)
    except KafkaException as error:
        fail(kafka_errors.describe(error.args[0]))
    counts = RowCounts()
    stopped: str | None = None
    code = FAILED
    with _aside(aside, rows.head) as keep:
        keep_refused = keep or _discard
        try:
            with progress_bar("producing", source.size) as show:
                for count, row in enumerate(checked):
                    counts.add(row)
                    if isinstance(row, ParsedRow):
                        writer.write(row)
                    elif keep is None:
                        raise _BadRowError
                    else:
                        keep(row)
                    if count % SHOW_EVERY == 0:
                        show(lines.bytes_read, count)
        except _BadRowError:
            stopped = f"stopped at line {counts.shown[-1].line}, a bad row"
        except (DeliveryStoppedError, InvalidFileError, OSError) as error:
            stopped = str(error)
        except KeyboardInterrupt:
            stopped, code = "interrupted", interrupts.exit_code
        before = interrupts.count
        unknown = writer.finish(lambda: interrupts.count > before)
        if unknown:
            stopped = f"interrupted; of {unknown:,} rows it is unknown whether they were produced"
            code = interrupts.exit_code
    _report(source, counts, writer, refused, stopped, rows.unknown, as_json=as_json)
    if stopped or writer.failures:
        if done:
            warn("not all rows were produced, so --done did not close the campaign")
        raise typer.Exit(code)
    if done:
        _close(settings, source.campaign, counts.good)
        if not as_json:
            say(f"{source.campaign}: {plural(counts.good, 'recipient')} expected")


def _close(settings: Settings, campaign: CampaignName, rows: int) -> None:
    """Close the campaign, once all its recipients are in the topic.

    Counts rows, not records: if the file was produced before, there are more records than rows.
    That is harmless, since completion depends on where the input ends.
    """
    with redis_client(settings) as client, kafka_admin(settings) as admin:
        ends = end_offsets(admin, settings.topics.recipients)
        Store(client, settings.kafka.group_id).close(campaign, ends, rows)


def _report(
    source: RecipientFile,
    counts: RowCounts,
    writer: RecipientsWriter,
    refused: list[InvalidRow],
    stopped: str | None,
    unknown: set[str],
    *,
    as_json: bool,
) -> None:
    counts.warn_of_bad()
    warn_of_unknown(unknown)
    if counts.invalid_addresses:
        invalid = plural(counts.invalid_addresses, "invalid address", "invalid addresses")
        warn(f"{invalid}, which will end as invalid_address")
    for row in refused:
        warn(f"line {row.line}: {row.reason}")
    for reason, count in writer.failures.items():
        warn(f"{count:,} not delivered: {reason}")
    if stopped:
        warn(f"{stopped}. The command is safe to repeat: no recipient is mailed twice")
    if as_json:
        show_json(
            {
                "organization_id": source.campaign.organization,
                "campaign_id": source.campaign.campaign_id,
                "complete": stopped is None and not writer.failures,
                "stopped": stopped,
                "produced": writer.delivered,
                "failed": sum(writer.failures.values()),
                "failures": dict(writer.failures),
                "first_failed": [{"line": row.line, "reason": row.reason} for row in refused],
                "invalid_addresses": counts.invalid_addresses,
                "bad_rows": counts.bad,
                "first_bad_rows": [
                    {"line": row.line, "reason": row.reason} for row in counts.shown
                ],
            }
        )
        return
    text = f"{source.campaign}: {plural(writer.delivered, 'recipient')} produced"
    if counts.bad:
        text += f", {plural(counts.bad, 'bad row')}"
    say(text)


Keep = Callable[[InvalidRow], None]


def _discard(row: InvalidRow) -> None:
    del row


@contextmanager
def _aside(path: Path | None, head: bytes) -> Iterator[Keep | None]:
    """Create the file for bad rows, and delete it afterwards if there were none."""
    if path is None:
        yield None
        return
    try:
        stream = private_files.create(path)
    except FileExistsError:
        fail(f"{path} exists already: --bad-rows needs a new file", WRONG_USE)
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    count = 0

    def keep(row: InvalidRow) -> None:
        nonlocal count
        count += 1
        stream.write(row.raw if row.raw.endswith(b"\n") else row.raw + b"\n")

    try:
        with stream:
            stream.write(head)
            yield keep
    finally:
        if not count:
            path.unlink()
