"""Tells from the bytes of a record, without parsing it, that it is not of a recipient."""

import re
from collections.abc import Callable, Collection

from streamer.model.outcome import same_address

_PLAIN = re.compile(r"[a-z0-9!#$%&'*+=?^_`{|}~.-]*")
MayConcern = Callable[[bytes], bool]
"""Whether a JSON value may contain the text; true for some that do not."""


def may_have_id(recipient_id: str) -> MayConcern:
    """Return a test for the id of a recipient, which is ASCII."""
    needle = recipient_id.encode(errors="surrogatepass")

    def test(value: bytes) -> bool:
        # A writer of JSON may escape any character.
        return needle in value or b"\\u" in value

    return test


def may_have_address(address: str) -> MayConcern:
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


def may_have_words(words: Collection[str]) -> MayConcern:
    """Return a test for any of these statuses or reasons, as values of their own."""
    needles = [f'"{word}"'.encode() for word in words]

    def test(value: bytes) -> bool:
        return any(needle in value for needle in needles) or b"\\u" in value

    return test
