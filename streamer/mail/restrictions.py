"""Rejects tags that could crash a worker or exceed its memory."""

from dataclasses import dataclass

from streamer.mail.tags import (
    ATTRIBUTE_FILTERS,
    CLOSING,
    CONSTANTS,
    OPENING,
    TemplateRefusedError,
    TemplateTag,
    after_bracket,
    attribute_of,
    bracket_role,
    opening_of,
)

_MAX_PLUSES = 16

_STATEMENTS = frozenset(
    (
        *("if", "elif", "else", "endif", "for", "endfor", "break", "continue", "set", "endset"),
        *("with", "endwith", "filter", "endfilter", "autoescape", "endautoescape", "do"),
    )
)
BINDING = ("set", "with")
_NUMERIC_FILTERS = frozenset(("int", "float", "length", "count", "abs", "round"))
# These never produce a list; `+` and `*` can.
_SCALAR_OPERATORS = frozenset(
    (*("~", "-", "/", "//", "%", "**", "==", "!=", "<", ">", "<=", ">="), *("in", "is", "not"))
)


def check(tag: TemplateTag) -> None:
    """Check one tag.

    Raises:
        TemplateRefusedError: it uses something that is not allowed.
    """
    if tag.is_statement:
        _check_statement(tag)
    _check_size(tag)
    _check_brackets(tag)
    _check_operators(tag)
    _check_calls(tag)


def _check_size(tag: TemplateTag) -> None:
    if tag.words.count("+") > _MAX_PLUSES:
        raise TemplateRefusedError("the expression is too long")


def _check_statement(tag: TemplateTag) -> None:
    if tag.keyword not in _STATEMENTS:
        raise TemplateRefusedError(f"{{% {tag.keyword} %}} is not allowed")
    if tag.keyword == "for" and tag.words[-1] == "recursive":
        raise TemplateRefusedError("recursive loops are not allowed")


def _check_brackets(tag: TemplateTag) -> None:
    """Allow only constants in lists, tuples and objects."""
    opened: list[_Bracket] = [_Bracket("")]
    for position, (kind, word) in enumerate(zip(tag.kinds, tag.words, strict=True)):
        inner = opened[-1]
        if word in OPENING:
            opened.append(_Bracket(bracket_role(tag, position)))
        elif word in CLOSING and len(opened) > 1:
            opened.pop()
            opened[-1].has_names |= inner.has_names
            is_made = inner.role == "literal" or (inner.role == "group" and inner.has_comma)
            if is_made and inner.has_names:
                raise TemplateRefusedError(
                    "a list, tuple, object or namespace may only contain constants"
                )
        elif kind == "name" and word not in CONSTANTS and tag.word(position + 1) != "=":
            inner.has_names = True
            inner.has_comma &= not (len(opened) == 1 and word == "in")
        elif word == ",":
            inner.has_comma = True
    binds_tuple = tag.keyword in ("set", "for") and opened[0].has_comma
    if binds_tuple:
        raise TemplateRefusedError("set and for accept one value only")


@dataclass(slots=True)
class _Bracket:
    role: str
    has_names: bool = False
    has_comma: bool = False


def _check_operators(tag: TemplateTag) -> None:
    for position, word in enumerate(tag.words):
        if tag.kinds[position] != "sign" or word not in ("*", "+"):
            continue
        end = _operand_end(tag, position + 1)
        if word == "*" and (_is_text(tag, position - 1) or _is_text(tag, end)):
            continue
        left = _is_scalar(tag, position - 1, texts=word == "+")
        right = _is_scalar(tag, end, texts=word == "+")
        if word == "*" and not (left and right):
            raise TemplateRefusedError("* needs numbers on both sides, as in x|float * y|float")
        if word == "+" and tag.keyword in BINDING and not (left or right):
            raise TemplateRefusedError(f"+ in {tag.keyword} needs a number, as in x|float + y")
    if tag.keyword == "set" and "=" in tag.words:
        value = tag.words.index("=") + 1
        if "." in tag.words[:value] and not _makes_scalar(tag, value):
            raise TemplateRefusedError(
                "set on an attribute needs a number or a string, as in x|float or x ~ ''"
            )


def _makes_scalar(tag: TemplateTag, start: int) -> bool:
    """Does the expression starting here never produce a list, whatever the variables?"""
    depth, is_scalar = (
        0,
        _operand_end(tag, start) == len(tag.words) - 1
        and _is_scalar(tag, len(tag.words) - 1, texts=True),
    )
    for position in range(start, len(tag.words)):
        word = tag.words[position]
        depth += (word in OPENING) - (word in CLOSING)
        if depth == 0 and word in ("if", "and", "or"):
            return False
        if depth == 0 and word in ("+", "*"):
            # _check_operators has ensured that one side is a number or string.
            is_scalar = True
        is_scalar |= depth == 0 and word in _SCALAR_OPERATORS
    return is_scalar


def _is_text(tag: TemplateTag, end: int) -> bool:
    return 0 <= end < len(tag.kinds) and tag.kinds[end] == "text"


def _is_scalar(tag: TemplateTag, end: int, *, texts: bool) -> bool:
    """Is the operand ending here never a list, whatever the variables?"""
    if end < 0:
        return False
    if tag.kinds[end] in (("number", "text") if texts else ("number",)):
        return tag.word(end - 1) != "."
    if tag.words[end] in CONSTANTS:
        return tag.word(end - 1) != "."
    if tag.words[end] == ")":
        end = opening_of(tag, end) - 1
    is_filter = tag.word(end - 1) == "|" and tag.word(end) in _NUMERIC_FILTERS
    return is_filter or tag.words[max(end - 2, 0) : end] == ["loop", "."]


def _operand_end(tag: TemplateTag, position: int) -> int:
    """Return where the operand starting here ends, including attributes, calls and filters."""
    while tag.word(position) in ("-", "+"):
        position += 1
    position = after_bracket(tag, position)
    while position + 1 < len(tag.words):
        following = tag.words[position + 1]
        if following in (".", "|"):
            position += 2
        elif following in ("(", "["):
            position = after_bracket(tag, position + 1)
        else:
            break
    return min(position, len(tag.words) - 1)


def _check_calls(tag: TemplateTag) -> None:
    for position, word in enumerate(tag.words):
        before, after = tag.word(position - 1), tag.words[position + 1 :]
        if word == "namespace" and before != "." and after[:1] != ["("]:
            raise TemplateRefusedError("namespace can only be called")
        if before == "." and word == "format" and after[:1] == ["("]:
            raise TemplateRefusedError('use the filter "%s"|format(x) instead of .format()')
        if before == "|" and word == "tojson" and after[:1] == ["("] and after[1:2] != [")"]:
            raise TemplateRefusedError("tojson accepts no arguments")
        if before == "|" and word in ATTRIBUTE_FILTERS:
            attribute_of(tag, position - 1)
        if before == "|" and word == "map" and not _is_plain_map(tag, position + 1):
            raise TemplateRefusedError(
                "map accepts one argument: attribute='name' or the name of a filter"
            )


def _is_plain_map(tag: TemplateTag, position: int) -> bool:
    words, kinds = tag.words[position : position + 5], tag.kinds[position : position + 5]
    if words[:3] == ["(", "attribute", "="]:
        return kinds[3:4] == ["text"] and words[4:] == [")"]
    return words[:1] == ["("] and kinds[1:2] == ["text"] and words[2:3] == [")"]
