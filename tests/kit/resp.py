"""Splits streams of the Redis protocol, RESP2 and RESP3, into commands and replies."""

from collections.abc import Iterator
from typing import NamedTuple

_LINE = frozenset(b"+-:_,#(")
_BLOB = frozenset(b"$!=")
_LIST = frozenset(b"*~>")
_PAIRS = frozenset(b"%|")
_ATTRIBUTE, _PUSH = ord("|"), ord(">")


class Command(NamedTuple):
    """One command, raw and split into its words."""

    raw: bytes
    words: list[bytes]


def take_commands(buffer: bytearray) -> Iterator[Command]:
    """Remove and yield complete commands from the front of the buffer, leaving partial ones."""
    while True:
        end = end_of(buffer)
        if end is None:
            return
        raw = bytes(buffer[:end])
        del buffer[:end]
        yield Command(raw, _words(raw))


def take_reply(buffer: bytearray) -> bytes | None:
    """Remove and return a reply from the front of the buffer; None if it is incomplete."""
    end = end_of(buffer)
    if end is None:
        return None
    raw = bytes(buffer[:end])
    del buffer[:end]
    return raw


def is_push(reply: bytes) -> bool:
    """Whether this is a push message, which the server sends without a command."""
    return reply[0] == _PUSH


def end_of(buffer: bytes | bytearray, start: int = 0) -> int | None:
    """Return the index after the value that begins at `start`; None if it is incomplete."""
    line_end = buffer.find(b"\r\n", start)
    if line_end < 0:
        return None
    kind, at = buffer[start], line_end + 2
    if kind in _LINE:
        return at
    count = int(buffer[start + 1 : line_end])
    if kind in _BLOB:
        end = at if count < 0 else at + count + 2
        return end if end <= len(buffer) else None
    if kind in _LIST or kind in _PAIRS:
        # Attributes precede the value that they describe.
        values = max(count, 0) * (2 if kind in _PAIRS else 1) + (kind == _ATTRIBUTE)
        for _ in range(values):
            end_of_value = end_of(buffer, at)
            if end_of_value is None:
                return None
            at = end_of_value
        return at
    raise ValueError(f"this is not Redis' protocol: {bytes(buffer[start : start + 40])!r}")


def _words(raw: bytes) -> list[bytes]:
    words, at = [], raw.index(b"\r\n") + 2
    while at < len(raw):
        line_end = raw.index(b"\r\n", at)
        length = int(raw[at + 1 : line_end])
        words.append(raw[line_end + 2 : line_end + 2 + length])
        at = line_end + 4 + length
    return words
