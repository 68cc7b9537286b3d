"""A campaign's state in words. Pure; the one place that decides what every command shows."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from streamer.model.campaign import CampaignState


class CampaignCondition(NamedTuple):
    """What the ledger knows about a campaign's state.

    Attributes:
        state: `paused` also while the campaign waits for its start; None if it is neither defined
            nor its state set.
        waits_until: the start it waits for; None if it does not wait.
        paused_for: why a worker paused it; None if an operator did or it is not paused.
        is_draft: whether it is defined and no recipient was read yet.
    """

    state: CampaignState | None
    waits_until: datetime | None = None
    paused_for: str | None = None
    is_draft: bool = False


def standing(
    condition: CampaignCondition, now: datetime, *, late: int = 0, hold: str | None = None
) -> str:
    """Return the state in words.

    Args:
        condition: the campaign.
        now: the current time.
        late: number of recipients that came after its completion and have not ended.
        hold: the account that its mails wait for and why, as "default (monthly_quota_exceeded)".
    """
    match condition.state:
        case CampaignState.CANCELLED:
            return "cancelled"
        case CampaignState.COMPLETED:
            return f"completed, {late:,} late ones under way" if late else "completed"
        case CampaignState.PAUSED if condition.waits_until is not None:
            moment = condition.waits_until.astimezone(UTC)
            return f"scheduled for {moment:%Y-%m-%d %H:%M} UTC ({distance(moment - now)})"
        case CampaignState.PAUSED if condition.paused_for is not None:
            return f"paused: {condition.paused_for}"
        case CampaignState.PAUSED:
            return "paused by operator"
    if condition.is_draft:
        return "draft"
    return "sending" if hold is None else f"waiting for account {hold}"


def distance(time: timedelta) -> str:
    """Return a time from now in its largest unit, as "in 2 h" or "5 min ago"."""
    text = span(time)
    return f"in {text}" if time >= timedelta() else f"{text} ago"


def span(time: timedelta) -> str:
    """Return a time span in its largest unit, as "2 h", whatever its sign."""
    seconds = round(abs(time.total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
