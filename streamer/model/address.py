"""The one form in which an email address is compared, claimed, suppressed and mailed."""

import re
import unicodedata
from functools import lru_cache

import idna

from streamer.errors import InvalidDataError

MAX_LENGTH = 254
MAX_LOCAL_LENGTH = 64
# NFC makes one character of four at most. Of a longer text no address can come, and composing a
# long run of combining marks takes minutes, as its time grows with the square of the length.
_MOST_GIVEN = 4 * MAX_LENGTH

# RFC 5322 atext and the dot: no quotes, no comments, no brackets, so no display name either.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}\Z")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLAIN = re.compile(
    rf"[a-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}\Z",
)


class InvalidAddressError(InvalidDataError):
    """The text is no address that a mail can be sent to; the message says why."""


def normalise(text: str) -> str:
    """Return the address in its normalised form.

    Surrounding blanks off, NFC, lower case, the domain in its ASCII form (IDNA 2008 after the
    UTS 46 mapping, non-transitional). Normalising twice changes nothing.

    Raises:
        InvalidAddressError: no ASCII local part of at most 64 characters, no dot in the domain,
            a domain that IDNA refuses, more than 254 characters, or a display name.
    """
    given = text.strip()
    if len(given) > _MOST_GIVEN:
        raise InvalidAddressError(f"more than {MAX_LENGTH} characters")
    address = given.lower()
    # Nearly every address is plain ASCII and needs nothing more. A label with hyphens in its
    # third and fourth place is either Punycode, which must be checked, or reserved.
    if len(address) <= MAX_LENGTH and "--" not in address and _PLAIN.match(address):
        return address
    return _normalise_fully(given)


def sender_domain(sender: str) -> str:
    """The domain of a `from` field, in lower case; empty if it has none.

    What is in the last angle brackets is the address. Without any it is the whole, less a comment
    at its end. Names are written without the quotes that RFC 5322 wants around a comma, an `@` or
    a bracket: whoever reads them by its grammar takes a part of the name for the address.
    """
    text = sender.strip()
    if text.endswith(")"):
        text = text[: text.rfind("(")].rstrip()
    if text.endswith(">"):
        text = text[text.rfind("<") + 1 : -1]
    return text.rpartition("@")[2].strip().lower() if "@" in text else ""


def check_sender(sender: str) -> None:
    """Pass a `from` field with an address whose domain can be one.

    Raises:
        InvalidAddressError: it has none.
    """
    domain = sender_domain(sender)
    if not domain:
        raise InvalidAddressError("no address in it")
    if len(domain) > MAX_LENGTH:
        raise InvalidAddressError(f"more than {MAX_LENGTH} characters")
    _ascii_domain(domain)


def _normalise_fully(given: str) -> str:
    address = unicodedata.normalize("NFC", given)
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
