"""Which filters, tests and functions a template uses."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from streamer.mail.tags import WORDS, TemplateTag, is_test, tags


class UseKind(StrEnum):
    """What a template takes from the language by its name."""

    FILTER = "filter"
    TEST = "test"
    FUNCTION = "function"


class UsedName(NamedTuple):
    """A filter, test or function that a template uses."""

    kind: UseKind
    name: str
    line: int


def uses(source: str) -> list[UsedName]:
    """Return the filters, tests and functions of a template that can be compiled, each once."""
    found: dict[tuple[UseKind, str], UsedName] = {}
    for tag in tags(source):
        line = source.count("\n", 0, tag.start) + 1
        for kind, name in _used(tag):
            found.setdefault((kind, name), UsedName(kind, name, line))
    return list(found.values())


def _used(tag: TemplateTag) -> Iterator[tuple[UseKind, str]]:
    for position, (kind, word) in enumerate(zip(tag.kinds, tag.words, strict=True)):
        before, after = tag.word(position - 1), tag.word(position + 1)
        is_block_filter = tag.keyword == "filter" and position == 1
        if kind == "text" and tag.words[position - 2 : position] == ["map", "("]:
            yield UseKind.FILTER, word[1:-1]
        elif kind != "name" or (position == 0 and tag.is_statement):
            continue
        elif before == "|" or is_block_filter:
            yield UseKind.FILTER, word
        elif is_test(tag, position) and word != "not":
            yield UseKind.TEST, word
        elif before != "." and after == "(" and word not in WORDS:
            yield UseKind.FUNCTION, word
