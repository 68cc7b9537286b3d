"""The jobs of the matrix. A lap is one small campaign run with one fault.

`main` is the main job, and `crowd` is the same with more concurrent batches. The other scenes
lead to calls that `main` does not make, and contribute only those points: in `events` what applies
the events of mails, in `gateway` what takes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from streamer.model.campaign import Definition
from tests.kit.harness import MESSAGE
from tests.kit.points import Point, PointKind

Word = tuple[str, str | None]

SENT: Word = ("sent", None)
REJECTED: Word = ("failed", "rejected")
CONFLICT: Word = ("indeterminate", "idempotency_conflict")
CLOSED: Word = ("indeterminate", "window_closed")
REJECTED_DOMAIN = "guilty.test"
"""A batch with a recipient in this domain is rejected."""
OWN = "own"
"""The campaign whose events have messages of their own."""
TWIN = "twin"
"""The recipient that occurs twice."""


class GivenRecord(NamedTuple):
    """An input record and its permitted results."""

    value: Mapping[str, object] | bytes
    words: frozenset[Word]


class EventsFrom(StrEnum):
    """How the events of a lap come to their topic."""

    TOPIC = "topic"
    """They are written to it, for the worker to apply."""
    GATEWAY = "gateway"
    """They are posted to a gateway, as Resend does."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A job.

    Attributes:
        companions: additional faults that lead to the scene's points.
        pauses: whether the campaign with a definition is paused until its records are parked.
        restarts: whether the worker is only started after the records are written.
        of_calls: whether its points are all calls to Resend, with transport and worker faults.
        in_flight: the number of concurrent batches. With one, the other batches are queued and
            the calls have the same order in every lap.
        events: where events of the mails come from, if there are any.
        own: patterns of calls that are points of it though other scenes have them too.
        only: patterns of the calls that are its points.
    """

    name: str
    companions: Mapping[Point, str] = field(default_factory=dict)
    pauses: bool = False
    restarts: bool = False
    of_calls: bool = False
    in_flight: int = 1
    events: EventsFrom | None = None
    own: Sequence[str] = ()
    only: Sequence[str] = ("*",)


MAIN = Scene("main")
SCENES = (
    MAIN,
    Scene("hold", {Point(PointKind.HTTP, "post", 1): "429 daily_quota_exceeded"}),
    Scene(
        "failing",
        {Point(PointKind.HTTP, "post", number): "500 application_error" for number in (1, 2)},
    ),
    Scene("throttled", {Point(PointKind.HTTP, "post", 1): "429 rate_limit_exceeded"}),
    Scene("paused", pauses=True),
    Scene(
        "aborted",
        {Point(PointKind.KAFKA, "committer.send_offsets_to_transaction", 1): "illegal_generation"},
    ),
    # A rejection of a whole batch, which is then sent in halves.
    Scene("refused", {Point(PointKind.HTTP, "post", 1): "422 validation_error"}, of_calls=True),
    Scene("start", restarts=True),
    Scene("crowd", in_flight=8),
    Scene(
        "events",
        events=EventsFrom.TOPIC,
        own=("events.consume", "events.commit", "events.incremental_*", "events.close", "put_hold"),
    ),
    Scene("gateway", events=EventsFrom.GATEWAY, only=("gateway.*",)),
)


class Job(NamedTuple):
    """The input of a lap."""

    definition: Definition
    suppressed: Sequence[str]
    """Suppressed addresses of the first organization."""
    records: Sequence[GivenRecord]


def organizations(lap: str) -> tuple[str, str]:
    """Return the names of a lap's two organizations."""
    return f"{lap}-a", f"{lap}-b"


def job(lap: str) -> Job:
    """Return four batches of at most five: three of one organization, one of another.

    The three are in two campaigns. One recipient is suppressed, one occurs twice, one has its
    batch rejected, one has an invalid address, and one record is not an event at all.
    """
    first, second = organizations(lap)
    definition = Definition.model_validate(
        {"organization_id": first, "campaign_id": "defined", **MESSAGE}
    )

    def event(name: str, **changes: object) -> dict[str, object]:
        return {
            "organization_id": first,
            "campaign_id": OWN,
            "recipient_id": name,
            "email": f"{name}@{lap}.test",
            "variables": {"first_name": name},
            "message": MESSAGE,
            **changes,
        }

    def of_defined(name: str) -> dict[str, object]:
        found = event(name, campaign_id="defined")
        del found["message"]
        return found

    def ends(value: Mapping[str, object] | bytes, *words: Word) -> GivenRecord:
        return GivenRecord(value, frozenset(words))

    duplicate: Word = ("skipped", "duplicate")
    records = [
        *(ends(of_defined(f"d{number}"), SENT) for number in range(5)),
        ends(event("s0"), ("skipped", "suppressed")),
        # Either of the two can be first if one of them was parked.
        ends(event(TWIN), SENT, duplicate),
        *(ends(event(f"o{number}"), SENT) for number in range(7)),
        ends(event(TWIN, recipient_id="again"), SENT, duplicate),
        *(ends(event(f"b{number}", organization_id=second), SENT) for number in range(4)),
        ends(event("g0", organization_id=second, email=f"{lap}@{REJECTED_DOMAIN}"), REJECTED),
        ends(event("i0", email="nowhere"), ("failed", "invalid_address")),
        ends(b"no event", ("dead", "undecodable")),
    ]
    return Job(definition, [f"s0@{lap}.test"], records)
