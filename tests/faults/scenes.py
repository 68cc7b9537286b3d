"""The jobs of the matrix: one lap is one small campaign day, with one thing that goes wrong.

`main` is the main job, and `crowd` the same with more batches at a time. The other scenes lead to
calls that it does not make: their points are those that `main` does not have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
"""Whoever has an address there spoils his batch."""
TWIN = "twin"
"""Who is there twice."""


class GivenRecord(NamedTuple):
    """An input record, and how it may end."""

    value: Mapping[str, object] | bytes
    words: frozenset[Word]


@dataclass(frozen=True, slots=True)
class Scene:
    """A job.

    Attributes:
        companions: what goes wrong besides the fault that the lap is about, and leads there.
        pauses: the campaign with a definition is paused, until its records are parked.
        restarts: the worker is started when the records are there, and not before.
        of_calls: its points are all the calls to Resend, where the way, or the worker, fails.
        in_flight: batches at a time. With one, the others wait in the queue meanwhile, and calls
            come in the same order each time.
    """

    name: str
    companions: Mapping[Point, str] = field(default_factory=dict)
    pauses: bool = False
    restarts: bool = False
    of_calls: bool = False
    in_flight: int = 1


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
    # A refusal of a whole batch, which is over when its halves were sent.
    Scene("refused", {Point(PointKind.HTTP, "post", 1): "422 validation_error"}, of_calls=True),
    Scene("start", restarts=True),
    Scene("crowd", in_flight=8),
)


class Job(NamedTuple):
    """What a lap gives to the worker."""

    definition: Definition
    suppressed: Sequence[str]
    """Addresses of the first organization."""
    records: Sequence[GivenRecord]


def organizations(lap: str) -> tuple[str, str]:
    """The names of a lap's two organizations."""
    return f"{lap}-a", f"{lap}-b"


def job(lap: str) -> Job:
    """Four batches of at most five: three of one organization, in two campaigns, one of another.

    One is suppressed, one there twice, one spoils its batch, one has no address, and one is no
    event at all.
    """
    first, second = organizations(lap)
    definition = Definition.model_validate(
        {"organization_id": first, "campaign_id": "defined", **MESSAGE}
    )

    def event(name: str, **changes: object) -> dict[str, object]:
        return {
            "organization_id": first,
            "campaign_id": "own",
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
        # Whoever of the two comes first, when one of them was parked meanwhile.
        ends(event(TWIN), SENT, duplicate),
        *(ends(event(f"o{number}"), SENT) for number in range(7)),
        ends(event(TWIN, recipient_id="again"), SENT, duplicate),
        *(ends(event(f"b{number}", organization_id=second), SENT) for number in range(4)),
        ends(event("g0", organization_id=second, email=f"{lap}@{REJECTED_DOMAIN}"), REJECTED),
        ends(event("i0", email="nowhere"), ("failed", "invalid_address")),
        ends(b"no event", ("dead", "undecodable")),
    ]
    return Job(definition, [f"s0@{lap}.test"], records)
