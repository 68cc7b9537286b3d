"""Naming what was probably meant by a misspelt name."""

from collections.abc import Iterable
from difflib import get_close_matches

_MAX_NAMED = 3


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names most like the given one, best first; differing case matters least."""
    by_fold: dict[str, list[str]] = {}
    for each in known:
        by_fold.setdefault(each.casefold(), []).append(each)
    alike = get_close_matches(name.casefold(), by_fold, _MAX_NAMED)
    return [each for fold in alike for each in sorted(by_fold[fold])][:_MAX_NAMED]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?", or nothing if no known name is like the given one."""
    found = nearest(name, known)
    return f"; did you mean {' or '.join(found)}?" if found else ""
