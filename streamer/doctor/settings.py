"""Whether the settings make sense together."""

from collections.abc import Iterator

from streamer.doctor.finding import Finding, failed, ok, warning
from streamer.provider.accounts import Accounts
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_composer

_KEY_KEPT_S = 86_400
_LEAST_MARGIN_S = 600


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check the settings without asking anybody."""
    yield _unsubscribe(settings)
    yield _accounts(settings)
    if settings.mail.max_bytes > settings.batch.max_bytes:
        yield failed(
            "sizes",
            f"mail.max_bytes ({settings.mail.max_bytes:,}) is more than batch.max_bytes "
            f"({settings.batch.max_bytes:,})",
            "a mail must fit into a batch: lower the one or raise the other",
        )
    margin = _KEY_KEPT_S - settings.delivery.safe_window_s
    if margin < _LEAST_MARGIN_S:
        yield warning(
            "delivery.safe_window_s",
            f"ends {margin} s before Resend forgets a batch's key: a slow call or a wrong clock "
            f"may send a batch twice",
            f"leave at least {_LEAST_MARGIN_S} s of the {_KEY_KEPT_S} s; the default is 82800",
        )
    if settings.delivery.give_up_s > settings.delivery.safe_window_s:
        yield warning(
            "delivery.give_up_s",
            "is longer than delivery.safe_window_s, which ends a batch first",
            "make it shorter",
        )


def _unsubscribe(settings: Settings) -> Finding:
    try:
        make_composer(settings)
    except SettingsError as error:
        return failed("unsubscribe", str(error))
    if settings.unsubscribe.base_url and settings.unsubscribe.secrets:
        return ok("unsubscribe", f"links begin with {settings.unsubscribe.base_url}")
    return warning(
        "unsubscribe",
        "mails go out without one-click unsubscribe headers: Gmail and Yahoo ask for them",
        "set unsubscribe.base_url and unsubscribe.secret",
    )


def _accounts(settings: Settings) -> Finding:
    try:
        accounts = Accounts(settings.accounts)
    except ValueError as error:
        return failed("accounts", str(error), "change accounts.NAME.organizations")
    return ok("accounts", ", ".join(accounts.names()))
