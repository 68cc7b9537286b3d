"""What came of an act, and whether it adds up."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice

from streamer.demo.acts import Act, suppressed
from streamer.model.reasons import Status
from streamer.sandbox import Acceptance, Call

Source = tuple[int, int]
"""An input record's partition and offset."""

_DEAD = "dead"
_MOST_NAMED = 5


@dataclass(slots=True)
class Endings:
    """The committed outcomes and dead letters of an act, as they are read.

    Attributes:
        sources: how many each input record has.
        words: how many there are of each status, and of `dead`.
        sent_ids: Resend's ids of the mails that are said to be sent.
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
        """How many input records have at least one."""
        return len(self.sources)


@dataclass(frozen=True, slots=True)
class ActReport:
    """What came of an act; `problems` is empty if every count adds up.

    Attributes:
        seconds: from before its first event was produced until its last outcome was read back,
            committed.
        accepted: mails that the sandbox took.
        accepted_twice: those of them to an address that had one already.
        calls: to the sandbox, whatever the answer.
        fill: mails in a call that was accepted.
        suppression_p99_ms: of the check against the suppression set; 99 in 100 were quicker.
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

    def as_json(self) -> dict[str, object]:
        """The act as `--json` shows it."""
        left_out = ("act", "fill", "problems")
        names = [each.name for each in fields(self) if each.name not in left_out]
        return {"recipients": self.act.recipients} | {
            name: round(getattr(self, name), 3) for name in names
        }


def report(
    act: Act,
    endings: Endings,
    inputs: set[Source],
    acceptances: Sequence[Acceptance],
    calls: Sequence[Call],
    seconds: float,
    suppression_p99_ms: float,
    killed: int,
    problems: Iterable[str] = (),
) -> ActReport:
    """Count, and compare what was told with what the sandbox took.

    Args:
        acceptances, calls: those of the act.
        problems: what is known to be wrong beside the counts.
    """
    times = Counter(acceptance.address for acceptance in acceptances)
    taking = sum(call.mails > 0 for call in calls)
    words = endings.words
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
        problems=[*problems, *_problems(act, endings, inputs, acceptances, times)],
    )


def _problems(
    act: Act,
    endings: Endings,
    inputs: set[Source],
    acceptances: Sequence[Acceptance],
    times: Counter[str],
) -> Iterable[str]:
    # By its source's coordinates, each record has one ending.
    missing = inputs - endings.sources.keys()
    if missing:
        yield f"{len(missing)} records have no outcome and no dead letter: {_named(missing)}"
    repeated = [source for source, count in endings.sources.items() if count > 1]
    if repeated:
        yield f"{len(repeated)} records have more than one ending: {_named(repeated)}"
    strange = endings.sources.keys() - inputs
    if strange:
        yield f"{len(strange)} endings are of no record that was produced: {_named(strange)}"

    # Whoever is told to be sent a mail was, and nobody else.
    taken = {acceptance.email_id for acceptance in acceptances}
    if endings.sent_ids - taken:
        yield f"{len(endings.sent_ids - taken)} mails are said to be sent and were not accepted"
    if taken - endings.sent_ids:
        yield f"{len(taken - endings.sent_ids)} mails were accepted and no outcome says so"
    if endings.words[Status.SENT] != len(endings.sent_ids):
        yield (
            f"{endings.words[Status.SENT]} outcomes say sent, "
            f"with the ids of {len(endings.sent_ids)} mails"
        )
    twice = [address for address, count in times.items() if count > 1]
    if twice:
        yield f"{len(twice)} were mailed twice: {', '.join(sorted(twice)[:_MOST_NAMED])}"
    wrongly = times.keys() & suppressed(act)
    if wrongly:
        yield f"{len(wrongly)} are suppressed and were mailed: {sorted(wrongly)[0]}"


def _named(sources: Iterable[Source]) -> str:
    """The first of them, as a reader of the topic would look for them."""
    first = islice(sorted(sources), _MOST_NAMED)
    return ", ".join(f"partition {partition} offset {offset}" for partition, offset in first)
