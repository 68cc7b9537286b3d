"""One-click unsubscribe links: a signed token for an organization, a campaign and an address.

RFC 8058 requires that the link identifies the recipient and the list, and is hard to forge. URLs
end up in the logs of proxies and in histories of browsers, so the address is encrypted. A token is
always the same for the same recipient, as a mail may be composed again.

It is `2.CAMPAIGN.RECIPIENT`, both parts in URL-safe base64 without padding. CAMPAIGN is the two
ids, separated by a zero byte. RECIPIENT is the first 16 bytes of the HMAC-SHA256 of the two ids and
the address, separated by zero bytes; then the address, XORed with the SHA-256 of a key and these 16
bytes (after 32 bytes: of the key and twice these 16 bytes, and so on). It is the construction of
SIV (RFC 5297): the nonce is the MAC of what is encrypted. The two keys are the HMAC-SHA256 of
`unsubscribe mac` and of `unsubscribe address` under the secret.

Tokens of version 1, in mails of earlier releases, are 32 bytes of HMAC and the fields in clear.
"""

import hmac
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

from streamer.errors import InvalidDataError

VERSION = "2"
_OLD_VERSION = "1"
_OLD_MAC_BYTES = 32
_MAC_BYTES = 16
_BLOCK = 64
_MIN_SECRET = 16
_CAMPAIGNS = 500  # an event with a message of its own shares little else with others
_SEPARATOR = b"\0"  # cannot occur in the three fields
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_FLIP_INNER, _FLIP_OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


class InvalidTokenError(InvalidDataError):
    """The token is malformed, or its signature is invalid."""


class UnsubscribeClaim(NamedTuple):
    """The contents of a token: organization, campaign and normalised address."""

    organization_id: str
    campaign_id: str
    address: str


class _Keys:
    """What one secret signs and encrypts with.

    HMAC and the cipher are prepared hash states: a copy costs less than half of `hmac.copy()`.
    """

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        key = hmac.digest(secret, b"unsubscribe mac", "sha256").ljust(_BLOCK, b"\0")
        self.inner = sha256(key.translate(_FLIP_INNER))
        self.outer = sha256(key.translate(_FLIP_OUTER))
        self.cipher = sha256(hmac.digest(secret, b"unsubscribe address", "sha256"))


class CampaignLinks:
    """The links of one campaign. Thread-safe.

    Attributes:
        prefix: the link up to the recipient's part.
    """

    def __init__(self, base: str, keys: _Keys, campaign: bytes) -> None:
        self.prefix = f"{base}{VERSION}.{_encode(campaign)}."
        inner = keys.inner.copy()
        inner.update(campaign + _SEPARATOR)
        self._inner, self._outer, self._cipher = inner.copy, keys.outer.copy, keys.cipher.copy

    def sign(self, address: str) -> str:
        """Return the recipient's part of the token."""
        return _encode(self.seal(address.encode()))

    def seal(self, text: bytes) -> bytes:
        """Return the MAC of an address, and the address encrypted."""
        inner = self._inner()
        inner.update(text)
        outer = self._outer()
        outer.update(inner.digest())
        mac = outer.digest()[:_MAC_BYTES]
        return mac + self.crypt(text, mac)

    def crypt(self, text: bytes, mac: bytes) -> bytes:
        """Encrypt an address, or decrypt it."""
        cipher = self._cipher()
        cipher.update(mac)
        stream = cipher.digest()
        length = len(text)
        while len(stream) < length:
            cipher.update(mac)
            stream += cipher.digest()
        mixed = int.from_bytes(text, "big") ^ int.from_bytes(stream[:length], "big")
        return mixed.to_bytes(length, "big")


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
        self._keys = tuple(map(_Keys, secrets))
        self.campaign = lru_cache(_CAMPAIGNS)(self._campaign)

    def _campaign(self, organization_id: str, campaign_id: str) -> CampaignLinks:
        """Return what makes the links of a campaign."""
        campaign = f"{organization_id}\0{campaign_id}".encode()
        return CampaignLinks(self.base, self._keys[0], campaign)

    def url(self, organization_id: str, campaign_id: str, address: str) -> str:
        """Return the link for one recipient."""
        links = self.campaign(organization_id, campaign_id)
        return links.prefix + links.sign(address)

    def sign(self, organization_id: str, campaign_id: str, address: str) -> str:
        """Return the token for one recipient."""
        return self.url(organization_id, campaign_id, address).removeprefix(self.base)

    def verify(self, token: str) -> UnsubscribeClaim:
        """Verify a token and return its contents.

        Raises:
            InvalidTokenError: the token is malformed, or was signed with none of the secrets.
        """
        version, *parts = token.split(".")
        if version == VERSION and len(parts) == 2:
            return self._read(*map(_decode, parts))
        if version == _OLD_VERSION and len(parts) == 1:
            return self._read_old(_decode(parts[0]))
        raise InvalidTokenError("unknown token version")

    def _read(self, campaign: bytes, recipient: bytes) -> UnsubscribeClaim:
        mac, hidden = recipient[:_MAC_BYTES], recipient[_MAC_BYTES:]
        found = None
        for keys in self._keys:
            links = CampaignLinks("", keys, campaign)
            text = links.crypt(hidden, mac)
            if hmac.compare_digest(recipient, links.seal(text)):
                found = text
        if found is None:
            raise InvalidTokenError("invalid token signature")
        return _claim(campaign + _SEPARATOR + found)

    def _read_old(self, raw: bytes) -> UnsubscribeClaim:
        mac, fields = raw[:_OLD_MAC_BYTES], raw[_OLD_MAC_BYTES:]
        signed = [
            hmac.compare_digest(
                mac, hmac.digest(keys.secret, _OLD_VERSION.encode() + fields, "sha256")
            )
            for keys in self._keys
        ]
        if not any(signed):
            raise InvalidTokenError("invalid token signature")
        return _claim(fields)


def _claim(fields: bytes) -> UnsubscribeClaim:
    organization_id, campaign_id, address = fields.split(_SEPARATOR)
    return UnsubscribeClaim(organization_id.decode(), campaign_id.decode(), address.decode())


def _encode(raw: bytes) -> str:
    return b2a_base64(raw, newline=False).translate(_URL_SAFE, b"=").decode()


def _decode(text: str) -> bytes:
    if not text.isascii():
        raise InvalidTokenError("the token is not ASCII")
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except Base64Error:
        raise InvalidTokenError("the token is not base64") from None
    # Base64 can encode the same bytes in several ways; accept only the canonical one.
    if _encode(raw) != text:
        raise InvalidTokenError("the token is not canonical base64")
    return raw
