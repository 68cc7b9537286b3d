"""Each trouble that holds an account or a domain has a remedy of its own."""

import pytest

from streamer.flow.failure_stats import OUTAGE
from streamer.provider.client import UNTRUSTED
from streamer.provider.remedies import ENDS_BY_ITSELF, remedy
from streamer.provider.rules import RULES, ErrorCategory

_REASONS = {
    why
    for row in RULES
    if row.category in (ErrorCategory.ACCOUNT, ErrorCategory.SENDER)
    for why in ([row.reason] if row.reason else row.names or [f"http_{min(row.statuses)}"])
} | {UNTRUSTED, OUTAGE, "rate_limit_exceeded"}


@pytest.mark.parametrize("why", sorted(_REASONS))
def test_every_hold_reason_has_a_remedy(why: str) -> None:
    assert remedy(why) != remedy("http_499")


def test_unknown_reasons_have_a_remedy() -> None:
    assert "message" in remedy("http_499")


def test_self_ending_holds_say_so() -> None:
    assert all("ends by itself" in remedy(why) for why in ENDS_BY_ITSELF)
