"""What a failure after acceptance says about the account."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from streamer.feedback.troubles import account_trouble
from streamer.model.mail_event import Origin, event_of_webhook, read_event
from streamer.model.published import PublishedMailEvent
from tests.kit.gateway import webhook

_AT = datetime(2026, 11, 24, 3, 40, 0, 123000, UTC)


def _failed(reason: str, kind: str = "email.failed") -> PublishedMailEvent:
    payload = orjson.loads(webhook(kind, failed={"reason": reason}))
    origin = Origin("webhook", "default", "msg_1", _AT)
    return read_event(event_of_webhook(payload, origin, "t").value)


@pytest.mark.parametrize(
    ("words", "reason", "domain"),
    [
        ("reached_daily_quota", "daily_quota_exceeded", None),
        ("reached_monthly_quota", "monthly_quota_exceeded", None),
        ("API key is invalid", "invalid_api_key", None),
        ("The acme.test domain is not verified.", "domain_not_verified", "acme.test"),
        ("mailbox full", None, None),
        ("", None, None),
    ],
)
def test_what_is_the_accounts(words: str, reason: str | None, domain: str | None) -> None:
    trouble = account_trouble(_failed(words), _AT)
    assert (trouble and trouble.reason, trouble and trouble.domain) == (reason, domain)


def test_the_daily_quota_ends_at_midnight() -> None:
    trouble = account_trouble(_failed("reached_daily_quota"), _AT)
    assert trouble is not None
    assert trouble.until == datetime(2026, 11, 25, tzinfo=UTC)


def test_an_old_event_holds_nothing() -> None:
    event = _failed("reached_daily_quota")
    assert account_trouble(event, _AT + timedelta(minutes=9))
    assert account_trouble(event, _AT + timedelta(minutes=11)) is None


def test_another_event_holds_nothing() -> None:
    assert account_trouble(_failed("reached_daily_quota", "email.bounced"), _AT) is None
