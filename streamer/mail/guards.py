"""Rewrites the expressions of a tag so that undefined values raise an error that names them."""

from collections.abc import Iterator
from typing import NamedTuple

from streamer.mail.tags import (
    ATTRIBUTE_FILTERS,
    CLOSING,
    CONSTANTS,
    OPENING,
    WORDS,
    TemplateTag,
    after_bracket,
    attribute_of,
    bracket_role,
    is_test,
    opening_of,
)

_MAX_NAMED = 20

_PASSING = frozenset(("(", ",", "=", "and", "or", "else"))
"""Tokens before an operand that is an argument, or is passed unchanged as one."""
# These treat undefined as an empty string or null: filters for strings, and others.
_LENIENT_TEXT_FILTERS = frozenset(("e", "escape", "indent"))
_LENIENT_FILTERS = frozenset(("length", "count", "tojson", "truncate", "urlencode"))
_FOR_UNDEFINED_FILTERS = frozenset(("default", "d"))
_FOR_UNDEFINED_TESTS = frozenset(("defined", "undefined"))
_FOR_UNDEFINED_ITEMS = frozenset(("select", "reject"))


class Edit(NamedTuple):
    """A range of the source and its replacement.

    Attributes:
        start: where the range starts.
        end: where it ends.
        text: the replacement.
        watched: first and last token of an expression that gets a placeholder, which is appended
            to the text.
        makes_items: the items of that expression get the placeholder, not the expression.
    """

    start: int
    end: int
    text: str
    watched: tuple[int, int] | None = None
    makes_items: bool = False


def edits(tag: TemplateTag) -> Iterator[Edit]:
    if tag.keyword == "filter" or (tag.keyword == "set" and "=" not in tag.words):
        return  # these apply filters to a block
    takes_arguments = [False]  # for each open bracket
    position = 1 if tag.is_statement else 0
    while position < len(tag.words):
        word, end = tag.words[position], position
        if word in OPENING:
            takes_arguments.append(_takes_arguments(tag, position))
        elif word in CLOSING and len(takes_arguments) > 1:
            takes_arguments.pop()
        if word == "|":
            yield from _edits_at_filter(tag, position)
        elif _starts_variable(tag, position):
            end = _path_end(tag, position)
            if _is_compared(tag, position, end) or _is_lenient(tag, end, takes_arguments[-1]):
                path = tag.text(position, end)
                asked = f"({path} if {path} is defined else {path}[0])"
                yield Edit(tag.starts[position], tag.ends[end], asked)
        elif _ends_expression(tag, position) and _is_lenient(tag, end, takes_arguments[-1]):
            first = _operand_start(tag, position)
            # Operators reject undefined values, but would accept a placeholder.
            if tag.word(end + 1) == "|" or tag.word(first - 1) in _PASSING:
                yield Edit(tag.ends[position], tag.ends[position], "", (first, position))
        position = end + 1


def _edits_at_filter(tag: TemplateTag, pipe: int) -> Iterator[Edit]:
    name, place = tag.word(pipe + 1), tag.starts[pipe]
    if name in _LENIENT_TEXT_FILTERS:
        yield Edit(place, place, "|string")
    elif name == "map":
        end = after_bracket(tag, pipe + 2)
        is_looped_over = tag.keyword == "for" and tag.word(end + 1) in ("", "if")
        if not (is_looped_over or tag.word(end + 2) in _FOR_UNDEFINED_ITEMS):
            watched = (_operand_start(tag, end), end)
            yield Edit(tag.ends[end], tag.ends[end], "", watched, makes_items=True)
    elif name in ATTRIBUTE_FILTERS and (attribute := attribute_of(tag, pipe)):
        end = after_bracket(tag, pipe + 2)
        mapped = f"|map(attribute={tag.words[attribute]})"
        yield Edit(place, place, mapped, (_operand_start(tag, end), end), makes_items=True)
        yield Edit(tag.starts[attribute], tag.ends[attribute], "none")


def _takes_arguments(tag: TemplateTag, opening: int) -> bool:
    """Is this the bracket of a call whose arguments must be defined?"""
    if tag.words[opening] != "(" or bracket_role(tag, opening) != "call":
        return False
    return not (tag.word(opening - 2) == "|" and tag.word(opening - 1) in _FOR_UNDEFINED_FILTERS)


def _is_lenient(tag: TemplateTag, end: int, in_arguments: bool) -> bool:
    """Does what follows the operand ending here accept undefined values?"""
    following = tag.word(end + 1)
    if following == "|":
        return tag.word(end + 2) in _LENIENT_FILTERS
    if following == "is":
        test = tag.word(end + 3) if tag.word(end + 2) == "not" else tag.word(end + 2)
        return test not in _FOR_UNDEFINED_TESTS
    if tag.keyword == "autoescape" and not following:
        return True
    return in_arguments and following in (",", ")")


def _is_compared(tag: TemplateTag, position: int, end: int) -> bool:
    """Is the variable an argument of a test, without brackets?"""
    return is_test(tag, position - 1) and tag.word(end + 1) not in ("(", "[")


def _starts_variable(tag: TemplateTag, position: int) -> bool:
    return (
        tag.kinds[position] == "name"
        and tag.word(position - 1) not in (".", "|")
        and tag.words[position] not in WORDS | CONSTANTS
        and not is_test(tag, position)
    )


def _ends_expression(tag: TemplateTag, position: int) -> bool:
    """Does an operand end here that is neither variable nor constant?"""
    if tag.words[position] in CLOSING:
        opening = opening_of(tag, position)
        return opening >= 0 and bracket_role(tag, opening) != "literal"
    return tag.word(position - 1) in (".", "|") and tag.word(position + 1) != "("


def _operand_start(tag: TemplateTag, end: int) -> int:
    """Return where the operand ending here starts, or a part long enough to recognise it."""
    position = end
    for _ in range(_MAX_NAMED):
        if tag.words[position] in CLOSING:
            opening = opening_of(tag, position)
            if bracket_role(tag, opening) != "call":
                return opening
            position = opening - 1
        elif tag.word(position - 1) in (".", "|", "is"):
            position -= 2
        elif is_test(tag, position):
            position -= 3
        else:
            break
    return position


def _path_end(tag: TemplateTag, position: int) -> int:
    """Return where a variable ends, including attributes and single-token indexes."""
    while True:
        if tag.word(position + 1) == "." and tag.word(position + 2):
            position += 2
        elif tag.word(position + 1) == "[" and tag.word(position + 3) == "]":
            position += 3
        else:
            return position
