"""The result of an act, and whether its counts add up."""

from collections import Counter
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, fields
from itertools import islice

from streamer.demo.acts import Act, suppressed
from streamer.model.reasons import Status
from streamer.sandbox import Acceptance, Call

Source = tuple[int, int]
"""An input record's partition and offset."""

_DEAD = "dead"
_MAX_NAMED = 5


@dataclass(slots=True)
class Resolutions:
    """The committed outcomes and dead letters of an act.

    Attributes:
        sources: number of results by input record.
        words: number of results by status, or `dead`.
        sent_ids: Resend's ids in the `sent` outcomes.
    """

    sources: Counter[Source] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    sent_ids: set[str] = field(default_factory=set)

    def outcome(self, source: Source, status: str, email_id: str | None) -> None:
        """Count an outcome."""
        self.words[status] += 1
        self.sources[source] += 1
        if email_id is not None:
            self.sent_ids.add(email_id)

    def dead_letter(self, source: Source) -> None:
        """Count a dead letter."""
        self.words[_DEAD] += 1
        self.sources[source] += 1

    @property
    def ended(self) -> int:
        """Number of input records with at least one result."""
        return len(self.sources)


@dataclass(frozen=True, slots=True)
class ActReport:
    """The result of an act.

    Attributes:
        act: the act.
        sent: number of outcomes with this status; likewise `skipped`, `failed`, `indeterminate`.
        dead: number of dead letters.
        seconds: time from before the first event was produced until the last committed outcome
            was read.
        accepted: mails accepted by the sandbox.
        accepted_twice: those of them to an address that already had one.
        calls: all calls to the sandbox.
        fill: average number of mails per accepted call.
        suppression_p99_ms: 99th percentile of the suppression check.
        killed: number of workers killed.
        problems: what does not add up; empty if everything does.
        gone: number of recipients who bounced or unsubscribed after an earlier act.
    """

    act: Act
    sent: int
    skipped: int
    failed: int
    indeterminate: int
    dead: int
    seconds: float
    accepted: int
    accepted_twice: int
    calls: int
    fill: float
    suppression_p99_ms: float
    killed: int
    problems: list[str]
    gone: int = 0

    def as_json(self) -> dict[str, object]:
        """Return the report as shown by `--json`."""
        left_out = ("act", "fill", "problems")
        names = [each.name for each in fields(self) if each.name not in left_out]
        return {"recipients": self.act.recipients} | {
            name: round(getattr(self, name), 3) for name in names
        }


def report(
    act: Act,
    resolutions: Resolutions,
    inputs: set[Source],
    acceptances: Sequence[Acceptance],
    calls: Sequence[Call],
    seconds: float,
    suppression_p99_ms: float,
    killed: int,
    problems: Iterable[str] = (),
    gone: Set[str] = frozenset(),
) -> ActReport:
    """Count the results of an act, and compare them with what the sandbox accepted.

    Args:
        act: the act.
        resolutions: its committed results.
        inputs: its input records.
        acceptances: its mails accepted by the sandbox.
        calls: its calls to the sandbox.
        seconds: its duration.
        suppression_p99_ms: 99th percentile of the suppression check.
        killed: number of workers killed.
        problems: other problems that are already known.
        gone: addresses that bounced or unsubscribed after an earlier act.
    """
    times = Counter(acceptance.address for acceptance in acceptances)
    taking = sum(call.mails > 0 for call in calls)
    words = resolutions.words
    return ActReport(
        act=act,
        sent=words[Status.SENT],
        skipped=words[Status.SKIPPED],
        failed=words[Status.FAILED],
        indeterminate=words[Status.INDETERMINATE],
        dead=words[_DEAD],
        seconds=seconds,
        accepted=len(acceptances),
        accepted_twice=len(acceptances) - len(times),
        calls=len(calls),
        fill=len(acceptances) / taking if taking else 0.0,
        suppression_p99_ms=suppression_p99_ms,
        killed=killed,
        problems=[*problems, *_problems(act, resolutions, inputs, acceptances, times, gone)],
        gone=len(gone),
    )


def _problems(
    act: Act,
    resolutions: Resolutions,
    inputs: set[Source],
    acceptances: Sequence[Acceptance],
    times: Counter[str],
    gone: Set[str],
) -> Iterable[str]:
    # Each input record must have exactly one result.
    missing = inputs - resolutions.sources.keys()
    if missing:
        yield f"{len(missing)} records have no outcome or dead letter: {_named(missing)}"
    repeated = [source for source, count in resolutions.sources.items() if count > 1]
    if repeated:
        yield f"{len(repeated)} records have more than one result: {_named(repeated)}"
    strange = resolutions.sources.keys() - inputs
    if strange:
        yield f"{len(strange)} results do not belong to any input record: {_named(strange)}"

    # The `sent` outcomes and the accepted mails must be the same.
    taken = {acceptance.email_id for acceptance in acceptances}
    if resolutions.sent_ids - taken:
        yield f"{len(resolutions.sent_ids - taken)} mails have a sent outcome but were not accepted"
    if taken - resolutions.sent_ids:
        yield f"{len(taken - resolutions.sent_ids)} mails were accepted but have no sent outcome"
    if resolutions.words[Status.SENT] != len(resolutions.sent_ids):
        yield (
            f"{resolutions.words[Status.SENT]} sent outcomes have "
            f"{len(resolutions.sent_ids)} different ids"
        )
    twice = [address for address, count in times.items() if count > 1]
    if twice:
        yield f"{len(twice)} addresses were mailed twice: {', '.join(sorted(twice)[:_MAX_NAMED])}"
    wrongly = times.keys() & suppressed(act)
    if wrongly:
        yield f"{len(wrongly)} suppressed addresses were mailed: {sorted(wrongly)[0]}"
    again = times.keys() & gone
    if again:
        yield f"{len(again)} who bounced or unsubscribed were mailed again: {sorted(again)[0]}"


def _named(sources: Iterable[Source]) -> str:
    """Name the first few sources."""
    first = islice(sorted(sources), _MAX_NAMED)
    return ", ".join(f"partition {partition} offset {offset}" for partition, offset in first)
