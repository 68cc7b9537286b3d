"""When what became of a campaign's mails must stop it. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from streamer.model.feedback import Flag
from streamer.settings import BreakerSettings


class GuardFinding(NamedTuple):
    """Why a campaign must be paused.

    Attributes:
        reason: `complaints` or `bounces`.
        why: in words.
    """

    reason: str
    why: str


def excess(settings: BreakerSettings, counts: Mapping[str, int]) -> GuardFinding | None:
    """Return why a campaign with these counts of events must be paused; None if it may go on."""
    bounced = counts.get(Flag.BOUNCED_PERMANENT.word, 0)
    arrived = counts.get(Flag.DELIVERED.word, 0) + bounced
    if arrived < settings.feedback_minimum:
        return None
    complained = counts.get(Flag.COMPLAINED.word, 0)
    for reason, words, number, most in (
        ("complaints", "complained", complained, settings.complaint_share),
        ("bounces", "bounced permanently", bounced, settings.bounce_share),
    ):
        if number > most * arrived:
            share, limit = number / arrived, most
            return GuardFinding(
                reason,
                f"{number:,} of {arrived:,} recipients {words} ({share:.2%}, limit {limit:.2%})",
            )
    return None
