"""Findings of checks."""

from dataclasses import dataclass
from enum import StrEnum

MAX_SKEW_S = 5.0
"""Maximum difference of two clocks. Expiry is decided by the workers' clocks, to about a second."""


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found, and how to fix it."""

    level: Level
    subject: str
    text: str
    mend: str | None = None


def ok(subject: str, text: str) -> CheckResult:
    """Make a finding that everything works."""
    return CheckResult(Level.OK, subject, text)


def warning(subject: str, text: str, mend: str | None = None) -> CheckResult:
    """Make a finding about something that works, but not well or not always."""
    return CheckResult(Level.WARNING, subject, text, mend)


def failed(subject: str, text: str, mend: str | None = None) -> CheckResult:
    """Make a finding that prevents workers from working, or breaks their guarantees."""
    return CheckResult(Level.FAILED, subject, text, mend)


def clock(subject: str, ahead_s: float) -> CheckResult:
    """Make a finding about another clock that is `ahead_s` seconds ahead of this machine's."""
    if abs(ahead_s) <= MAX_SKEW_S:
        return ok(subject, "in sync with this machine")
    words = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        subject,
        f"{abs(ahead_s):.0f} s {words} this machine",
        "synchronise both clocks (NTP)",
    )
