"""Checks of Resend with each account's key."""

import re
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from streamer.doctor.check_result import CheckResult, clock, failed, ok, warning
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.client import UNTRUSTED, ApiResponse, ResendClient
from streamer.provider.remedies import ENDS_BY_ITSELF, remedy
from streamer.provider.responses import result_label
from streamer.provider.rules import ErrorCategory, find_rule
from streamer.settings import DEFAULT_API_URL, Settings, SettingsError

_MAX_WAIT_S = 10.0
_RESTRICTED = "restricted_api_key"
_MAY_SEND = re.compile(r"\bsend", re.IGNORECASE)
"""Matches Resend's message about a send-only key; otherwise the key is inactive."""
_CAN_SEND = ("verified", "partially_verified")


def check_resend(settings: Settings) -> Iterator[CheckResult]:
    """Check each account's key with a read-only call."""
    try:
        accounts = Accounts(settings.accounts)
    except ValueError:
        return  # reported by the settings check
    timeout_s = min(_MAX_WAIT_S, settings.delivery.timeout_s)
    try:
        client = ResendClient(settings.api_url, timeout_s)
    except SettingsError as error:
        yield failed("resend", str(error))
        return
    response: ApiResponse | None = None
    first_with: dict[str, str] = {}
    for name in accounts.names():
        subject = f"account {name}"
        try:
            key = accounts.key(name)
        except NoKeyError as error:
            yield failed(subject, str(error), "provide the key, or change accounts in the settings")
            continue
        response = client.check_key(key)
        yield check_response(subject, response, settings.api_url)
        yield from _rate(subject, response, accounts.requests_per_second(name))
        other = first_with.setdefault(key, name)
        if other != name:
            yield warning(
                f"{subject} key",
                f"same key as account {other}: their calls share one rate limit at Resend, but "
                f"each uses it in full",
                "make them one account, or keep their total requests_per_second within the limit",
            )
    if response is not None:
        yield from _clock(response)


def check_response(subject: str, response: ApiResponse, url: str) -> CheckResult:
    """Make a finding about the response to an account's key, from Resend or another server."""
    if response.status is None:
        if response.name == UNTRUSTED:
            return failed(subject, response.message, remedy(UNTRUSTED))
        return failed(
            subject,
            f"no response from {url}: {response.message}",
            "check the network, the proxy if HTTPS_PROXY is set, and RESEND_API_URL",
        )
    if not response.is_from_resend:
        return _foreign(subject, response)
    if response.status < 300:
        return _domains(subject, response, url)
    said = f"{response.status} {response.name}: {response.message}"
    if response.name == _RESTRICTED and _MAY_SEND.search(response.message):
        return ok(subject, "the key may send, and nothing else")
    row = find_rule(response.status, response.name, response.message, response.is_from_resend)
    why = row.reason or result_label(response)
    match row.category:
        case ErrorCategory.RATE_LIMIT:
            return warning(subject, said, remedy("rate_limit_exceeded"))
        case ErrorCategory.ACCOUNT | ErrorCategory.SENDER:
            judge = warning if why in ENDS_BY_ITSELF else failed
            return judge(subject, said, remedy(why))
        case ErrorCategory.BUSY:
            return warning(subject, said, "try again later")
        case ErrorCategory.UNAVAILABLE if response.status >= 500:
            return warning(subject, said, "try again later")
    return failed(subject, said, "check RESEND_API_URL")


def _foreign(subject: str, response: ApiResponse) -> CheckResult:
    said = f"{response.status}: {response.message}"
    if response.status == 429 or (response.status or 0) >= 500:
        return warning(subject, said, "try again later; if it persists, check for a proxy")
    return failed(
        subject,
        said,
        "another server on the way responds instead of Resend: check RESEND_API_URL and the "
        "proxy in HTTPS_PROXY",
    )


def _domains(subject: str, response: ApiResponse, url: str) -> CheckResult:
    listed = response.data.get("data")
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


def _rate(subject: str, response: ApiResponse, wanted: float) -> Iterator[CheckResult]:
    limit = response.headers.get("ratelimit-limit", "")
    if limit.isdecimal() and wanted > int(limit):
        yield warning(
            subject,
            f"requests_per_second is {wanted:g}, but Resend allows only {limit}",
            f"set it to {limit}, or to 0 to use Resend's limit",
        )


def _clock(response: ApiResponse) -> Iterator[CheckResult]:
    try:
        theirs = parsedate_to_datetime(response.headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return
    yield clock("resend clock", theirs - time.time())
