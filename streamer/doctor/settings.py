"""Checks of the settings."""

from collections.abc import Iterator

from streamer.doctor.check_result import CheckResult, failed, ok, warning
from streamer.provider.accounts import Accounts
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_composer

_KEY_KEPT_S = 86_400
_MIN_MARGIN_S = 600


def check_settings(settings: Settings) -> Iterator[CheckResult]:
    """Check the settings without network access."""
    yield _unsubscribe(settings)
    yield _accounts(settings)
    if settings.mail.max_bytes > settings.batch.max_bytes:
        yield failed(
            "sizes",
            f"mail.max_bytes ({settings.mail.max_bytes:,}) is larger than batch.max_bytes "
            f"({settings.batch.max_bytes:,})",
            "a mail must fit into a batch: lower mail.max_bytes or raise batch.max_bytes",
        )
    margin = _KEY_KEPT_S - settings.delivery.safe_window_s
    if margin < _MIN_MARGIN_S:
        yield warning(
            "delivery.safe_window_s",
            f"ends {margin} s before Resend drops the idempotency key: a slow call or a wrong "
            f"clock may send a batch twice",
            f"leave a margin of at least {_MIN_MARGIN_S} s to {_KEY_KEPT_S} s; the default is "
            f"82800",
        )
    if settings.delivery.give_up_s > settings.delivery.safe_window_s:
        yield warning(
            "delivery.give_up_s",
            "longer than delivery.safe_window_s, so it has no effect",
            "set it below delivery.safe_window_s",
        )


def _unsubscribe(settings: Settings) -> CheckResult:
    try:
        make_composer(settings)
    except SettingsError as error:
        return failed("unsubscribe", str(error))
    if settings.unsubscribe.base_url and settings.unsubscribe.secrets:
        return ok("unsubscribe", f"links start with {settings.unsubscribe.base_url}")
    return warning(
        "unsubscribe",
        "mails have no one-click unsubscribe headers, which Gmail and Yahoo ask for",
        "set unsubscribe.base_url and unsubscribe.secret",
    )


def _accounts(settings: Settings) -> CheckResult:
    try:
        accounts = Accounts(settings.accounts)
    except ValueError as error:
        return failed("accounts", str(error), "change accounts.NAME.organizations")
    return ok("accounts", ", ".join(accounts.names()))
