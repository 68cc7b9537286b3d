"""Where settings come from, and what misspelt names of them mean.

Generic: the settings themselves are in `streamer.settings`.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from streamer.model.nearest import did_you_mean

Names = tuple[str, ...]
"""The parts of a setting's name, as ("kafka", "group_id")."""

_TABLE = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


class TomlFile:
    """A file of settings.

    Args:
        path: the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not TOML in UTF-8; the message has the place.
    """

    def __init__(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        self.path = path
        self.values: dict[str, Any] = tomllib.loads(text)
        self._lines = _lines(text)

    def place(self, names: Names) -> str:
        """Return FILE:LINE of a setting, or of the nearest table around it; FILE if unknown."""
        while names:
            if (line := self._lines.get(names)) is not None:
                return f"{self.path}:{line}"
            names = names[:-1]
        return str(self.path)

    def has(self, names: Names) -> bool:
        """Whether the file gives this setting."""
        found: object = self.values
        for name in names:
            if not isinstance(found, dict) or name not in found:
                return False
            found = found[name]
        return True


def variable(prefix: str, names: Names) -> str:
    """Return the environment variable of a setting."""
    return prefix + "__".join(names).upper()


def faults(model: type[BaseModel], prefix: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with variables: unknown names, and values that are not JSON.

    Args:
        model: the settings, with one section a field.
        prefix: how their variables begin.
        environ: the variables that begin so.
    """
    known = [variable(prefix, names) for names in leaves(model)]
    known += [variable(prefix, (section,)) for section in model.model_fields]
    for name, value in environ.items():
        names = tuple(name.removeprefix(prefix).lower().split("__"))
        kind = _kind(model, names)
        if kind is None:
            yield f"{name}: unknown variable{did_you_mean(name, known)}"
        elif _is_json(kind):
            try:
                json.loads(value)
            except json.JSONDecodeError as error:
                yield f"{name}: invalid JSON: {error}"


def unknown_hint(model: type[BaseModel], names: Names) -> str:
    """Return "; did you mean …?" for an unknown setting, or nothing."""
    for depth in range(len(names)):
        kind: Any = _kind(model, names[:depth])
        is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
        if is_section and names[depth] not in kind.model_fields:
            return did_you_mean(names[depth], kind.model_fields)
    return ""


def leaves(model: type[BaseModel]) -> Iterator[Names]:
    """Yield the names of all settings whose names are fixed."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((name, *rest) for rest in leaves(kind))
        else:
            yield (name,)


def _kind(model: type[BaseModel], names: Names) -> Any | None:
    """Return the annotation of a setting; None if there is no such setting."""
    kind: Any = model
    for name in names:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(name)
            if field is None:
                return None
            kind = field.annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
    return kind


def _is_json(kind: Any) -> bool:
    """Whether a variable of this kind must be JSON: a table or a list, and no text."""
    if get_origin(kind) in (Union, UnionType):
        kinds = [each for each in get_args(kind) if each is not type(None)]
        return all(map(_is_json, kinds))
    is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
    return is_section or get_origin(kind) in (dict, list)


def _lines(text: str) -> dict[Names, int]:
    """Return the line of each key and table. Only for messages: a text of several lines may hold
    what looks like one."""
    found: dict[Names, int] = {}
    table: Names = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            table = _parts(match[1])
            found.setdefault(table, number)
        elif match := _KEY.match(line):
            found.setdefault((*table, *_parts(match[1])), number)
    return found


def _parts(dotted: str) -> Names:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
