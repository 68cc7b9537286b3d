"""One-click unsubscribe links: a signed token for an organization, a campaign and an address.

RFC 8058 requires that the link identifies the recipient and the list, and is hard to forge.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from streamer.errors import InvalidDataError

VERSION = b"1"
_MAC_BYTES = 32
_MIN_SECRET = 16
_SEPARATOR = b"\0"  # cannot occur in the three fields


class InvalidTokenError(InvalidDataError):
    """The token is malformed, or its signature is invalid."""


class UnsubscribeClaim(NamedTuple):
    """The contents of a token: organization, campaign and normalised address."""

    organization_id: str
    campaign_id: str
    address: str


class UnsubscribeLinks:
    """Creates and verifies unsubscribe links.

    Args:
        base_url: the token is appended as the last path segment, or directly if it ends with `=`.
        secrets: the first one signs, all of them verify; to rotate, prepend a new one.

    Attributes:
        base: the link without the token.

    Raises:
        ValueError: the URL is not https (http is allowed for localhost and `.test` only), there is
            no secret, or one is shorter than 16 bytes.
    """

    def __init__(self, base_url: str, secrets: Sequence[bytes]) -> None:
        parts = urlsplit(base_url)
        host = parts.hostname or ""
        local = host in ("localhost", "127.0.0.1") or host.endswith(".test")
        if not host or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
            raise ValueError(
                f"base_url must be an https URL, for example https://example.com/u, "
                f"not {base_url!r}"
            )
        if not secrets or any(len(secret) < _MIN_SECRET for secret in secrets):
            raise ValueError(f"each secret must have at least {_MIN_SECRET} bytes")
        self.base = base_url if base_url.endswith(("/", "=")) else f"{base_url}/"
        self._secrets = tuple(secrets)
        self._signer = hmac.new(secrets[0], VERSION, "sha256")

    def url(self, organization_id: str, campaign_id: str, address: str) -> str:
        """Return the link for one recipient."""
        return f"{self.base}{self.sign(organization_id, campaign_id, address)}"

    def sign(self, organization_id: str, campaign_id: str, address: str) -> str:
        """Return the token: the version, then URL-safe base64 of HMAC-SHA256 and fields."""
        fields = f"{organization_id}\0{campaign_id}\0{address}".encode()
        # hmac.digest would release the GIL for each mail.
        signer = self._signer.copy()
        signer.update(fields)
        mac = signer.digest()
        return f"1.{urlsafe_b64encode(mac + fields).rstrip(b'=').decode()}"

    def verify(self, token: str) -> UnsubscribeClaim:
        """Verify a token and return its contents.

        Raises:
            InvalidTokenError: the token is malformed, or was signed with none of the secrets.
        """
        version, _, text = token.partition(".")
        if version != VERSION.decode() or not text.isascii():
            raise InvalidTokenError("unknown token version")
        try:
            raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except Base64Error:
            raise InvalidTokenError("the token is not base64") from None
        mac, fields = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        # Base64 can encode the same bytes in several ways; accept only the canonical one.
        if urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
            raise InvalidTokenError("the token is not canonical base64")
        signed = [
            hmac.compare_digest(mac, hmac.digest(secret, VERSION + fields, "sha256"))
            for secret in self._secrets
        ]
        if not any(signed):
            raise InvalidTokenError("invalid token signature")
        organization_id, campaign_id, address = fields.split(_SEPARATOR)
        return UnsubscribeClaim(organization_id.decode(), campaign_id.decode(), address.decode())
