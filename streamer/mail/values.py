"""A recipient's variables as a template may see them: to be read, and nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Literal, TypeAlias

from pydantic import JsonValue

from streamer.errors import InvalidDataError

Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | Array | Object | None"
"""A JSON value that cannot be changed."""

_LEAST, _MOST = -(2**63), 2**63 - 1


class OutOfRangeError(InvalidDataError):
    """A whole number has no place in 64 bits: the engine would write it as a fraction."""


class MissingKeyError(LookupError):
    """A template asks an object for a key that it does not have.

    Attributes:
        key: that one.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class _Nothing(Enum):
    """No default, as None is a value."""

    GIVEN = "given"


class Array:
    """A JSON array, or what an object lists.

    A tuple would do, if the engine did not copy it each time that it looks at it. The methods of
    a sequence are left out: their work would not be counted.
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


Sequence.register(Array)  # by which the engine knows it for one


class Object:
    """A JSON object. A dict would let a template change it, or put it into itself."""

    __slots__ = ("_lists", "_values")

    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values
        self._lists: dict[str, Array] = {}  # made once, however often a loop asks

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
        """The value of a key, or the default.

        Raises:
            MissingKeyError: there is neither. Python's own would be None, and a mail's "None".
        """
        if key in self._values:
            return self._values[key]
        if default is _Nothing.GIVEN:
            raise MissingKeyError(key)
        return default

    def keys(self) -> Array:
        """All keys."""
        return self._list("keys")

    def values(self) -> Array:
        """All values."""
        return self._list("values")

    def items(self) -> Array:
        """All keys with their values."""
        return self._list("items")

    def _list(self, which: Literal["keys", "values", "items"]) -> Array:
        if which not in self._lists:
            self._lists[which] = Array(tuple(getattr(self._values, which)()))
        return self._lists[which]


class Given:
    """The variables, of which nothing can be had but their values.

    To the engine the methods of a dict are attributes of it: a variable that is called like one
    and was not given would be that method.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> object:
        return self._values[name]


def readable(variables: Mapping[str, JsonValue]) -> dict[str, Value]:
    """The variables, lists as `Array` and objects as `Object`.

    Raises:
        OutOfRangeError: a whole number of more than 64 bits; the message names its variable.
    """
    result: dict[str, Value] = {}
    for name, value in variables.items():
        if isinstance(value, str):  # nearly all are
            result[name] = value
            continue
        try:
            result[name] = _readable(value)
        except OutOfRangeError as error:
            raise OutOfRangeError(f"{name}: {error}") from None
    return result


def _readable(value: JsonValue) -> Value:
    if isinstance(value, dict):
        return Object({key: _readable(inner) for key, inner in value.items()})
    if isinstance(value, list):
        return Array(tuple(map(_readable, value)))
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise OutOfRangeError("the number is too large")
    return value
