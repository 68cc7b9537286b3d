"""Proxy and trusted certificates for calls to Resend, taken from the environment.

Supports the variables that the official SDK honours through `requests`: `HTTPS_PROXY`,
`HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case, `REQUESTS_CA_BUNDLE` and
`CURL_CA_BUNDLE`; also OpenSSL's `SSL_CERT_FILE` and `SSL_CERT_DIR`.
"""

import base64
import ipaddress
import os
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url
from urllib3.util.ssl_ import create_urllib3_context

from streamer.settings import SettingsError

_CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """A proxy.

    Attributes:
        url: the proxy's URL without credentials.
        headers: headers sent only to the proxy.
    """

    url: str
    headers: dict[str, str]


def trust() -> ssl.SSLContext:
    """Return an SSL context that trusts the named CA bundle, or the system's by default.

    Raises:
        SettingsError: the bundle cannot be read.
    """
    context = create_urllib3_context()
    name = next((each for each in _CA_BUNDLES if os.environ.get(each)), None)
    if name is None:
        context.load_default_certs()
        return context
    path = Path(os.environ[name]).expanduser()
    try:
        if path.is_dir():
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:  # includes ssl.SSLError
        raise SettingsError(f"{name}: cannot read certificates from {path}: {error}") from None
    return context


def check_url(url: str) -> None:
    """Check that calls to this URL are encrypted, or do not leave this machine.

    Names below `.test` (RFC 2606) never belong to anybody; trials use them in networks of their
    own.

    Raises:
        SettingsError: the URL cannot be used.
    """
    try:
        target = parse_url(url)
    except LocationParseError:
        raise SettingsError("RESEND_API_URL: not a URL") from None
    host = target.host or ""
    is_local = _is_this_machine(host) or host.lower().endswith(".test")
    if target.scheme == "https" or (target.scheme == "http" and is_local):
        return
    raise SettingsError(
        "RESEND_API_URL: expected https://…; http would show the API key and the mails to everyone "
        "on the way, so it is for this machine and for hosts below .test alone"
    )


def proxy_for(url: str) -> ProxyRoute | None:
    """Return the proxy for a URL, or None if none is set or the host bypasses it.

    Loopback addresses always bypass the proxy, whatever `NO_PROXY` says: a proxy on another host
    could not reach them.

    Raises:
        SettingsError: the proxy's URL is invalid.
    """
    target = parse_url(url)
    host = target.host or ""
    proxies = urllib.request.getproxies()
    scheme = target.scheme or "http"
    kind = scheme if scheme in proxies else "all"
    if kind not in proxies or _is_this_machine(host):
        return None
    if urllib.request.proxy_bypass(host if target.port is None else f"{host}:{target.port}"):
        return None
    given = proxies[kind]
    try:
        proxy = parse_url(given if "://" in given else f"http://{given}")
    except LocationParseError:
        proxy = None
    if proxy is None or proxy.scheme not in ("http", "https") or not proxy.host:
        # Do not show the URL: it may contain a password.
        raise SettingsError(
            f"invalid {kind.upper()}_PROXY: expected http://HOST:PORT or https://HOST:PORT"
        )
    headers = {}
    if proxy.auth:
        credentials = base64.b64encode(unquote(proxy.auth).encode()).decode()
        headers["Proxy-Authorization"] = f"Basic {credentials}"
    return ProxyRoute(f"{proxy.scheme}://{proxy.netloc}", headers)


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
