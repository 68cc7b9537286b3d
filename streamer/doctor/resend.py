"""Checks of Resend with each account's key."""

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from streamer.doctor.finding import Finding, clock, failed, ok, warning
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.answers import result_label
from streamer.provider.client import UNTRUSTED, Answer, ResendClient
from streamer.provider.remedies import ENDS_BY_ITSELF, remedy
from streamer.provider.table import Means, row_of
from streamer.settings import DEFAULT_API_URL, Settings, SettingsError

_MOST_WAIT_S = 10.0
_RESTRICTED = "restricted_api_key"
_MAY_SEND = re.compile(r"\bsend", re.IGNORECASE)
"""Matches Resend's message about a send-only key; otherwise the key is inactive."""
_CAN_SEND = ("verified", "partially_verified")


def check_resend(settings: Settings) -> Iterator[Finding]:
    """Check each account's key with a read-only call."""
    try:
        accounts = Accounts(settings.accounts)
    except ValueError:
        return  # reported by the settings check
    timeout_s = min(_MOST_WAIT_S, settings.delivery.timeout_s)
    try:
        client = ResendClient(settings.api_url, timeout_s, connections=1)
    except SettingsError as error:
        yield failed("resend", str(error))
        return
    answer: Answer | None = None
    first_with: dict[str, str] = {}
    for name in accounts.names():
        subject = f"account {name}"
        try:
            key = accounts.key(name)
        except NoKeyError as error:
            yield failed(subject, str(error), "provide the key, or change accounts in the settings")
            continue
        answer = client.check_key(key)
        yield judge_answer(subject, answer, settings.api_url)
        yield from _rate(subject, answer, accounts.requests_per_second(name))
        other = first_with.setdefault(key, name)
        if other != name:
            yield warning(
                f"{subject} key",
                f"same key as account {other}: their calls share one rate limit at Resend, but "
                f"each uses it in full",
                "make them one account, or keep their total requests_per_second within the limit",
            )
    if answer is not None:
        yield from _clock(answer)


def judge_answer(subject: str, answer: Answer, url: str) -> Finding:
    """Make a finding about the response to an account's key, from Resend or another server."""
    if answer.status is None:
        if answer.name == UNTRUSTED:
            return failed(subject, answer.message, remedy(UNTRUSTED))
        return failed(
            subject,
            f"no response from {url}: {answer.message}",
            "check the network, the proxy if HTTPS_PROXY is set, and RESEND_API_URL",
        )
    if not answer.is_resends:
        return _foreign(subject, answer)
    if answer.status < 300:
        return _domains(subject, answer, url)
    said = f"{answer.status} {answer.name}: {answer.message}"
    if answer.name == _RESTRICTED and _MAY_SEND.search(answer.message):
        return ok(subject, "the key may send, and nothing else")
    row = row_of(answer.status, answer.name, answer.message, answer.is_resends)
    why = row.why or result_label(answer)
    match row.means:
        case Means.TOO_FAST:
            return warning(subject, said, remedy("rate_limit_exceeded"))
        case Means.ACCOUNT | Means.SENDER:
            judge = warning if why in ENDS_BY_ITSELF else failed
            return judge(subject, said, remedy(why))
        case Means.BUSY:
            return warning(subject, said, "try again later")
        case Means.WAY if answer.status >= 500:
            return warning(subject, said, "try again later")
    return failed(subject, said, "check RESEND_API_URL")


def _foreign(subject: str, answer: Answer) -> Finding:
    said = f"{answer.status}: {answer.message}"
    if answer.status == 429 or (answer.status or 0) >= 500:
        return warning(subject, said, "try again later; if it persists, check for a proxy")
    return failed(
        subject,
        said,
        "another server on the way responds instead of Resend: check RESEND_API_URL and the "
        "proxy in HTTPS_PROXY",
    )


def _domains(subject: str, answer: Answer, url: str) -> Finding:
    listed = answer.data.get("data")
    if not isinstance(listed, list):
        return failed(subject, "the response contains no list of domains", "check RESEND_API_URL")
    if url != DEFAULT_API_URL:
        return ok(subject, f"the key works at {url}, which is not Resend itself")
    domains = [each for each in listed if isinstance(each, dict)]
    verified = [str(each.get("name")) for each in domains if each.get("status") in _CAN_SEND]
    if not verified:
        return warning(
            subject,
            "the key works, but the account has no verified domain to send from",
            "verify one at Resend",
        )
    return ok(subject, f"the key works; verified domains: {', '.join(verified)}")


def _rate(subject: str, answer: Answer, wanted: float) -> Iterator[Finding]:
    limit = answer.headers.get("ratelimit-limit", "")
    if limit.isdecimal() and wanted > int(limit):
        yield warning(
            subject,
            f"requests_per_second is {wanted:g}, but Resend allows only {limit}",
            f"set it to {limit}, or to 0 to use Resend's limit",
        )


def _clock(answer: Answer) -> Iterator[Finding]:
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return
    yield clock("resend clock", theirs - time.time())
