"""Whether Resend can be reached with each account's key."""

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from streamer.doctor.finding import Finding, clock, failed, ok, warning
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.client import Answer, ResendClient
from streamer.settings import DEFAULT_API_URL, Settings

_MOST_WAIT_S = 10.0
_RESTRICTED = "restricted_api_key"


def check_resend(settings: Settings) -> Iterator[Finding]:
    """Check each account's key, by a call that changes nothing."""
    try:
        accounts = Accounts(settings.accounts)
    except ValueError:
        return  # the check of the settings says so
    timeout_s = min(_MOST_WAIT_S, settings.delivery.timeout_s)
    client = ResendClient(settings.api_url, timeout_s, connections=1)
    answer: Answer | None = None
    for name in accounts.names():
        subject = f"account {name}"
        try:
            key = accounts.key(name)
        except NoKeyError as error:
            yield failed(subject, str(error), "put it there, or change accounts in the settings")
            continue
        answer = client.check_key(key)
        yield _judge(subject, answer, settings)
        yield from _rate(subject, answer, accounts.requests_per_second(name))
    if answer is not None:
        yield from _clock(answer)


def _judge(subject: str, answer: Answer, settings: Settings) -> Finding:
    if answer.status is None:
        return failed(
            subject,
            f"no answer from {settings.api_url}: {answer.message}",
            "is the network open to it, and RESEND_API_URL right?",
        )
    if answer.name == _RESTRICTED:
        return ok(subject, "its key may send, and nothing else")
    said = f"{answer.status} {answer.name}: {answer.message}"
    if answer.status in (401, 403):
        return failed(subject, said, "make a key at Resend that may send, and put it there")
    if answer.status == 429 or answer.status >= 500:
        return warning(subject, said, "try again later")
    if answer.status >= 400:
        return failed(subject, said, "is RESEND_API_URL right?")
    if settings.api_url != DEFAULT_API_URL:
        return ok(subject, f"its key is good at {settings.api_url}, which is not Resend itself")
    return _domains(subject, answer)


def _domains(subject: str, answer: Answer) -> Finding:
    listed = answer.data.get("data")
    domains = (
        [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    )
    verified = [str(each.get("name")) for each in domains if each.get("status") == "verified"]
    if not verified:
        return warning(
            subject,
            "its key is good, but it has no verified domain to send from",
            "verify one at Resend",
        )
    return ok(subject, f"its key is good; verified domains: {', '.join(verified)}")


def _rate(subject: str, answer: Answer, wanted: float) -> Iterator[Finding]:
    limit = answer.headers.get("ratelimit-limit", "")
    if limit.isdecimal() and wanted > int(limit):
        yield warning(
            subject,
            f"requests_per_second is {wanted:g}, Resend allows {limit}, which then holds",
            f"set it to {limit}, or to 0 to follow Resend",
        )


def _clock(answer: Answer) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return
    yield clock("resend clock", theirs - time.time())
