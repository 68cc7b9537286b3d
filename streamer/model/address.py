"""The one form in which an email address is compared, claimed, suppressed and mailed."""

import re
import unicodedata
from email.utils import parseaddr
from functools import lru_cache

import idna

MAX_LENGTH = 254
MAX_LOCAL_LENGTH = 64

# RFC 5322 atext and the dot: no quotes, no comments, no brackets, so no display name either.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}\Z")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLAIN = re.compile(
    rf"[a-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}\Z",
)


class InvalidAddressError(ValueError):
    """The text is no address that a mail can be sent to; the message says why."""


def normalise(text: str) -> str:
    """Return the address in its normalised form.

    Surrounding blanks off, NFC, lower case, the domain in its ASCII form (IDNA 2008 after the
    UTS 46 mapping, non-transitional). Normalising twice changes nothing.

    Raises:
        InvalidAddressError: no ASCII local part of at most 64 characters, no dot in the domain,
            a domain that IDNA refuses, more than 254 characters, or a display name.
    """
    address = text.strip().lower()
    # Nearly every address is plain ASCII and needs nothing more. A label with hyphens in its
    # third and fourth place is either Punycode, which must be checked, or reserved.
    if len(address) <= MAX_LENGTH and "--" not in address and _PLAIN.match(address):
        return address
    return _normalise_fully(text)


@lru_cache(maxsize=1024)
def sender_domain(sender: str) -> str:
    """The domain of a `from` field, in lower case; empty if it has none."""
    return parseaddr(sender)[1].rpartition("@")[2].lower()


def _normalise_fully(text: str) -> str:
    address = unicodedata.normalize("NFC", text.strip())
    local, at, domain = address.rpartition("@")
    if not at:
        raise InvalidAddressError("no @")
    if not _LOCAL.match(local):
        raise InvalidAddressError(
            "the part before the @ must be 1 to 64 ASCII characters, without blanks, "
            "quotes or brackets"
        )
    address = f"{local.lower()}@{_ascii_domain(domain)}"
    if len(address) > MAX_LENGTH:
        raise InvalidAddressError(f"more than {MAX_LENGTH} characters")
    return address


@lru_cache(maxsize=4096)
def _ascii_domain(domain: str) -> str:
    try:
        ascii_domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except UnicodeError as error:  # idna.IDNAError is one
        raise InvalidAddressError(f"the domain is not valid: {error}") from None
    if ascii_domain.endswith("."):
        raise InvalidAddressError("the domain ends with a dot")
    if "." not in ascii_domain:
        raise InvalidAddressError("the domain has no dot")
    return ascii_domain
