"""`streamer dlq`: inspect, replay and delete dead letters."""

from datetime import datetime
from functools import partial
from typing import Annotated

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
)
from streamer.cli.dead_letters import (
    COLUMNS,
    row,
    show_dead_letter,
    summary,
    warn_of_malformed,
    whole,
)
from streamer.cli.interrupts import Interrupts, safe_points
from streamer.cli.output import (
    confirm,
    label_if_apart,
    show_json_line,
    stream_table,
)
from streamer.cli.reading import topic_reader
from streamer.cli.replaying import approve, definitions, read_fix, report
from streamer.cli.times import parse_time
from streamer.kafka.writing import WriteError
from streamer.model.campaign import CampaignName
from streamer.model.instants import as_local_text
from streamer.model.reasons import DeadReason
from streamer.recovery import purge as purging
from streamer.recovery.dead_letters import (
    DeadLetterFilter,
    DeadLetterReader,
    read_at,
    read_dead_letter,
)
from streamer.recovery.replay import Replayer

app = typer.Typer(
    no_args_is_help=True, help="Dead letters: input records without a usable campaign."
)

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
                show_json_line(summary(dead_letter))
        else:
            stream_table(COLUMNS, map(row, found))
    warn_of_malformed(dead_letters.malformed)


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
        show_json(whole(dead_letter))
    else:
        show_dead_letter(dead_letter)


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
    patch = read_fix(fix)
    with (
        Interrupts() as interrupts,
        definitions(settings) as is_defined,
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
                replayer.run(safe_points(interrupts), partial(approve, interrupts, yes=yes))
        except WriteError as error:
            stopped = str(error)
        except KeyboardInterrupt:
            stopped, code = "interrupted; the command is safe to repeat", interrupts.exit_code
    result = replayer.result
    report(result, dry_run=dry_run, as_json=as_json)
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
