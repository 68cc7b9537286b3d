"""Tells from the bytes of a value, without parsing it, that it is not wanted.

A test is true for some records that are not wanted, and for all that are.
"""

import re
from collections.abc import Callable, Collection, Container

from streamer.model.outcome import same_address

ValueTest = Callable[[bytes], bool]
"""Tells from a record's value whether it may be wanted."""

_BEGIN_OF_OUTCOME = re.compile(
    rb'\{"organization_id":"[^"\\]*","campaign_id":"[^"\\]*","recipient_id":"[^"\\]*",'
    rb'"email":"([a-z0-9.+_-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+)",'
).match
"""How workers write an outcome, with an address that normalisation leaves as it is."""

_PLAIN = re.compile(r"[a-z0-9!#$%&'*+=?^_`{|}~.-]*")


def may_have_id(recipient_id: str) -> ValueTest:
    """Return a test for the id of a recipient, which is ASCII."""
    needle = recipient_id.encode(errors="surrogatepass")

    def test(value: bytes) -> bool:
        # A writer of JSON may escape any character.
        return needle in value or b"\\u" in value

    return test


def may_have_address(address: str) -> ValueTest:
    """Return a test for an address, in whatever spelling.

    Its local part is in the value as it is, but for its case: what is compared is otherwise
    normalised only where there are characters beyond ASCII, or escapes.
    """
    local, _, _ = same_address(address).lower().partition("@")
    if not _PLAIN.fullmatch(local):  # JSON has more than one way to write it
        return lambda _: True
    needle = local.encode()

    def test(value: bytes) -> bool:
        return not value.isascii() or b"\\u" in value or needle in value.lower()

    return test


def may_have_addresses(addresses: Container[str]) -> ValueTest:
    """Return a test of an outcome for any of these addresses, as returned by `same_address`."""

    def test(value: bytes) -> bool:
        begin = _BEGIN_OF_OUTCOME(value)
        return begin is None or begin[1].decode() in addresses

    return test


def may_have_words(words: Collection[str]) -> ValueTest:
    """Return a test for any of these statuses or reasons, as values of their own."""
    needles = [f'"{word}"'.encode() for word in words]

    def test(value: bytes) -> bool:
        return any(needle in value for needle in needles) or b"\\u" in value

    return test


def may_have_offset(offset: int) -> ValueTest:
    """Return a test for an offset, as this project writes it in its values."""
    needle = f'"offset":{offset}'.encode()
    return lambda value: needle in value
