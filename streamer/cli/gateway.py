"""`streamer gateway`: take Resend's webhooks, and let recipients unsubscribe."""

from typing import Annotated

import typer
from confluent_kafka import KafkaException

from streamer import logs
from streamer.cli.common import ConfigOption, fail, read_settings
from streamer.cli.output import say
from streamer.gateway.server import serve
from streamer.settings import SettingsError


def gateway(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 8080,
    forwarded_allow_ips: Annotated[
        str,
        typer.Option(
            metavar="ADDRESSES",
            help="Addresses and networks of the proxies whose X-Forwarded-For counts, separated "
            "by commas; * for all.",
        ),
    ] = "127.0.0.1",
    config: ConfigOption = None,
) -> None:
    """Take Resend's webhooks and unsubscriptions until SIGTERM or SIGINT.

    The only part that faces the internet: run it behind a proxy that does TLS, as many of it as
    you like. It writes to the topic of events, and needs neither Redis nor an API key.
    """
    settings = read_settings(config)
    logs.configure(settings.log, "gateway")
    try:
        has_started = serve(
            settings,
            host,
            port,
            forwarded_allow_ips,
            lambda url: say(f"Gateway listening on {url}"),
        )
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)
    except OSError as error:
        fail(f"streamer gateway: cannot listen on {host}:{port}: {error.strerror}")
    except KafkaException as error:
        fail(error.args[0].str())
    if not has_started:
        raise typer.Exit(1)
