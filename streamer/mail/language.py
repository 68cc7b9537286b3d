"""The subset of Jinja that a mail may use, and how templates are rewritten.

minijinja limits the steps and the text of a template, but neither how deeply an expression nests
(its parser recurses until the process crashes) nor the lists that an expression builds (`a + a`
forty times exceeds any memory). An event must not crash a worker, so everything that could is
rejected here, once per template, before it is compiled:

- statements other than `if`, `for`, `set`, `with`, `filter`, `autoescape`, `do`, `break`,
  `continue` and `raw`: no macros, blocks, other templates or `recursive` loops;
- expressions and `elif` chains of unreasonable length;
- ways to grow or nest lists: names in the literal of a list, tuple, object or namespace; `*`
  unless both sides are certainly numbers or one is a string (`price|float * 2`); in `set` and
  `with`, `+` unless one side is certainly a number or string; in `set a.b`, anything that is not
  certainly a number, string or boolean; `map` with more than one argument;
- the two ways to produce unlimited blanks: `.format(` and an argument of `tojson`.

Even in strict mode, much of the engine treats undefined values as an empty string, null or false,
which would send mails with gaps. Wherever that can happen, the template is rewritten before it is
compiled. Only `default`, `is defined`, `is undefined` and an `if` without `else` accept undefined
values.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from streamer.errors import InvalidDataError

ABSENT = "streamer__absent"
"""The name, in the text of a `Narrowed`, of the sequence of placeholders for undefined
expressions. The first placeholder equals every other one and represents no expression."""

_MAX_TOKENS_IN_ALL = 10_000
_MAX_TOKENS = 400
_MAX_PLUSES = 16
_MAX_ELIFS = 200
_MAX_BOUND = 100
_MAX_NAMED = 20

_STATEMENTS = frozenset(
    (
        *("if", "elif", "else", "endif", "for", "endfor", "break", "continue", "set", "endset"),
        *("with", "endwith", "filter", "endfilter", "autoescape", "endautoescape", "do"),
    )
)
_BINDING = ("set", "with")
_WORDS = frozenset(("and", "or", "not", "in", "is", "if", "else"))
_CONSTANTS = frozenset(("true", "false", "none", "True", "False", "None"))
_NUMERIC_FILTERS = frozenset(("int", "float", "length", "count", "abs", "round"))
_PASSING = frozenset(("(", ",", "=", "and", "or", "else"))
"""Tokens before an operand that is an argument, or is passed unchanged as one."""
# These never produce a list; `+` and `*` can.
_SCALAR_OPERATORS = frozenset(
    (*("~", "-", "/", "//", "%", "**", "==", "!=", "<", ">", "<=", ">="), *("in", "is", "not"))
)
# These treat undefined as an empty string or null: filters for strings, and others.
_LENIENT_TEXT_FILTERS = frozenset(("e", "escape", "indent"))
_LENIENT_FILTERS = frozenset(("length", "count", "tojson", "truncate", "urlencode"))
_FOR_UNDEFINED_FILTERS = frozenset(("default", "d"))
_FOR_UNDEFINED_TESTS = frozenset(("defined", "undefined"))
_FOR_UNDEFINED_ITEMS = frozenset(("select", "reject"))
# The position of their `attribute` argument, for which `map` is used instead.
_ATTRIBUTE_FILTERS = {"sum": 0, "join": 1}
_OPENING, _CLOSING = ("(", "[", "{"), (")", "]", "}")

_START = re.compile(r"\{([{%#])[-+]?")
_BLANK = r"[ \t\n\f\r]*"
_RAW = re.compile(rf"{_BLANK}raw{_BLANK}[-+]?%\}}")
_END_OF_RAW = re.compile(rf"\{{%[-+]?{_BLANK}endraw{_BLANK}[-+]?%\}}")
_END_OF_STATEMENT = re.compile(rf"{_BLANK}[-+]?%\}}")
_END_OF_OUTPUT = re.compile(rf"{_BLANK}[-+]?\}}\}}")
_TOKEN = re.compile(
    r"""[ \t\n\f\r]*
    (?:(?P<text>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>\d\w*(?:\.\d\w*)?)
    |(?P<name>[^\W\d]\w*)
    |(?P<sign>//|\*\*|[=!<>]=|.))""",
    re.VERBOSE | re.DOTALL,
)


class TemplateRefusedError(InvalidDataError):
    """The template uses something that is not allowed; the message says what and where."""


class Watched(NamedTuple):
    """An expression that is replaced by a placeholder if it is undefined."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Narrowed:
    """A checked and rewritten template.

    Attributes:
        text: the text to compile, with the same line numbers as the source.
        names: names of the variables that it may look up.
        watched: expressions with a placeholder; `ABSENT[i + 1]` is that of the i-th.
        tokens: number of tokens plus number of tags.
    """

    text: str
    names: frozenset[str]
    watched: tuple[Watched, ...]
    tokens: int


def narrow(source: str) -> Narrowed:
    """Check a template and rewrite it so that undefined values raise an error that names them.

    Syntax errors pass; the compiler reports them better. The rewriting:

    - `x|e` becomes `x|string|e`, since `string` rejects undefined values;
    - a variable before a lenient filter or a test, or as an argument, is tested first:
      `a.b|length` becomes `(a.b if a.b is defined else a.b[0])|length`, since indexing an
      undefined value is an error;
    - other expressions there get a placeholder: `a|first|length` becomes
      `a|first|default(ABSENT[1])|length`, and the placeholder records its use;
    - so do the items that `map` returns, which are then all compared with the first placeholder.

    Raises:
        TemplateRefusedError: the template uses something that is not allowed.
    """
    elifs = bound = tokens = counted = 0
    line = 1
    names: set[str] = set()
    watched: list[Watched] = []
    parts: list[str] = []
    copied = 0
    for tag in list(_tags(source)):  # a list, so that length errors come first
        tokens += 1 + len(tag.words)
        line += source.count("\n", counted, tag.start)
        counted = tag.start
        if tag.kinds == ["name"] and not tag.is_statement:  # the most common tag, always valid
            names.add(tag.words[0])
            continue
        try:
            if tag.is_statement:
                _check_statement(tag)
                elifs += tag.keyword == "elif"
                bound += tag.keyword in _BINDING
                if elifs > _MAX_ELIFS or bound > _MAX_BOUND:
                    raise TemplateRefusedError(f"too many {tag.keyword}")
            _check_size(tag)
            _check_brackets(tag)
            _check_operators(tag)
            _check_calls(tag)
        except TemplateRefusedError as error:
            raise TemplateRefusedError(f"{error} (line {line})") from None
        names.update(_variables(tag))
        for edit in sorted(_edits(tag), key=lambda edit: edit.start):
            text = edit.text
            if edit.watched is not None:
                first, last = edit.watched
                expression = " ".join(tag.text(first, last).split())
                watched.append(Watched(expression, line))
                stand_in = f"default({ABSENT}[{len(watched)}])"
                if edit.makes_items:
                    stand_in = f"map('default', {ABSENT}[{len(watched)}])|select('ne', {ABSENT}[0])"
                text += f"|{stand_in}"
            parts += (source[copied : edit.start], text)
            copied = edit.end
    text = "".join((*parts, source[copied:])) if parts else source
    return Narrowed(text, frozenset(names), tuple(watched), tokens)


class UseKind(StrEnum):
    """What a template takes from the language by its name."""

    FILTER = "filter"
    TEST = "test"
    FUNCTION = "function"


class Use(NamedTuple):
    """A filter, test or function that a template uses."""

    kind: UseKind
    name: str
    line: int


def uses(source: str) -> list[Use]:
    """Return the filters, tests and functions of a template that `narrow` accepts, each once."""
    found: dict[tuple[UseKind, str], Use] = {}
    for tag in _tags(source):
        line = source.count("\n", 0, tag.start) + 1
        for kind, name in _used(tag):
            found.setdefault((kind, name), Use(kind, name, line))
    return list(found.values())


def _used(tag: "_Tag") -> Iterator[tuple[UseKind, str]]:
    for position, (kind, word) in enumerate(zip(tag.kinds, tag.words, strict=True)):
        before, after = tag.word(position - 1), tag.word(position + 1)
        is_block_filter = tag.keyword == "filter" and position == 1
        if kind == "text" and tag.words[position - 2 : position] == ["map", "("]:
            yield UseKind.FILTER, word[1:-1]
        elif kind != "name" or (position == 0 and tag.is_statement):
            continue
        elif before == "|" or is_block_filter:
            yield UseKind.FILTER, word
        elif _is_test(tag, position) and word != "not":
            yield UseKind.TEST, word
        elif before != "." and after == "(" and word not in _WORDS:
            yield UseKind.FUNCTION, word


def _variables(tag: "_Tag") -> Iterator[str]:
    for position, (kind, word) in enumerate(zip(tag.kinds, tag.words, strict=True)):
        if kind == "name" and tag.word(position - 1) not in (".", "|"):
            yield word


class _Edit(NamedTuple):
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


def _edits(tag: "_Tag") -> Iterator[_Edit]:
    if tag.keyword == "filter" or (tag.keyword == "set" and "=" not in tag.words):
        return  # these apply filters to a block
    takes_arguments = [False]  # for each open bracket
    position = 1 if tag.is_statement else 0
    while position < len(tag.words):
        word, end = tag.words[position], position
        if word in _OPENING:
            takes_arguments.append(_takes_arguments(tag, position))
        elif word in _CLOSING and len(takes_arguments) > 1:
            takes_arguments.pop()
        if word == "|":
            yield from _edits_at_filter(tag, position)
        elif _starts_variable(tag, position):
            end = _path_end(tag, position)
            if _is_compared(tag, position, end) or _is_lenient(tag, end, takes_arguments[-1]):
                path = tag.text(position, end)
                asked = f"({path} if {path} is defined else {path}[0])"
                yield _Edit(tag.starts[position], tag.ends[end], asked)
        elif _ends_expression(tag, position) and _is_lenient(tag, end, takes_arguments[-1]):
            first = _operand_start(tag, position)
            # Operators reject undefined values, but would accept a placeholder.
            if tag.word(end + 1) == "|" or tag.word(first - 1) in _PASSING:
                yield _Edit(tag.ends[position], tag.ends[position], "", (first, position))
        position = end + 1


def _edits_at_filter(tag: "_Tag", pipe: int) -> Iterator[_Edit]:
    name, place = tag.word(pipe + 1), tag.starts[pipe]
    if name in _LENIENT_TEXT_FILTERS:
        yield _Edit(place, place, "|string")
    elif name == "map":
        end = _after_bracket(tag, pipe + 2)
        is_looped_over = tag.keyword == "for" and tag.word(end + 1) in ("", "if")
        if not (is_looped_over or tag.word(end + 2) in _FOR_UNDEFINED_ITEMS):
            watched = (_operand_start(tag, end), end)
            yield _Edit(tag.ends[end], tag.ends[end], "", watched, makes_items=True)
    elif name in _ATTRIBUTE_FILTERS and (attribute := _attribute(tag, pipe)):
        end = _after_bracket(tag, pipe + 2)
        mapped = f"|map(attribute={tag.words[attribute]})"
        yield _Edit(place, place, mapped, (_operand_start(tag, end), end), makes_items=True)
        yield _Edit(tag.starts[attribute], tag.ends[attribute], "none")


def _takes_arguments(tag: "_Tag", opening: int) -> bool:
    """Is this the bracket of a call whose arguments must be defined?"""
    if tag.words[opening] != "(" or _role(tag, opening) != "call":
        return False
    return not (tag.word(opening - 2) == "|" and tag.word(opening - 1) in _FOR_UNDEFINED_FILTERS)


def _is_lenient(tag: "_Tag", end: int, in_arguments: bool) -> bool:
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


def _is_compared(tag: "_Tag", position: int, end: int) -> bool:
    """Is the variable an argument of a test, without brackets?"""
    return _is_test(tag, position - 1) and tag.word(end + 1) not in ("(", "[")


def _is_test(tag: "_Tag", position: int) -> bool:
    before = tag.word(position - 1)
    return before == "is" or (before == "not" and tag.word(position - 2) == "is")


def _starts_variable(tag: "_Tag", position: int) -> bool:
    return (
        tag.kinds[position] == "name"
        and tag.word(position - 1) not in (".", "|")
        and tag.words[position] not in _WORDS | _CONSTANTS
        and not _is_test(tag, position)
    )


def _ends_expression(tag: "_Tag", position: int) -> bool:
    """Does an operand end here that is neither variable nor constant?"""
    if tag.words[position] in _CLOSING:
        opening = _opening(tag, position)
        return opening >= 0 and _role(tag, opening) != "literal"
    return tag.word(position - 1) in (".", "|") and tag.word(position + 1) != "("


def _operand_start(tag: "_Tag", end: int) -> int:
    """Return where the operand ending here starts, or a part long enough to recognise it."""
    position = end
    for _ in range(_MAX_NAMED):
        if tag.words[position] in _CLOSING:
            opening = _opening(tag, position)
            if _role(tag, opening) != "call":
                return opening
            position = opening - 1
        elif tag.word(position - 1) in (".", "|", "is"):
            position -= 2
        elif _is_test(tag, position):
            position -= 3
        else:
            break
    return position


def _path_end(tag: "_Tag", position: int) -> int:
    """Return where a variable ends, including attributes and single-token indexes."""
    while True:
        if tag.word(position + 1) == "." and tag.word(position + 2):
            position += 2
        elif tag.word(position + 1) == "[" and tag.word(position + 3) == "]":
            position += 3
        else:
            return position


def _attribute(tag: "_Tag", pipe: int) -> int | None:
    """Return the position of the filter's `attribute` argument, or None.

    Raises:
        TemplateRefusedError: the argument is not a constant.
    """
    if tag.word(pipe + 2) != "(":
        return None
    end = _after_bracket(tag, pipe + 2)
    depth = number = 0
    for position in range(pipe + 3, end):
        word = tag.words[position]
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth or word == ",":
            number += not depth
            continue
        named = tag.words[position - 2 : position] == ["attribute", "="]
        placed = (
            number == _ATTRIBUTE_FILTERS[tag.words[pipe + 1]]
            and tag.word(position - 1) in ("(", ",")
            and tag.word(position + 1) != "="
        )
        if named or placed:
            if tag.kinds[position] in ("text", "number") and tag.word(position + 1) in (",", ")"):
                return position
            if word not in ("none", "None"):
                raise TemplateRefusedError(
                    f"the attribute of {tag.words[pipe + 1]} must be one string"
                )
    return None


@dataclass(slots=True)
class _Tag:
    """The content of `{{ }}` or `{% %}`: tokens, their positions in the source, bracket pairs."""

    source: str
    start: int
    is_statement: bool
    kinds: list[str]
    words: list[str]
    starts: list[int]
    ends: list[int]
    pairs: dict[int, int]

    @property
    def keyword(self) -> str:
        return self.words[0] if self.is_statement and self.words else ""

    def word(self, position: int) -> str:
        return self.words[position] if 0 <= position < len(self.words) else ""

    def text(self, first: int, last: int) -> str:
        """Return the source from one token to another."""
        return self.source[self.starts[first] : self.ends[last]]


def _tags(source: str) -> Iterator[_Tag]:
    """Tokenize as minijinja's lexer does: both must agree on what is plain text."""
    position = tokens = 0
    while start := _START.search(source, position):
        tokens += 1
        if tokens > _MAX_TOKENS_IN_ALL:
            raise _too_long("the template has too many expressions", source, start.start())
        position = start.end()
        if start[1] == "#":
            end = source.find("#}", position)
            if end < 0:
                return
            position = end + 2
        elif start[1] == "%" and (raw := _RAW.match(source, position)):
            endraw = _END_OF_RAW.search(source, raw.end())
            if endraw is None:
                return
            position = endraw.end()
        else:
            tag, position = _read(source, start.start(), position, start[1] == "%")
            tokens += len(tag.words)
            yield tag


def _read(source: str, start: int, position: int, is_statement: bool) -> tuple[_Tag, int]:
    tag = _Tag(source, start, is_statement, [], [], [], [], {})
    end = _END_OF_STATEMENT if is_statement else _END_OF_OUTPUT
    opened: list[int] = []
    depth = 0  # may be negative, as in minijinja's lexer
    while token := _TOKEN.match(source, position):
        if depth == 0 and (closed := end.match(source, position)):
            return tag, closed.end()
        if len(tag.words) == _MAX_TOKENS:
            raise _too_long("the expression is too long", source, start)
        kind = token.lastgroup or ""
        word = token[kind]
        if word in _OPENING:
            depth += 1
            opened.append(len(tag.words))
        elif word in _CLOSING:
            depth -= 1
            if opened:
                opening = opened.pop()
                tag.pairs[opening], tag.pairs[len(tag.words)] = len(tag.words), opening
        tag.kinds.append(kind)
        tag.words.append(word)
        tag.starts.append(token.start(kind))
        tag.ends.append(token.end())
        position = token.end()
    return tag, len(source)


def _too_long(what: str, source: str, position: int) -> TemplateRefusedError:
    line = source.count("\n", 0, position) + 1
    return TemplateRefusedError(f"{what} (line {line})")


def _check_size(tag: _Tag) -> None:
    if tag.words.count("+") > _MAX_PLUSES:
        raise TemplateRefusedError("the expression is too long")


def _check_statement(tag: _Tag) -> None:
    if tag.keyword not in _STATEMENTS:
        raise TemplateRefusedError(f"{{% {tag.keyword} %}} is not allowed")
    if tag.keyword == "for" and tag.words[-1] == "recursive":
        raise TemplateRefusedError("recursive loops are not allowed")


def _check_brackets(tag: _Tag) -> None:
    """Allow only constants in lists, tuples and objects."""
    opened: list[_Bracket] = [_Bracket("")]
    for position, (kind, word) in enumerate(zip(tag.kinds, tag.words, strict=True)):
        inner = opened[-1]
        if word in _OPENING:
            opened.append(_Bracket(_role(tag, position)))
        elif word in _CLOSING and len(opened) > 1:
            opened.pop()
            opened[-1].has_names |= inner.has_names
            is_made = inner.role == "literal" or (inner.role == "group" and inner.has_comma)
            if is_made and inner.has_names:
                raise TemplateRefusedError(
                    "a list, tuple, object or namespace may only contain constants"
                )
        elif kind == "name" and word not in _CONSTANTS and tag.word(position + 1) != "=":
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


def _role(tag: _Tag, position: int) -> str:
    """Return what the bracket opens: `call` (or an index), `literal` or `group`."""
    before, kind = tag.word(position - 1), tag.kinds[position - 1] if position else "sign"
    ends_operand = (kind == "name" and before not in _WORDS) or kind == "text" or before in _CLOSING
    if before == "namespace" and tag.word(position - 2) != ".":
        return "literal"
    if ends_operand and not (position == 1 and tag.is_statement) and tag.words[position] != "{":
        return "call"
    return "group" if tag.words[position] == "(" else "literal"


def _check_operators(tag: _Tag) -> None:
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
        if word == "+" and tag.keyword in _BINDING and not (left or right):
            raise TemplateRefusedError(f"+ in {tag.keyword} needs a number, as in x|float + y")
    if tag.keyword == "set" and "=" in tag.words:
        value = tag.words.index("=") + 1
        if "." in tag.words[:value] and not _makes_scalar(tag, value):
            raise TemplateRefusedError(
                "set on an attribute needs a number or a string, as in x|float or x ~ ''"
            )


def _makes_scalar(tag: _Tag, start: int) -> bool:
    """Does the expression starting here never produce a list, whatever the variables?"""
    depth, is_scalar = (
        0,
        _operand_end(tag, start) == len(tag.words) - 1
        and _is_scalar(tag, len(tag.words) - 1, texts=True),
    )
    for position in range(start, len(tag.words)):
        word = tag.words[position]
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth == 0 and word in ("if", "and", "or"):
            return False
        if depth == 0 and word in ("+", "*"):
            # _check_operators has ensured that one side is a number or string.
            is_scalar = True
        is_scalar |= depth == 0 and word in _SCALAR_OPERATORS
    return is_scalar


def _is_text(tag: _Tag, end: int) -> bool:
    return 0 <= end < len(tag.kinds) and tag.kinds[end] == "text"


def _is_scalar(tag: _Tag, end: int, *, texts: bool) -> bool:
    """Is the operand ending here never a list, whatever the variables?"""
    if end < 0:
        return False
    if tag.kinds[end] in (("number", "text") if texts else ("number",)):
        return tag.word(end - 1) != "."
    if tag.words[end] in _CONSTANTS:
        return tag.word(end - 1) != "."
    if tag.words[end] == ")":
        end = _opening(tag, end) - 1
    is_filter = tag.word(end - 1) == "|" and tag.word(end) in _NUMERIC_FILTERS
    return is_filter or tag.words[max(end - 2, 0) : end] == ["loop", "."]


def _opening(tag: _Tag, position: int) -> int:
    return tag.pairs.get(position, -1)


def _operand_end(tag: _Tag, position: int) -> int:
    """Return where the operand starting here ends, including attributes, calls and filters."""
    while tag.word(position) in ("-", "+"):
        position += 1
    position = _after_bracket(tag, position)
    while position + 1 < len(tag.words):
        following = tag.words[position + 1]
        if following in (".", "|"):
            position += 2
        elif following in ("(", "["):
            position = _after_bracket(tag, position + 1)
        else:
            break
    return min(position, len(tag.words) - 1)


def _after_bracket(tag: _Tag, position: int) -> int:
    """Return the matching closing bracket, or the position itself if there is no bracket."""
    if tag.word(position) not in _OPENING:
        return position
    return tag.pairs.get(position, len(tag.words) - 1)


def _check_calls(tag: _Tag) -> None:
    for position, word in enumerate(tag.words):
        before, after = tag.word(position - 1), tag.words[position + 1 :]
        if word == "namespace" and before != "." and after[:1] != ["("]:
            raise TemplateRefusedError("namespace can only be called")
        if before == "." and word == "format" and after[:1] == ["("]:
            raise TemplateRefusedError('use the filter "%s"|format(x) instead of .format()')
        if before == "|" and word == "tojson" and after[:1] == ["("] and after[1:2] != [")"]:
            raise TemplateRefusedError("tojson accepts no arguments")
        if before == "|" and word in _ATTRIBUTE_FILTERS:
            _attribute(tag, position - 1)
        if before == "|" and word == "map" and not _is_plain_map(tag, position + 1):
            raise TemplateRefusedError(
                "map accepts one argument: attribute='name' or the name of a filter"
            )


def _is_plain_map(tag: _Tag, position: int) -> bool:
    words, kinds = tag.words[position : position + 5], tag.kinds[position : position + 5]
    if words[:3] == ["(", "attribute", "="]:
        return kinds[3:4] == ["text"] and words[4:] == [")"]
    return words[:1] == ["("] and kinds[1:2] == ["text"] and words[2:3] == [")"]
