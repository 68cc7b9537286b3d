"""Checks whether a new schema is compatible with an old one. Pure.

Within a version, new optional fields may be added. In addition, an input may accept more than
before, since producers need not change, and an output may become narrower, since consumers need
not change.
"""

import json
from collections.abc import Iterator
from typing import TypeAlias, cast

from pydantic import JsonValue

Schema: TypeAlias = dict[str, JsonValue]

ROLE = "x-streamer-role"
"""The keyword for whether streamer reads (input) or writes (output) the described data."""
INPUT, OUTPUT = "input", "output"

_ANNOTATIONS = ("$schema", "$id", "$defs", "$comment", "title", "description", "examples", ROLE)
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_FORMS = ("pattern", "format")
_COMPARED = (
    *("type", "enum", "const", "properties", "required", "additionalProperties", "items"),
    *_LOWER,
    *_UPPER,
    *_FORMS,
)


def breaches(old: Schema, new: Schema) -> list[str]:
    """List the incompatibilities of the new schema; empty if it has a newer version.

    A schema without a role must follow the rules of both roles.
    """
    if old.get("$id") != new.get("$id"):
        return _compare_versions(str(old.get("$id")), str(new.get("$id")))
    role = new.get(ROLE)
    if old.get(ROLE) != role:
        return [f"role changed from {old.get(ROLE)} to {role}"]
    roles = (INPUT, OUTPUT) if role is None else (role,)
    found = (breach for each in roles for breach in _Comparison(old, new, each == INPUT).compare())
    return list(dict.fromkeys(found))


def _compare_versions(old: str, new: str) -> list[str]:
    (old_name, _, old_version), (new_name, _, new_version) = (
        old.rpartition(":"),
        new.rpartition(":"),
    )
    is_newer = (
        old_version.isdecimal() and new_version.isdecimal() and int(new_version) > int(old_version)
    )
    return [] if old_name == new_name and is_newer else [f"$id changed from {old} to {new}"]


class _Comparison:
    """Compares two schemas: for an input, the new one must accept all that the old one accepts;
    for an output, the old one all that the new one does."""

    def __init__(self, old: Schema, new: Schema, is_input: bool) -> None:
        self._old, self._new = old, new
        self._is_input = is_input
        self._under_way: set[str] = set()

    def compare(self) -> list[str]:
        return self._nodes(self._old, self._new, "")

    def _nodes(self, old: JsonValue, new: JsonValue, where: str) -> list[str]:
        old_kinds = list(_alternatives(old, self._old))
        new_kinds = list(_alternatives(new, self._new))
        pair = json.dumps([old_kinds, new_kinds], sort_keys=True)
        if pair in self._under_way:
            return []  # a recursive schema
        self._under_way.add(pair)
        are_single = len(old_kinds) == len(new_kinds) == 1
        found: list[str] = []
        for kind in old_kinds if self._is_input else new_kinds:
            alike: list[list[str]] = []
            for other in new_kinds if self._is_input else old_kinds:
                before, after = (kind, other) if self._is_input else (other, kind)
                broken = self._kinds(before, after, where)
                if not broken:
                    break
                if are_single or other.get("type") == kind.get("type"):
                    alike.append(broken)
            else:
                verb = "rejected" if self._is_input else "possible"
                name = f"{where or 'root'}: {kind.get('type', 'any value')} is now {verb}"
                found += sorted(alike, key=_count)[0] if alike else [name]
        self._under_way.remove(pair)
        return found

    def _kinds(self, old: Schema, new: Schema, where: str) -> list[str]:
        """Compare two schemas without alternatives."""
        if not self._fits_type(old.get("type"), new.get("type")):
            return [f"{where or 'root'}: type changed from {old.get('type')} to {new.get('type')}"]
        return [
            *self._values(old, new, where),
            *self._limits(old, new, where),
            *self._properties(old, new, where),
            *self._contents(old, new, where),
            *_others(old, new, where),
        ]

    def _fits_type(self, old: JsonValue, new: JsonValue) -> bool:
        inner, outer = (old, new) if self._is_input else (new, old)
        return outer is None or inner == outer or (inner, outer) == ("integer", "number")

    def _values(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        before, after = _enumerated(old), _enumerated(new)
        inner, outer = (before, after) if self._is_input else (after, before)
        if outer is None:
            return
        verb = "now rejected" if self._is_input else "new"
        if inner is None:
            yield f"{where or 'root'}: allowed values changed"
        elif beyond := inner - outer:
            yield f"{where or 'root'}: {', '.join(sorted(beyond))} {verb}"

    def _limits(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        inner, outer = (old, new) if self._is_input else (new, old)
        for keywords, sign in ((_LOWER, 1), (_UPPER, -1)):
            for keyword in keywords:
                bound, held = outer.get(keyword), inner.get(keyword)
                if isinstance(bound, (int, float)) and not (
                    isinstance(held, (int, float)) and held * sign >= bound * sign
                ):
                    yield _changed(where, keyword, old, new)
        for keyword in _FORMS:
            if keyword in outer and outer[keyword] != inner.get(keyword):
                yield _changed(where, keyword, old, new)

    def _properties(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        before, after = _properties(old), _properties(new)
        for name, node in before.items():
            if name not in after:
                yield f"{where}.{name}: removed"
            else:
                yield from self._nodes(node, after[name], f"{where}.{name}")
        if "additionalProperties" in old:  # a map, or closed: new names are not optional fields
            for name in after.keys() - before.keys():
                rest = old["additionalProperties"]
                yield from self._nodes(rest, after[name], f"{where}.{name}")
        was_required, is_required = _required(old), _required(new)
        for name in sorted(is_required - was_required):
            yield f"{where}.{name}: now required"
        if not self._is_input:
            for name in sorted((was_required - is_required) & after.keys()):
                yield f"{where}.{name}: no longer required"

    def _contents(self, old: Schema, new: Schema, where: str) -> Iterator[str]:
        for keyword, mark in (("additionalProperties", ".*"), ("items", "[]")):
            if keyword in old or keyword in new:
                yield from self._nodes(
                    old.get(keyword, True), new.get(keyword, True), f"{where}{mark}"
                )


def _count(found: list[str]) -> int:
    return len(found)


def _alternatives(node: JsonValue, root: Schema) -> Iterator[Schema]:
    """Yield the alternatives of a node, with references, `anyOf` and lists of types resolved."""
    if isinstance(node, bool):
        if node:
            yield {}
        return
    schema = cast(Schema, node)
    own = {k: v for k, v in schema.items() if k not in ("$ref", "anyOf", *_ANNOTATIONS)}
    if "$ref" in schema:
        inner: list[JsonValue] = [_resolve(str(schema["$ref"]), root)]
    elif "anyOf" in schema:
        inner = cast(list[JsonValue], schema["anyOf"])
    elif isinstance(types := own.get("type"), list):
        del own["type"]
        inner = [{"type": each} for each in types]
    else:
        yield own
        return
    for each in inner:
        for alternative in _alternatives(each, root):
            yield alternative | own


def _resolve(reference: str, root: Schema) -> JsonValue:
    node: JsonValue = root
    for step in reference.removeprefix("#/").split("/"):
        node = cast(Schema, node)[step]
    return node


def _enumerated(node: Schema) -> set[str] | None:
    if "const" in node:
        return {json.dumps(node["const"])}
    values = node.get("enum")
    return {json.dumps(value) for value in values} if isinstance(values, list) else None


def _properties(node: Schema) -> Schema:
    return cast(Schema, node.get("properties", {}))


def _required(node: Schema) -> set[str]:
    return set(cast(list[str], node.get("required", [])))


def _others(old: Schema, new: Schema, where: str) -> Iterator[str]:
    """Report changes of unknown keywords, whose effect cannot be judged."""
    for keyword in sorted((old.keys() | new.keys()) - set(_COMPARED)):
        if old.get(keyword) != new.get(keyword):
            yield _changed(where, keyword, old, new)


def _changed(where: str, keyword: str, old: Schema, new: Schema) -> str:
    before, after = (
        json.dumps(node[keyword]) if keyword in node else "none" for node in (old, new)
    )
    return f"{where or 'root'}: {keyword} changed from {before} to {after}"
