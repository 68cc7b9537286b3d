"""Making text safe to show on a terminal: control characters are escaped. Pure.

Names, addresses, answers and file contents come from others. Printed as they are, they could clear
the screen, set the window's title, forge lines, or reverse the order of what is read.
"""

import re

# What JSON leaves as it is in strings: DEL, the C1 controls, and everything else unprintable.
_NOT_ASCII = re.compile(r"[^\x00-\x7e]")
_TAIL, _LONG = 4, 11
"""How many characters of an API key are shown, if it has more than the second number."""


def printable(text: str) -> str:
    """Escape all non-printable characters, including line breaks."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """Escape all non-printable characters except line breaks."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(text: str) -> str:
    """Escape the non-printable characters of a JSON text; the value it encodes stays the same."""
    if text.isascii() and "\x7f" not in text:
        return text
    return _NOT_ASCII.sub(_json_escape, text)


def key_hint(key: str) -> str:
    """Return which API key this is, without giving it away."""
    if not key:
        return "not set"
    return f"ends in {key[-_TAIL:]}" if len(key) > _LONG else "set"


def _json_escape(match: re.Match[str]) -> str:
    char = match.group()
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
