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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from streamer.mail.guards import edits
from streamer.mail.restrictions import BINDING, check
from streamer.mail.tags import TemplateRefusedError, TemplateTag, tags

ABSENT = "streamer__absent"
"""The name, in the text of a `Narrowed`, of the sequence of placeholders for undefined
expressions. The first placeholder equals every other one and represents no expression."""

_MAX_ELIFS = 200
_MAX_BOUND = 100


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
    for tag in list(tags(source)):  # a list, so that length errors come first
        tokens += 1 + len(tag.words)
        line += source.count("\n", counted, tag.start)
        counted = tag.start
        if tag.kinds == ["name"] and not tag.is_statement:  # the most common tag, always valid
            names.add(tag.words[0])
            continue
        try:
            check(tag)
            if tag.is_statement:
                elifs += tag.keyword == "elif"
                bound += tag.keyword in BINDING
                if elifs > _MAX_ELIFS or bound > _MAX_BOUND:
                    raise TemplateRefusedError(f"too many {tag.keyword}")
        except TemplateRefusedError as error:
            raise TemplateRefusedError(f"{error} (line {line})") from None
        names.update(_variables(tag))
        for edit in sorted(edits(tag), key=lambda edit: edit.start):
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


def _variables(tag: TemplateTag) -> Iterator[str]:
    after_keyword = 1 if tag.is_statement else 0
    for position, (kind, word) in enumerate(zip(tag.kinds, tag.words, strict=True)):
        if (
            kind == "name"
            and position >= after_keyword
            and tag.word(position - 1) not in (".", "|")
        ):
            yield word
