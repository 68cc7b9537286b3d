"""What the acts are, and what is told of them."""

from dataclasses import dataclass, field

import orjson

from streamer.model.campaign import Definition
from streamer.sandbox import Acceptance

ORGANIZATION = "acme"


@dataclass(frozen=True, slots=True)
class Act:
    """One campaign.

    Attributes:
        workers: processes that a supervisor runs.
        kill: whether one of them gets a `kill -9` in mid-campaign.
        limit_s: the seconds that it should take at most; None for no such limit.
    """

    name: str
    recipients: int
    workers: int
    kill: bool
    limit_s: float | None


ACTS = (
    Act("one", 100, 1, False, 5.0),
    Act("two", 1_000, 1, False, 30.0),
    Act("three", 5_000, 2, True, None),
)


def definition(act: Act) -> Definition:
    """The campaign of an act."""
    return Definition.model_validate(
        {
            "organization_id": ORGANIZATION,
            "campaign_id": f"act-{act.name}",
            "from": "Acme <news@acme.test>",
            "subject": "Spring is here, {{ first_name }}",
            "html": "<h1>Hello {{ first_name }}</h1><p>Our spring offers are out.</p>"
            '<p><a href="{{ unsubscribe_url }}">No more of these</a></p>',
            "text": "Hello {{ first_name }}, our spring offers are out.\n{{ unsubscribe_url }}\n",
        }
    )


def event(act: Act, number: int) -> bytes:
    """A recipient of an act."""
    return orjson.dumps(
        {
            "organization_id": ORGANIZATION,
            "campaign_id": f"act-{act.name}",
            "recipient_id": f"r-{number}",
            "email": address(act, number),
            "variables": {"first_name": f"Reader {number}"},
        }
    )


def address(act: Act, number: int) -> str:
    """The address of a recipient."""
    return f"reader{number}.{act.name}@example.com"


def is_suppressed(number: int) -> bool:
    """Two in a hundred are."""
    return number % 50 == 7


@dataclass(slots=True)
class Endings:
    """The committed outcomes and dead letters of an act, as they are read."""

    sources: dict[tuple[int, int], int] = field(default_factory=dict)
    """How many endings each input record has, by partition and offset."""
    words: dict[str, int] = field(default_factory=dict)
    sent_ids: set[str] = field(default_factory=set)
    total: int = 0

    def add(self, word: str, source: tuple[int, int], email_id: str | None) -> None:
        """Count an ending: a status, or `dead`."""
        self.total += 1
        self.words[word] = self.words.get(word, 0) + 1
        self.sources[source] = self.sources.get(source, 0) + 1
        if email_id is not None:
            self.sent_ids.add(email_id)


@dataclass(frozen=True, slots=True)
class ActReport:
    """What came of an act; `problems` is empty if every count adds up."""

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
    suppression_p99_ms: float
    killed: int
    problems: list[str]

    def as_json(self) -> dict[str, object]:
        """The act as `--json` shows it."""
        return {
            "recipients": self.act.recipients,
            "sent": self.sent,
            "skipped": self.skipped,
            "failed": self.failed,
            "indeterminate": self.indeterminate,
            "dead": self.dead,
            "seconds": round(self.seconds, 3),
            "accepted": self.accepted,
            "accepted_twice": self.accepted_twice,
            "calls": self.calls,
            "suppression_p99_ms": round(self.suppression_p99_ms, 3),
            "killed": self.killed,
        }


def report(
    act: Act,
    endings: Endings,
    inputs: set[tuple[int, int]],
    acceptances: list[Acceptance],
    seconds: float,
    suppression_p99_ms: float,
    killed: int,
) -> ActReport:
    """Count, and compare what was told with what the sandbox took."""
    recipients = [a.address for a in acceptances]
    twice = len(recipients) - len(set(recipients))
    suppressed = {address(act, n) for n in range(act.recipients) if is_suppressed(n)}
    ids = {a.email_id for a in acceptances}
    problems = []
    if endings.sources.keys() != inputs or any(n != 1 for n in endings.sources.values()):
        problems.append("an input record has not exactly one outcome or dead letter")
    if endings.sent_ids != ids:
        problems.append(f"{len(endings.sent_ids)} outcomes say sent, {len(ids)} mails were taken")
    if twice:
        problems.append(f"{twice} mails were taken twice")
    if suppressed & set(recipients):
        problems.append("somebody who is suppressed was mailed")
    if sum(endings.words.values()) != act.recipients:
        problems.append(f"{endings.total} endings for {act.recipients} recipients")
    words = endings.words
    return ActReport(
        act=act,
        sent=words.get("sent", 0),
        skipped=words.get("skipped", 0),
        failed=words.get("failed", 0),
        indeterminate=words.get("indeterminate", 0),
        dead=words.get("dead", 0),
        seconds=seconds,
        accepted=len(acceptances),
        accepted_twice=twice,
        calls=len({a.idempotency_key for a in acceptances}),
        suppression_p99_ms=suppression_p99_ms,
        killed=killed,
        problems=problems,
    )
