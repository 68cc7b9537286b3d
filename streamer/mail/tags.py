"""Splits a template into its tags and tokens, as minijinja's lexer does."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.errors import InvalidDataError

MAX_TOKENS_IN_ALL = 10_000
MAX_TOKENS = 400

WORDS = frozenset(("and", "or", "not", "in", "is", "if", "else"))
CONSTANTS = frozenset(("true", "false", "none", "True", "False", "None"))
# The position of their `attribute` argument, for which `map` is used instead.
ATTRIBUTE_FILTERS = {"sum": 0, "join": 1}
OPENING, CLOSING = ("(", "[", "{"), (")", "]", "}")

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


@dataclass(slots=True)
class TemplateTag:
    """The content of `{{ }}` or `{% %}`: tokens, their positions in the source, bracket pairs."""

    source: str
    start: int
    end: int
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


def tags(source: str) -> Iterator[TemplateTag]:
    """Tokenize as minijinja's lexer does: both must agree on what is plain text."""
    position = tokens = 0
    while start := _START.search(source, position):
        tokens += 1
        if tokens > MAX_TOKENS_IN_ALL:
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


def _read(source: str, start: int, position: int, is_statement: bool) -> tuple[TemplateTag, int]:
    tag = TemplateTag(source, start, len(source), is_statement, [], [], [], [], {})
    end = _END_OF_STATEMENT if is_statement else _END_OF_OUTPUT
    opened: list[int] = []
    depth = 0  # may be negative, as in minijinja's lexer
    while token := _TOKEN.match(source, position):
        if depth == 0 and (closed := end.match(source, position)):
            tag.end = closed.end()
            return tag, tag.end
        if len(tag.words) == MAX_TOKENS:
            raise _too_long("the expression is too long", source, start)
        kind = token.lastgroup or ""
        word = token[kind]
        if word in OPENING:
            depth += 1
            opened.append(len(tag.words))
        elif word in CLOSING:
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


def opening_of(tag: TemplateTag, position: int) -> int:
    return tag.pairs.get(position, -1)


def after_bracket(tag: TemplateTag, position: int) -> int:
    """Return the matching closing bracket, or the position itself if there is no bracket."""
    if tag.word(position) not in OPENING:
        return position
    return tag.pairs.get(position, len(tag.words) - 1)


def bracket_role(tag: TemplateTag, position: int) -> str:
    """Return what the bracket opens: `call` (or an index), `literal` or `group`."""
    before, kind = tag.word(position - 1), tag.kinds[position - 1] if position else "sign"
    ends_operand = (kind == "name" and before not in WORDS) or kind == "text" or before in CLOSING
    if before == "namespace" and tag.word(position - 2) != ".":
        return "literal"
    if ends_operand and not (position == 1 and tag.is_statement) and tag.words[position] != "{":
        return "call"
    return "group" if tag.words[position] == "(" else "literal"


def attribute_of(tag: TemplateTag, pipe: int) -> int | None:
    """Return the position of the filter's `attribute` argument, or None.

    Raises:
        TemplateRefusedError: the argument is not a constant.
    """
    if tag.word(pipe + 2) != "(":
        return None
    end = after_bracket(tag, pipe + 2)
    depth = number = 0
    for position in range(pipe + 3, end):
        word = tag.words[position]
        depth += (word in OPENING) - (word in CLOSING)
        if depth or word == ",":
            number += not depth
            continue
        named = tag.words[position - 2 : position] == ["attribute", "="]
        placed = (
            number == ATTRIBUTE_FILTERS[tag.words[pipe + 1]]
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


def is_test(tag: TemplateTag, position: int) -> bool:
    """Whether the name is that of a test, as in `is NAME` and `is not NAME`."""
    before = tag.word(position - 1)
    return before == "is" or (before == "not" and tag.word(position - 2) == "is")
