"""Email address normalisation: one form for comparing, claiming, suppressing and mailing."""

import re
import unicodedata
from functools import lru_cache

import idna

from streamer.errors import InvalidDataError

MAX_LENGTH = 254
MAX_LOCAL_LENGTH = 64
# NFC composes at most four characters into one, so longer text cannot become a valid address.
# Composing a long run of combining marks is quadratic in its length and can take minutes.
_MAX_GIVEN = 4 * MAX_LENGTH
_MAX_MAILBOX = 998  # the longest line of a mail, RFC 5322, section 2.1.1

# RFC 5322 atext and the dot: no quotes, no comments, no brackets, so no display name either.
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}\Z")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_PLAIN = re.compile(
    rf"[a-z0-9!#$%&'*+/=?^_`{{|}}~.-]{{1,64}}@(?:{_LABEL}\.)+{_LABEL}\Z",
)


class InvalidAddressError(InvalidDataError):
    """The text is not a deliverable address; the message says why."""


def normalise(text: str) -> str:
    """Return the address in its normalised form.

    Strips surrounding blanks, applies NFC, lowercases, and converts the domain to ASCII (IDNA 2008
    after the UTS 46 mapping, non-transitional). Idempotent.

    Raises:
        InvalidAddressError: the local part is missing, not ASCII or longer than 64 characters,
            the domain has no dot or is rejected by IDNA, the address is longer than 254
            characters, or there is a display name.
    """
    given = text.strip()
    if len(given) > _MAX_GIVEN:
        raise InvalidAddressError(f"more than {MAX_LENGTH} characters")
    address = given.lower()
    # Fast path: nearly every address is plain ASCII. A label with hyphens in its third and fourth
    # positions is either Punycode, which must be checked, or reserved.
    if len(address) <= MAX_LENGTH and "--" not in address and _PLAIN.match(address):
        return address
    return _normalise_fully(given)


def sender_domain(sender: str) -> str:
    """Return the domain of a `from` field in lower case, or "" if there is none.

    A field that is longer than a line of a mail may be has none.

    The address is the text in the last angle brackets or, without brackets, the whole text minus
    a trailing comment. This deliberately ignores the RFC 5322 grammar: display names are often
    written without the quotes it requires around a comma, an `@` or a bracket, and parsing by
    that grammar would take part of the name for the address.
    """
    return _known_sender_domain(sender) if len(sender) <= _MAX_MAILBOX else ""


@lru_cache(maxsize=4096)  # asked for each mail of a campaign
def _known_sender_domain(sender: str) -> str:
    text = _inner_address(sender)
    return text.rpartition("@")[2].strip().lower() if "@" in text else ""


def check_mailbox(text: str) -> None:
    """Check that a `from` or `reply_to` contains a deliverable address, with a name or without.

    Raises:
        InvalidAddressError: the address is missing or invalid, or the text is too long.
    """
    if len(text) > _MAX_MAILBOX:
        raise InvalidAddressError(f"more than {_MAX_MAILBOX} characters")
    address = _inner_address(text)
    if not sender_domain(text):
        raise InvalidAddressError("no address found")
    normalise(address)


def _inner_address(text: str) -> str:
    """Return the address of a mailbox, see `sender_domain`."""
    text = text.strip()
    if text.endswith(")"):
        text = text[: text.rfind("(")].rstrip()
    return text[text.rfind("<") + 1 : -1] if text.endswith(">") else text


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
    except UnicodeError as error:  # the base class of idna.IDNAError
        raise InvalidAddressError(f"invalid domain: {error}") from None
    if ascii_domain.endswith("."):
        raise InvalidAddressError("the domain ends with a dot")
    if "." not in ascii_domain:
        raise InvalidAddressError("the domain has no dot")
    return ascii_domain
