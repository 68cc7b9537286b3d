"""Read-only views of a recipient's variables for templates."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Literal, TypeAlias, cast

from pydantic import JsonValue

from streamer.errors import InvalidDataError

Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | Array | Object | None"
"""An immutable JSON value."""

_LEAST, _MOST = -(2**63), 2**63 - 1


class OutOfRangeError(InvalidDataError):
    """An integer does not fit into 64 bits; the engine would render it as a float."""


class MissingKeyError(LookupError):
    """A template called `get` with a key that the object lacks, and without a default.

    Attributes:
        key: the missing key.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _Nothing(Enum):
    """Sentinel for an absent default, since None is a valid value."""

    GIVEN = "given"


class Array:
    """A JSON array, or the keys, values or items of an object.

    Not a tuple, because the engine copies a tuple on every access. It lacks the methods of a
    sequence, because the engine would not count their work as fuel.
    """

    __slots__ = ("_values",)

    def __init__(self, values: tuple["Value", ...]) -> None:
        self._values = values

    def __getitem__(self, index: int) -> "Value":
        return self._values[index]

    def __iter__(self) -> Iterator["Value"]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(list(self._values))


Sequence.register(Array)  # so that the engine treats it as a sequence


class Object:
    """A JSON object. A template could modify a dict, or insert it into itself."""

    __slots__ = ("_lists", "_values")

    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values
        self._lists: dict[str, Array] = {}  # cached, for access in loops

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __repr__(self) -> str:
        return repr(self._values)

    def get(self, key: str, default: "Value | _Nothing" = _Nothing.GIVEN) -> Value:
        """Return the value of a key, or the default.

        Raises:
            MissingKeyError: there is neither; a mail would show Python's implicit None as "None".
        """
        if key in self._values:
            return self._values[key]
        if default is _Nothing.GIVEN:
            raise MissingKeyError(key)
        return default

    def keys(self) -> Array:
        """Return all keys."""
        return self._list("keys")

    def values(self) -> Array:
        """Return all values."""
        return self._list("values")

    def items(self) -> Array:
        """Return all pairs of key and value."""
        return self._list("items")

    def _list(self, which: Literal["keys", "values", "items"]) -> Array:
        if which not in self._lists:
            self._lists[which] = Array(tuple(getattr(self._values, which)()))
        return self._lists[which]


class RenderVariables:
    """The variables, with no attributes besides their values.

    The engine exposes the methods of a dict as attributes, so an undefined variable named like one
    would resolve to that method.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> object:
        return self._values[name]


def readable(variables: Mapping[str, JsonValue]) -> Mapping[str, Value]:
    """Return the variables with lists as `Array` and objects as `Object`.

    Raises:
        OutOfRangeError: an integer does not fit into 64 bits; the message names its variable.
    """
    for value in variables.values():
        # The most common types; with these alone nothing has to be converted.
        if type(value) is not str and not (type(value) is int and _LEAST <= value <= _MOST):
            return {name: _readable_named(name, value) for name, value in variables.items()}
    return cast(Mapping[str, Value], variables)


def _readable_named(name: str, value: JsonValue) -> Value:
    try:
        return _readable(value)
    except OutOfRangeError as error:
        raise OutOfRangeError(f"{name}: {error}") from None


def _readable(value: JsonValue) -> Value:
    if isinstance(value, dict):
        return Object({key: _readable(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return Array(tuple(map(_readable, value)))
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise OutOfRangeError("the number is too large")
    return value
