"""The part of Jinja's language that a mail may use, and what is changed of it.

minijinja bounds the steps and the text of a template, but not how deep an expression nests (its
parser recurses until the process dies) and not the lists that an expression builds: `a + a` forty
times has more elements than any memory, and nothing stops it. What an event carries must not
take a worker down, so what could is refused here, once for each template, before it is compiled:

- statements other than `if`, `for`, `set`, `with`, `filter`, `autoescape`, `do`, `break`,
  `continue`, `raw`: no macros, blocks or other templates, and no `recursive` loops;
- expressions and chains of `elif` of a length that nobody writes;
- ways to make a list larger or to put one into another: names in a list's, a tuple's, an
  object's or a namespace's literal; `*` unless both sides are surely numbers or one is a text
  (`price|float * 2`); in `set` and `with`, `+` unless one side is surely a number or a text; in
  `set a.b`, whatever is not surely a number, a text or a truth value; `map` with more than one
  argument;
- the two ways to ask for blanks without end: `.format(` and an argument of `tojson`.

And some filters make a text of what is undefined, `e` among them: a mail would go out with a gap
in it. What they are applied to is asked first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_TOKENS = 400
_MOST_PLUSES = 16
_MOST_ELIFS = 200
_MOST_BOUND = 100

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
# They make no list of anything; `+` and `*` might.
_SCALAR_OPERATORS = frozenset(
    (*("~", "-", "/", "//", "%", "**", "==", "!=", "<", ">", "<=", ">="), *("in", "is", "not"))
)
# They take what is undefined for an empty text, or for null: those of texts, and the others.
_LENIENT_TEXT_FILTERS = frozenset(("e", "escape", "indent"))
_LENIENT_FILTERS = frozenset(("length", "count", "tojson", "urlencode"))
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


class RefusedError(ValueError):
    """The template uses what a mail may not; the message says what, and on which line."""


def check(source: str) -> None:
    """Pass what a mail may use, and what is no template at all: the compiler says that better.

    Raises:
        RefusedError: it uses something else.
    """
    elifs = bound = 0
    for tag in _tags(source):
        try:
            _check_size(tag)
            if tag.is_statement:
                _check_statement(tag)
                elifs += tag.keyword == "elif"
                bound += tag.keyword in _BINDING
                if elifs > _MOST_ELIFS or bound > _MOST_BOUND:
                    raise RefusedError(f"too many {tag.keyword}")
            _check_brackets(tag)
            _check_operators(tag)
            _check_calls(tag)
        except RefusedError as error:
            line = source.count("\n", 0, tag.start) + 1
            raise RefusedError(f"{error} (line {line})") from None


def strict(source: str) -> str:
    """The template, made so that no filter makes a text of an undefined variable.

    `x|e` becomes `x|string|e`, as `string` takes nothing that is undefined. `a.b|length` becomes
    `(a.b if a.b is defined else a.b[0])|length`: to look into what is undefined is an error, too.
    Both errors name it. Lines stay the same.
    """
    parts: list[str] = []
    copied = 0
    for tag in _tags(source):
        for start, end in _leniently_filtered(tag):
            path = source[start:end]
            asked = f"({path} if {path} is defined else {path}[0])" if path else "|string"
            parts += (source[copied:start], asked)
            copied = end
    return "".join((*parts, source[copied:]))


def _leniently_filtered(tag: "_Tag") -> Iterator[tuple[int, int]]:
    """Where variables start and end that a lenient filter is applied to; of a filter of texts
    where it stands, whatever it is applied to."""
    if tag.keyword == "filter" or (tag.keyword == "set" and "=" not in tag.words):
        return  # they name filters, for what stands in a block
    position = 1 if tag.is_statement else 0
    while position < len(tag.words):
        end = position
        if tag.words[position] == "|" and tag.word(position + 1) in _LENIENT_TEXT_FILTERS:
            yield tag.starts[position], tag.starts[position]
        elif (
            tag.kinds[position] == "name"
            and tag.word(position - 1) not in (".", "|", "is")
            and tag.words[position] not in _WORDS | _CONSTANTS
        ):
            end = _path_end(tag, position)
            if tag.word(end + 1) == "|" and tag.word(end + 2) in _LENIENT_FILTERS:
                yield tag.starts[position], tag.ends[end]
        position = end + 1


def _path_end(tag: "_Tag", position: int) -> int:
    """Where a variable ends: with its attributes, and indexes of one token."""
    while True:
        if tag.word(position + 1) == "." and tag.word(position + 2):
            position += 2
        elif tag.word(position + 1) == "[" and tag.word(position + 3) == "]":
            position += 3
        else:
            return position


@dataclass(slots=True)
class _Tag:
    """What stands between `{{` and `}}`, or between `{%` and `%}`: its tokens, and where in the
    source they start and end."""

    start: int
    is_statement: bool
    kinds: list[str]
    words: list[str]
    starts: list[int]
    ends: list[int]

    @property
    def keyword(self) -> str:
        return self.words[0] if self.is_statement and self.words else ""

    def word(self, position: int) -> str:
        return self.words[position] if 0 <= position < len(self.words) else ""


def _tags(source: str) -> Iterator[_Tag]:
    """Read as minijinja's lexer does: what it takes for text here must be text there."""
    position = 0
    while start := _START.search(source, position):
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
            yield tag


def _read(source: str, start: int, position: int, is_statement: bool) -> tuple[_Tag, int]:
    tag = _Tag(start, is_statement, [], [], [], [])
    end = _END_OF_STATEMENT if is_statement else _END_OF_OUTPUT
    depth = 0
    while token := _TOKEN.match(source, position):
        if depth == 0 and (closed := end.match(source, position)):
            return tag, closed.end()
        kind = token.lastgroup or ""
        word = token[kind]
        depth += (word in _OPENING) - (word in _CLOSING)
        tag.kinds.append(kind)
        tag.words.append(word)
        tag.starts.append(token.start(kind))
        tag.ends.append(token.end())
        position = token.end()
    return tag, len(source)


def _check_size(tag: _Tag) -> None:
    if len(tag.words) > _MOST_TOKENS or tag.words.count("+") > _MOST_PLUSES:
        raise RefusedError("the expression is too long")


def _check_statement(tag: _Tag) -> None:
    if tag.keyword not in _STATEMENTS:
        raise RefusedError(f"a mail's template cannot use {{% {tag.keyword} %}}")
    if tag.keyword == "for" and tag.words[-1] == "recursive":
        raise RefusedError("a mail's template cannot use a recursive loop")


def _check_brackets(tag: _Tag) -> None:
    """No list, tuple or object is made of anything but constants."""
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
                raise RefusedError("a list, tuple, object or namespace is made of constants alone")
        elif kind == "name" and word not in _CONSTANTS and tag.word(position + 1) != "=":
            inner.has_names = True
            inner.has_comma &= not (len(opened) == 1 and word == "in")
        elif word == ",":
            inner.has_comma = True
    binds_tuple = tag.keyword in ("set", "for") and opened[0].has_comma
    if binds_tuple:
        raise RefusedError("set and for take one value")


@dataclass(slots=True)
class _Bracket:
    role: str
    has_names: bool = False
    has_comma: bool = False


def _role(tag: _Tag, position: int) -> str:
    """Is this bracket a call's or an index's, or a literal's or a group's?"""
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
            raise RefusedError("* needs numbers on both sides: write x|float * y|float")
        if word == "+" and tag.keyword in _BINDING and not (left or right):
            raise RefusedError(f"+ in {tag.keyword} needs a number: write x|float + y")
    if tag.keyword == "set" and "=" in tag.words:
        value = tag.words.index("=") + 1
        if "." in tag.words[:value] and not _makes_scalar(tag, value):
            raise RefusedError(
                "set gives an attribute a number or a text: write x|float, or x ~ ''"
            )


def _makes_scalar(tag: _Tag, start: int) -> bool:
    """Is what the expression that begins here makes no list, whatever the variables are?"""
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
            # The operators' own check left only what has a number or a text at one side.
            is_scalar = True
        is_scalar |= depth == 0 and word in _SCALAR_OPERATORS
    return is_scalar


def _is_text(tag: _Tag, end: int) -> bool:
    return 0 <= end < len(tag.kinds) and tag.kinds[end] == "text"


def _is_scalar(tag: _Tag, end: int, *, texts: bool) -> bool:
    """Is the operand that ends here no list, whatever the variables are?"""
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
    depth = 0
    for candidate in range(position, -1, -1):
        word = tag.words[candidate]
        depth += (word in _CLOSING) - (word in _OPENING)
        if depth == 0:
            return candidate
    return -1


def _operand_end(tag: _Tag, position: int) -> int:
    """Where the operand that begins here ends: a value, its attributes, calls and filters."""
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
    """The closing bracket of the one that opens here; the position itself if none does."""
    depth = 0
    for candidate in range(position, len(tag.words)):
        word = tag.words[candidate]
        depth += (word in _OPENING) - (word in _CLOSING)
        if depth <= 0:
            return candidate
    return len(tag.words) - 1


def _check_calls(tag: _Tag) -> None:
    for position, word in enumerate(tag.words):
        before, after = tag.word(position - 1), tag.words[position + 1 :]
        if word == "namespace" and before != "." and after[:1] != ["("]:
            raise RefusedError("namespace is a function and nothing else")
        if before == "." and word == "format" and after[:1] == ["("]:
            raise RefusedError('instead of .format() use the filter: "%s"|format(x)')
        if before == "|" and word == "tojson" and after[:1] == ["("] and after[1:2] != [")"]:
            raise RefusedError("tojson takes no arguments here")
        if before == "|" and word == "map" and not _is_plain_map(tag, position + 1):
            raise RefusedError("map takes one argument: attribute='name', or a filter's name")


def _is_plain_map(tag: _Tag, position: int) -> bool:
    words, kinds = tag.words[position : position + 5], tag.kinds[position : position + 5]
    if words[:3] == ["(", "attribute", "="]:
        return kinds[3:4] == ["text"] and words[4:] == [")"]
    return words[:1] == ["("] and kinds[1:2] == ["text"] and words[2:3] == [")"]
