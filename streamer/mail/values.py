"""A recipient's variables as a template may see them: to be read, and nothing else."""

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from pydantic import JsonValue

Value: TypeAlias = "str | int | float | bool | tuple[Value, ...] | Object | None"
"""A JSON value that cannot be changed."""

_LEAST, _MOST = -(2**63), 2**63 - 1


class OutOfRangeError(ValueError):
    """A whole number has no place in 64 bits: the engine would write it as a fraction."""


class Object:
    """A JSON object. A dict would let a template change it, or put it into itself."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Value]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Value:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __str__(self) -> str:
        return str(self._values)

    __repr__ = __str__

    def get(self, key: str, default: Value = None) -> Value:
        """The value of a key, or the default."""
        return self._values.get(key, default)

    def keys(self) -> tuple[str, ...]:
        """All keys."""
        return tuple(self._values)

    def values(self) -> tuple[Value, ...]:
        """All values."""
        return tuple(self._values.values())

    def items(self) -> tuple[tuple[str, Value], ...]:
        """All keys with their values."""
        return tuple(self._values.items())


def readable(variables: Mapping[str, JsonValue]) -> dict[str, Value]:
    """The variables, lists as tuples and objects as `Object`.

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
        return tuple(map(_readable, value))
    if isinstance(value, int) and not _LEAST <= value <= _MOST:
        raise OutOfRangeError("the number is too large")
    return value
