"""`streamer retry`: recipients of a campaign whose mail failed, once more."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    show_json,
    warn,
)
from streamer.cli.reading import topic_reader
from streamer.cli.shown import stream_table
from streamer.kafka.writing import WriteError
from streamer.model.reasons import Reason, Status
from streamer.recovery.candidates import Candidate, Choice
from streamer.recovery.retry import Retrier, Retry

_COLUMNS = (("RECIPIENT", 16), ("EMAIL", 28), ("REASON", 20), ("SOURCE", 0))


class Retriable(StrEnum):
    """The statuses that can be bettered."""

    FAILED = Status.FAILED.value
    INDETERMINATE = Status.INDETERMINATE.value


def retry(
    campaign: CampaignArgument,
    status: Annotated[Retriable, typer.Option(help="Whom: those that ended so.")],
    reason: Annotated[
        list[Reason] | None, typer.Option(help="For this reason only; may be given again.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who it would be.")] = False,
    may_mail_twice: Annotated[
        bool,
        typer.Option(
            "--may-mail-twice",
            help="Accept that some of the indeterminate may have their mail already.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a fresh record for each recipient whose last outcome is of the status.

    The record is the original one, marked as another attempt. Nobody whose mail was sent is
    among them, and to repeat the command does nothing new: an outcome is bettered once.
    """
    settings = read_settings(config)
    wanted = Status(status.value)
    for each in reason or ():
        if each.status is not wanted:
            fail(f"--reason {each}: that is no reason of {wanted}, but of {each.status}", WRONG_USE)
    if wanted is Status.INDETERMINATE and not (may_mail_twice or dry_run):
        fail(
            "of an indeterminate recipient nobody knows whether the mail was sent: to try again "
            "may mail somebody twice. Look into Resend's log first; if you accept it, give "
            "--may-mail-twice",
            WRONG_USE,
        )
    with topic_reader(settings) as reader:
        choice = Choice(wanted, frozenset(reason or ()))
        retrier = Retrier(settings, reader, campaign, choice)
        stopped: str | None = None
        try:
            if dry_run:
                retrier.plan()
            else:
                retrier.run()
        except WriteError as error:
            stopped = str(error)
    _report(retrier.result, dry_run=dry_run, as_json=as_json)
    if stopped:
        fail(stopped)
    if retrier.result.gone or retrier.result.too_large:
        raise typer.Exit(FAILED)


def _report(result: Retry, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        planned = [_planned(candidate) for candidate in result.planned]
        show_json(asdict(result) | {"dry_run": dry_run, "planned": planned})
    else:
        if result.planned:
            stream_table(_COLUMNS, map(_row, result.planned))
        written = "would be tried again" if dry_run else "written to be tried again"
        typer.echo(
            f"{result.selected:,} selected: {result.retried:,} {written}, "
            f"{result.already:,} were before"
        )
    if result.gone:
        warn(
            f"{result.gone:,} cannot be tried again: Kafka has deleted their original records; "
            f"produce them anew"
        )
    if result.too_large:
        warn(f"{result.too_large:,} are refused by Kafka for their size, with the marks on top")
    if result.unreadable:
        warn(f"{result.unreadable:,} records of the outcomes are none that can be read")


def _planned(candidate: Candidate) -> dict[str, object]:
    return {
        "recipient_id": candidate.recipient_id,
        "email": candidate.email,
        "status": candidate.status,
        "reason": candidate.reason,
        "source": candidate.coordinates._asdict(),
    }


def _row(candidate: Candidate) -> tuple[str, ...]:
    return (
        candidate.recipient_id,
        candidate.email,
        candidate.reason or "",
        str(candidate.coordinates),
    )
