"""Checks of the accounts' state in the ledger: rates, holds, circuits and recent responses."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from streamer.doctor.check_result import CheckResult, failed, ok, warning
from streamer.flow.failure_stats import circuit_pause_s
from streamer.flow.rate import allowed_rate
from streamer.ledger import campaigns, responses
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.ledger.holds import AccountState, By, Hold, Holds
from streamer.ledger.responses import LastResponse
from streamer.provider.accounts import Accounts
from streamer.provider.remedies import ENDS_BY_ITSELF, remedy
from streamer.settings import AccountSettings, Settings

_SHOWN_FOR = timedelta(days=1)
_FRESH = timedelta(hours=1)
_MAX_ANSWERS = 5
_MAX_ORGANIZATIONS = 10


def check_accounts(settings: Settings) -> Iterator[CheckResult]:
    """Report the ledger state of each account, read-only.

    Yields nothing if the settings or Redis cannot be used; other checks report that.
    """
    try:
        accounts = Accounts(settings.accounts)
        client = connect(settings.redis)
    except (ValueError, *REDIS_ERRORS):
        return
    try:
        states = Holds(client).read(accounts.names())
        last = responses.read(client, accounts.names())
        unserved = _organizations(client, accounts)
    except REDIS_ERRORS:
        return
    finally:
        client.close()
    now = datetime.now(UTC)
    for name, state in states.items():
        yield _rate(name, settings.accounts[name], state)
        yield from _holds(name, state)
        yield _circuit(name, state)
        yield _answers(name, last[name], now)
    yield unserved


def _rate(name: str, account: AccountSettings, state: AccountState) -> CheckResult:
    rate = allowed_rate(account.requests_per_second, state.limit)
    ceiling = (
        f"requests_per_second is {account.requests_per_second:g}"
        if account.requests_per_second
        else "requests_per_second is 0 (Resend's limit)"
    )
    named = "not reported yet" if state.limit is None else f"{state.limit}"
    text = f"{rate:g} calls per second across all workers: {ceiling}, limit at Resend {named}"
    return ok(f"account {name} rate", text)


def _holds(name: str, state: AccountState) -> Iterator[CheckResult]:
    if not state.holds:
        yield ok(f"account {name} holds", "none")
    for domain, hold in state.holds.items():
        what = "" if domain is None else f" of {domain}"
        # Nothing is sent until an operator acts.
        grave = domain is None and hold.by is not By.OPERATOR and hold.reason not in ENDS_BY_ITSELF
        judge = failed if grave else warning
        yield judge(f"account {name} hold{what}", _words(hold), _mend(name, domain, hold))


def _words(hold: Hold) -> str:
    since = hold.since.isoformat(timespec="seconds")
    if hold.until is not None:
        until = f"until {hold.until.isoformat(timespec='seconds')}"
    elif hold.by is By.OPERATOR:
        until = "until released by hand"
    else:
        until = "until a test call succeeds"
    detail = f": {hold.detail}" if hold.detail else ""
    return f"{hold.reason}, since {since}, {until}; its records are parked{detail}"


def _mend(name: str, domain: str | None, hold: Hold) -> str:
    release = f"streamer account release {name}"
    if domain is not None:
        release += f" --domain {domain}"
    if hold.by is By.OPERATOR:
        return release
    cause = remedy(hold.reason)
    if hold.reason in ENDS_BY_ITSELF:
        return cause
    return f"{cause}; workers test it periodically, and immediately after: {release}"


def _circuit(name: str, state: AccountState) -> CheckResult:
    subject = f"account {name} circuit"
    if not state.failures:
        return ok(subject, "closed: the last call got a response, or there was none yet")
    failures = f"the last {state.failures} calls failed"
    pause_s = circuit_pause_s(state.failures)
    if not pause_s:
        return ok(subject, f"closed: {failures}")
    return warning(
        subject,
        f"open: {failures}, so only one call is made every {pause_s:g} s until one succeeds",
        "an outage at Resend ends by itself and no mail is lost; otherwise see the last responses",
    )


def _answers(name: str, last: list[LastResponse], now: datetime) -> CheckResult:
    subject = f"account {name} answers"
    shown = [answer for answer in last if now - answer.at < _SHOWN_FOR][:_MAX_ANSWERS]
    if not shown:
        return ok(subject, "in the last day only `accepted`")
    listed = "; ".join(
        f"{answer.result} at {answer.at.isoformat(timespec='seconds')}"
        + (f" ({answer.message})" if answer.message else "")
        for answer in shown
    )
    judge = warning if now - shown[0].at < _FRESH else ok
    return judge(subject, f"last responses other than `accepted`: {listed}")


def _organizations(client: Client, accounts: Accounts) -> CheckResult:
    """Check that every organization with campaigns is served by an account."""
    organizations = campaigns.organizations(client)
    unserved = [each for each in organizations if accounts.of(each) is None]
    if not unserved:
        return ok("organizations", f"{len(organizations)} with campaigns; each has an account")
    named = ", ".join(unserved[:_MAX_ORGANIZATIONS])
    if len(unserved) > _MAX_ORGANIZATIONS:
        named += f" and {len(unserved) - _MAX_ORGANIZATIONS} more"
    return warning(
        "organizations",
        f"no account serves {named}: their records are parked",
        "add them to accounts.NAME.organizations, or omit that setting for one account, which "
        "then serves all others; then restart the workers",
    )
