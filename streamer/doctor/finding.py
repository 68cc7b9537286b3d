"""Findings of checks."""

from dataclasses import dataclass
from enum import StrEnum

MOST_SKEW_S = 5.0
"""Maximum difference of two clocks. Expiry is decided by the workers' clocks, to about a second."""


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and how to fix it."""

    level: Level
    subject: str
    text: str
    mend: str | None = None


def ok(subject: str, text: str) -> Finding:
    """Make a finding that everything works."""
    return Finding(Level.OK, subject, text)


def warning(subject: str, text: str, mend: str | None = None) -> Finding:
    """Make a finding about something that works, but not well or not always."""
    return Finding(Level.WARNING, subject, text, mend)


def failed(subject: str, text: str, mend: str | None = None) -> Finding:
    """Make a finding that prevents workers from working, or breaks their guarantees."""
    return Finding(Level.FAILED, subject, text, mend)


def clock(subject: str, ahead_s: float) -> Finding:
    """Make a finding about another clock that is `ahead_s` seconds ahead of this machine's."""
    if abs(ahead_s) <= MOST_SKEW_S:
        return ok(subject, "in sync with this machine")
    words = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        subject,
        f"{abs(ahead_s):.0f} s {words} this machine",
        "synchronise both clocks (NTP)",
    )
