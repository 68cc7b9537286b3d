"""`streamer dlq`: inspect, replay and delete dead letters."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Annotated

import orjson
import typer

from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    ConfigOption,
    JsonOption,
    YesOption,
    fail,
    kafka_admin,
    parse_campaign,
    parse_id,
    read_settings,
    say,
    show_json,
    warn,
)
from streamer.cli.interrupts import Interrupts, safe_points
from streamer.cli.output import (
    confirm,
    label_if_apart,
    say_block,
    show_json_line,
    stream_table,
)
from streamer.cli.reading import topic_reader
from streamer.cli.times import parse_time
from streamer.kafka.writing import WriteError
from streamer.ledger import campaigns
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.ledger.failure import redis_failure
from streamer.model.campaign import CampaignName
from streamer.model.instants import as_local_text, as_text, from_milliseconds
from streamer.model.plural import plural
from streamer.model.reasons import DeadReason
from streamer.recovery import purge as purging
from streamer.recovery.dead_letters import (
    DeadLetterFilter,
    DeadLetterReader,
    StoredDeadLetter,
    read_at,
    read_dead_letter,
)
from streamer.recovery.patch import InvalidPatchError, Patch, read_patch
from streamer.recovery.replay import DeadLetterReplay, Replayer, ReplayReport, ReplayResult
from streamer.settings import Settings

app = typer.Typer(
    no_args_is_help=True, help="Dead letters: input records without a usable campaign."
)

_COLUMNS = (
    ("OFFSET", 10),
    ("TIME", 24),
    ("REASON", 16),
    ("CAMPAIGN", 24),
    ("SOURCE", 24),
    ("DETAIL", 0),
)
_REPLAY_COLUMNS = (("OFFSET", 10), ("SOURCE", 24))

ReasonOption = Annotated[
    list[DeadReason] | None,
    typer.Option("--reason", metavar="REASON", help="Only with this reason; repeatable."),
]
CampaignOption = Annotated[
    CampaignName | None,
    typer.Option(
        metavar="ORGANIZATION/CAMPAIGN",
        parser=parse_campaign,
        help="Only of this campaign, where the value names one.",
    ),
]
OrganizationOption = Annotated[
    str | None,
    typer.Option(
        metavar="ORGANIZATION",
        parser=parse_id,
        help="Only of this organization, where the value names one.",
    ),
]
SinceOption = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME",
        parser=parse_time,
        help="Only at or after this time: RFC 3339, or an age such as 2h.",
    ),
]
UntilOption = Annotated[
    datetime | None,
    typer.Option(metavar="TIME", parser=parse_time, help="Only before this time."),
]


@app.command("list")
def list_(
    reason: ReasonOption = None,
    campaign: CampaignOption = None,
    organization: OrganizationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """List dead letters as they are read. OFFSET is the argument of `dlq show`."""
    settings = read_settings(config)
    selection = DeadLetterFilter(frozenset(reason or ()), campaign, since, until, organization)
    dead_letters = DeadLetterReader(selection)
    topic = settings.topics.dead_letters
    with topic_reader(settings) as reader:
        spans = selection.spans(reader, topic)
        found = dead_letters.read(reader, topic, spans, label_if_apart("dead letters"))
        if as_json:
            for dead_letter in found:
                show_json_line(_summary(dead_letter))
        else:
            stream_table(_COLUMNS, map(_row, found))
    _warn_of_malformed(dead_letters.malformed)


@app.command()
def show(
    place: Annotated[
        str, typer.Argument(metavar="PARTITION/OFFSET", help="OFFSET as shown by `dlq list`.")
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a dead letter's reason, headers and value."""
    settings = read_settings(config)
    partition, offset = _parse_place(place)
    topic = settings.topics.dead_letters
    with topic_reader(settings) as reader:
        stored = read_at(reader, topic, partition, offset)
    if stored is None:
        fail(f"{topic} has no dead letter at {place}; see: streamer dlq list")
    dead_letter = read_dead_letter(stored)
    if dead_letter is None:
        fail(f"the record at {place} of {topic} lacks the headers of a dead letter")
    if as_json:
        show_json(_whole(dead_letter))
    else:
        _show(dead_letter)


@app.command()
def replay(
    reason: ReasonOption = None,
    campaign: CampaignOption = None,
    organization: OrganizationOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|JSON",
            help="A JSON merge patch (RFC 7396) for each value, e.g. "
            '\'{"campaign_id": "spring-26"}\'.',
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done.")
    ] = False,
    may_mail_twice: Annotated[
        bool,
        typer.Option(
            "--may-mail-twice",
            help="Include those too old to tell whether they were already replayed.",
        ),
    ] = False,
    yes: YesOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write dead letters to the input topic again, each as a new record.

    Lists what became of each, and which will fail again, as those of a campaign that is not defined
    yet. Safe to repeat, even after a crash: no dead letter is replayed twice. If the new record
    fails too, it becomes a dead letter of its own, which can be replayed.
    """
    settings = read_settings(config)
    selection = DeadLetterFilter(frozenset(reason or ()), campaign, since, until, organization)
    patch = _read_fix(fix)
    with (
        Interrupts() as interrupts,
        _definitions(settings) as is_defined,
        topic_reader(settings, interrupts) as reader,
    ):
        replayer = Replayer(
            settings,
            reader,
            selection,
            patch,
            may_mail_twice=may_mail_twice,
            is_defined=is_defined,
        )
        stopped: str | None = None
        code = FAILED
        try:
            if dry_run:
                replayer.plan()
            else:
                replayer.run(safe_points(interrupts), partial(_approve, interrupts, yes=yes))
        except WriteError as error:
            stopped = str(error)
        except KeyboardInterrupt:
            stopped, code = "interrupted; the command is safe to repeat", interrupts.exit_code
    result = replayer.result
    _report(result, dry_run=dry_run, as_json=as_json)
    if stopped:
        fail(stopped, code)
    if result.unknown or result.unpatchable or result.too_large:
        raise typer.Exit(FAILED)


@app.command()
def purge(
    until: UntilOption = None,
    yes: YesOption = False,
    reason: ReasonOption = None,
    campaign: CampaignOption = None,
    since: SinceOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Permanently delete all current dead letters, or those before a time.

    Kafka deletes only from the beginning of a topic, so no other selection is possible.
    """
    settings = read_settings(config)
    if reason or campaign or since:
        fail(
            "dead letters cannot be deleted by reason, campaign or --since: Kafka deletes only "
            "from the beginning of a topic; use --until, or no filter",
            WRONG_USE,
        )
    topic = settings.topics.dead_letters
    with topic_reader(settings) as reader:
        spans = purging.before(reader, topic, until)
    count = sum(span.end - span.start for span in spans)
    if count:
        which = "all" if until is None else f"those before {as_local_text(until)}"
        confirm(
            f"{topic}: {count:,} offsets, {which}, are deleted for good",
            "nothing was deleted",
            yes=yes,
        )
        with kafka_admin(settings) as admin:
            purging.delete(admin, topic, spans)
    if as_json:
        ends = {str(span.partition): span.end for span in spans}
        show_json({"topic": topic, "offsets_deleted": count, "deleted_before": ends})
    else:
        say(f"{topic}: {count:,} offsets deleted")


def _summary(dead_letter: StoredDeadLetter) -> dict[str, object]:
    names = dead_letter.names
    return {
        "place": dead_letter.place,
        "time": _time(dead_letter),
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "organization_id": names.organization,
        "campaign_id": names.campaign_id,
        "recipient_id": names.recipient_id,
        "email": names.email,
        "source": dead_letter.source._asdict(),
    }


def _whole(dead_letter: StoredDeadLetter) -> dict[str, object]:
    value = dead_letter.stored.value
    return {
        **_summary(dead_letter),
        "key": _plain(dead_letter.stored.key),
        "headers": [{"name": n, "value": _plain(v)} for n, v in dead_letter.stored.headers],
        "value": _plain(value),
        # Exact bytes, for a value that is not text.
        "value_base64": None if value is None else base64.b64encode(value).decode(),
    }


def _row(dead_letter: StoredDeadLetter) -> tuple[str, ...]:
    return (
        dead_letter.place,
        _time(dead_letter),
        dead_letter.reason,
        _campaign(dead_letter),
        str(dead_letter.source),
        dead_letter.detail,
    )


def _show(dead_letter: StoredDeadLetter) -> None:
    stored = dead_letter.stored
    lines = {
        "place": dead_letter.place,
        "time": _time(dead_letter),
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "campaign": _campaign(dead_letter),
        "source": str(dead_letter.source),
        "key": "(none)" if stored.key is None else _text(stored.key),
    }
    for name, text in lines.items():
        say(f"{name}: {text}")
    say("headers:")
    for name, value in stored.headers:
        say(f"  {name}: {_plain(value) or ''}")
    say("value:" if stored.value is not None else "value: (none)")
    try:
        text = orjson.dumps(orjson.loads(stored.value or b""), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        text = _text(stored.value or b"")
    say_block(text, "  ")


def _report(result: ReplayReport, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        records = [asdict(each) | {"source": each.source._asdict()} for each in result.records]
        show_json(asdict(result) | {"dry_run": dry_run, "records": records})
    else:
        if result.records:
            rows = ((r.place, str(r.source), _words(r, dry_run)) for r in result.records)
            heading = "WHAT WOULD HAPPEN" if dry_run else "WHAT HAPPENED"
            stream_table((*_REPLAY_COLUMNS, (heading, 0)), rows)
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
    _warn_of_malformed(result.strangers)


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


@contextmanager
def _definitions(settings: Settings) -> Iterator[Callable[[CampaignName], bool]]:
    """Tells whether a campaign is defined; without Redis, each is taken to be."""
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


def _warn_of_malformed(count: int) -> None:
    if count:
        warn(
            f"{plural(count, 'record')} of the topic skipped: without the headers of a dead letter"
        )


def _read_fix(fix: str | None) -> Patch | None:
    if fix is None:
        return None
    try:
        return read_patch(fix)
    except InvalidPatchError as error:
        fail(f"--fix: {error}", WRONG_USE)


def _parse_place(text: str) -> tuple[int, int]:
    partition, slash, offset = text.partition("/")
    if not (
        slash
        and partition.isascii()
        and partition.isdecimal()
        and offset.isascii()
        and offset.isdecimal()
    ):
        fail(f"invalid offset {text!r}: expected PARTITION/OFFSET", WRONG_USE)
    return int(partition), int(offset)


def _approve(interrupts: Interrupts, count: int, *, yes: bool) -> None:
    plan = f"{plural(count, 'dead letter')} may have been replayed before, and may be mailed twice"
    if count:
        with interrupts.waiting():
            confirm(plan, "nothing was replayed", yes=yes)


def _campaign(dead_letter: StoredDeadLetter) -> str:
    organization, campaign_id = dead_letter.names[:2]
    return f"{organization}/{campaign_id}" if organization and campaign_id else "-"


def _time(dead_letter: StoredDeadLetter) -> str:
    return as_text(from_milliseconds(dead_letter.stored.timestamp_ms))


def _plain(value: str | bytes | None) -> str | None:
    return _text(value) if isinstance(value, bytes) else value


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
