"""Naming what was probably meant by a misspelt name."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

_MAX_NAMED = 3
_MAX_BEHIND = 0.05
"""How much less alike than the best one a name may be."""


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names most like the given one, best first; differing case matters least."""
    by_fold: dict[str, list[str]] = {}
    for each in known:
        by_fold.setdefault(each.casefold(), []).append(each)
    folded = name.casefold()
    alike = get_close_matches(folded, by_fold, _MAX_NAMED)
    ratios = {each: SequenceMatcher(None, each, folded).ratio() for each in alike}
    close = [each for each in alike if ratios[each] >= max(ratios.values()) - _MAX_BEHIND]
    return [each for fold in close for each in sorted(by_fold[fold])][:_MAX_NAMED]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?", or nothing if no known name is like the given one."""
    found = nearest(name, known)
    return f"; did you mean {' or '.join(found)}?" if found else ""
