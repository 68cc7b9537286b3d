"""The gateway's process: uvicorn, signals and shutdown."""

import logging
import resource
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FrameType

import uvicorn

from streamer.gateway.app import Gateway
from streamer.gateway.connections import guarded
from streamer.gateway.events import EventWriter
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.memory import tune_garbage_collection
from streamer.provider.accounts import Accounts
from streamer.settings import Settings, SettingsError

_KEEP_ALIVE_S = 5
END_S = 15
_BACKLOG = 1_024
_ANY_URL = "https://localhost/u"


def make_gateway(settings: Settings) -> Gateway:
    """Create the handlers from the settings.

    Raises:
        SettingsError: a setting cannot be used, or there is neither a secret for webhooks nor one
            for unsubscribing.
    """
    try:
        accounts = Accounts(settings.accounts)
    except ValueError as error:
        raise SettingsError(f"accounts: {error}") from None
    links = None
    if secrets := settings.unsubscribe.secrets:
        try:
            links = UnsubscribeLinks(settings.unsubscribe.base_url or _ANY_URL, secrets)
        except ValueError as error:
            raise SettingsError(f"unsubscribe: {error}") from None
    if links is None and not any(map(accounts.webhook_secrets, accounts.names())):
        raise SettingsError(
            "nothing to do: set unsubscribe.secret for the unsubscribe page, or webhook_secret_env "
            "or webhook_secret_file of an account for Resend's webhooks"
        )
    return Gateway(settings, accounts, links, partial(EventWriter, settings))


def serve(
    settings: Settings,
    host: str,
    port: int,
    trusted_proxies: str,
    announce: Callable[[str], None],
) -> bool:
    """Serve until SIGTERM or SIGINT; then finish what was begun.

    Args:
        settings: the settings.
        host: the address to listen on.
        port: 0 for any free one.
        trusted_proxies: addresses and networks of the proxies whose `X-Forwarded-For` counts,
            separated by commas; `*` for all.
        announce: called with the URL, once it listens.

    Returns:
        Whether it could start.

    Raises:
        SettingsError: a setting cannot be used.
        OSError: the port is taken.
    """
    gateway = make_gateway(settings)
    _raise_file_limit()
    config = uvicorn.Config(
        gateway.app(),
        http=guarded(settings.gateway.max_connections),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=trusted_proxies,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=END_S,
    )
    # It would log each malformed request, and its own start at the level of errors.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        server = uvicorn.Server(config)
        tune_garbage_collection()
        # uvicorn raises the signal again when it has finished: it must not end the process then.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)
        server.run(sockets=[listener])
    return server.started


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def _raise_file_limit() -> None:
    """Allow as many open connections as the system does."""
    with suppress(ValueError, OSError):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
