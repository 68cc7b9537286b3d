"""Validates values against the subset of JSON Schema used by the project's schemas. Pure."""

import re
from collections.abc import Callable
from typing import cast

from pydantic import JsonValue

from tools.compatibility import Schema

_TYPES: dict[str, Callable[[JsonValue], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "minLength": lambda value, bound: value >= bound,
    "maxLength": lambda value, bound: value <= bound,
}
_KNOWN = {
    *("$schema", "$id", "$defs", "title", "description", "x-streamer-role", "default", "format"),
    *("$ref", "anyOf", "type", "enum", "pattern", "properties", "required"),
    *("additionalProperties", "items", *_BOUNDS),
}


def fits(value: JsonValue, schema: JsonValue, root: Schema) -> bool:
    """Whether the value is valid, resolving the schema's references in `root`.

    Raises:
        AssertionError: the schema uses an unsupported keyword.
    """
    if isinstance(schema, bool):
        return schema
    node = cast(Schema, schema)
    assert node.keys() <= _KNOWN, node.keys() - _KNOWN
    if "$ref" in node:
        name = str(node["$ref"]).removeprefix("#/$defs/")
        if not fits(value, cast(Schema, root["$defs"])[name], root):
            return False
    if "anyOf" in node and not any(
        fits(value, each, root) for each in cast(list[JsonValue], node["anyOf"])
    ):
        return False
    if "type" in node and not _TYPES[str(node["type"])](value):
        return False
    if "enum" in node and value not in cast(list[JsonValue], node["enum"]):
        return False
    if isinstance(value, dict):
        return _object_fits(value, node, root)
    if isinstance(value, list):
        return all(fits(each, node.get("items", True), root) for each in value)
    return _scalar_fits(value, node)


def _object_fits(value: Schema, node: Schema, root: Schema) -> bool:
    properties = cast(Schema, node.get("properties", {}))
    rest = node.get("additionalProperties", True)
    return set(cast(list[str], node.get("required", []))) <= value.keys() and all(
        fits(each, properties.get(name, rest), root) for name, each in value.items()
    )


def _scalar_fits(value: JsonValue, node: Schema) -> bool:
    if isinstance(value, str) and "pattern" in node:
        return re.search(str(node["pattern"]), value) is not None
    measured = len(value) if isinstance(value, str) else value
    kind = "Length" if isinstance(value, str) else "imum"
    if isinstance(measured, bool) or not isinstance(measured, (int, float)):
        return True
    return all(
        holds(measured, cast(float, node[keyword]))
        for keyword, holds in _BOUNDS.items()
        if keyword in node and keyword.endswith(kind)
    )
