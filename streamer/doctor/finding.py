"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum

MOST_SKEW_S = 5.0
"""Of two clocks. What expires is judged by the workers' own, to the second or so."""


class Level(StrEnum):
    """How grave it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what to do about it."""

    level: Level
    subject: str
    text: str
    mend: str | None = None


def ok(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, mend: str | None = None) -> Finding:
    """It works, but not as well as it could, or not in every case."""
    return Finding(Level.WARNING, subject, text, mend)


def failed(subject: str, text: str, mend: str | None = None) -> Finding:
    """No worker can work like this, or what it promises does not hold."""
    return Finding(Level.FAILED, subject, text, mend)


def clock(subject: str, ahead_s: float) -> Finding:
    """The finding about another clock that is so many seconds ahead of ours."""
    if abs(ahead_s) <= MOST_SKEW_S:
        return ok(subject, "agrees with this machine's")
    words = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        subject,
        f"is {abs(ahead_s):.0f} s {words} this machine's",
        "let both follow a time server (NTP)",
    )
