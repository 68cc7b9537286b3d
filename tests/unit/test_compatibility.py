"""Compatibility of schemas: what breaks a promise and what does not; nothing slips through."""

import copy
from typing import cast

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from tests.kit.properties import examples
from tools import schemas
from tools.compatibility import INPUT, OUTPUT, ROLE, Schema, breaches
from tools.validation import fits

OLD: Schema = {
    "$id": "urn:x:thing:1",
    "$defs": {"Word": {"enum": ["a", "b"], "type": "string"}},
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^a+$"},
        "word": {"$ref": "#/$defs/Word"},
        "count": {"type": "integer", "minimum": 0, "maximum": 9},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "inner": {
            "type": "object",
            "properties": {"deep": {"type": "string"}},
            "required": ["deep"],
        },
        "list": {"type": "array", "items": {"type": "string"}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    },
    "required": ["id", "word"],
}


def changed(path: str, value: JsonValue) -> Schema:
    """The schema with the value at the path; None takes away what is there."""
    schema = copy.deepcopy(OLD)
    *way, last = path.split("/")
    node = schema
    for step in way:
        node = cast(Schema, node[step])
    if value is None:
        del node[last]
    else:
        node[last] = value
    return schema


def of_role(schema: Schema, role: str) -> Schema:
    return {**schema, ROLE: role}


EITHER = [
    ("properties/count", None, ".count: removed"),
    ("properties/inner/properties/deep", None, ".inner.deep: removed"),
    ("required", ["id", "word", "count"], ".count: now required"),
    ("properties/id", {"type": "integer"}, ".id: type changed from string to integer"),
    ("properties/id/pattern", "^b+$", '.id: pattern changed from "^a+$" to "^b+$"'),
    ("properties/list/items/type", "boolean", ".list[]: type changed from string to boolean"),
    (
        "properties/map/additionalProperties/type",
        "string",
        ".map.*: type changed from integer to string",
    ),
    ("properties/maybe/default", "x", '.maybe: default changed from null to "x"'),
    ("properties/list/uniqueItems", True, ".list: uniqueItems changed from none to true"),
    ("$id", "urn:x:other:2", "$id changed from urn:x:thing:1 to urn:x:other:2"),
    ("$id", "urn:x:thing:0", "$id changed from urn:x:thing:1 to urn:x:thing:0"),
]
NARROWER = [
    ("$defs/Word/enum", ["a"], '.word: "b" now rejected'),
    ("properties/count/maximum", 8, ".count: maximum changed from 9 to 8"),
    ("properties/count/minimum", 1, ".count: minimum changed from 0 to 1"),
    ("properties/list/maxItems", 5, ".list: maxItems changed from none to 5"),
    ("properties/maybe/anyOf", [{"type": "string"}], ".maybe: null is now rejected"),
    (
        "properties/map/properties",
        {"x": {"type": "string"}},
        ".map.x: type changed from integer to string",
    ),
    ("additionalProperties", False, ".*: any value is now rejected"),
]
WIDER = [
    ("$defs/Word/enum", ["a", "b", "c"], '.word: "c" new'),
    ("$defs/Word/enum", None, ".word: allowed values changed"),
    ("properties/id/pattern", None, '.id: pattern changed from "^a+$" to none'),
    ("properties/count/maximum", 10, ".count: maximum changed from 9 to 10"),
    ("properties/count/type", "number", ".count: type changed from integer to number"),
    ("properties/inner/required", [], ".inner.deep: no longer required"),
    (
        "properties/maybe/anyOf",
        [{"type": "string"}, {"type": "null"}, {"type": "boolean"}],
        ".maybe: boolean is now possible",
    ),
]
HARMLESS = [
    ("properties/new", {"type": "string"}),
    ("properties/inner/properties/new", {"$ref": "#/$defs/Word"}),
    ("description", "other words"),
    ("properties/id/title", "Id"),
    ("$defs/Unused", {"type": "string"}),
    ("properties/word", {"enum": ["b", "a"], "type": "string"}),
    ("properties/maybe/anyOf", [{"type": "null"}, {"type": "string"}]),
    ("$id", "urn:x:thing:2"),
]


@pytest.mark.parametrize("role", [INPUT, OUTPUT])
@pytest.mark.parametrize(("path", "value", "breach"), EITHER)
def test_changes_forbidden_in_any_role(path: str, value: JsonValue, breach: str, role: str) -> None:
    found = breaches(of_role(OLD, role), of_role(changed(path, value), role))
    assert found == [breach]
    assert breaches(OLD, changed(path, value)) == [breach]


@pytest.mark.parametrize(("path", "value", "breach"), NARROWER)
def test_an_input_cannot_accept_less(path: str, value: JsonValue, breach: str) -> None:
    new = changed(path, value)
    assert breaches(of_role(OLD, INPUT), of_role(new, INPUT)) == [breach]
    if "properties/map" not in path:
        assert breaches(of_role(OLD, OUTPUT), of_role(new, OUTPUT)) == []
    assert breach in breaches(OLD, new)


@pytest.mark.parametrize(("path", "value", "breach"), WIDER)
def test_an_output_cannot_allow_more(path: str, value: JsonValue, breach: str) -> None:
    new = changed(path, value)
    assert breaches(of_role(OLD, OUTPUT), of_role(new, OUTPUT)) == [breach]
    assert breaches(of_role(OLD, INPUT), of_role(new, INPUT)) == []
    assert breach in breaches(OLD, new)


@pytest.mark.parametrize(("path", "value"), HARMLESS)
def test_changes_allowed_in_any_role(path: str, value: JsonValue) -> None:
    assert breaches(OLD, changed(path, value)) == []


def test_a_role_cannot_change() -> None:
    assert breaches(of_role(OLD, INPUT), of_role(OLD, OUTPUT)) == [
        "role changed from input to output"
    ]


def test_a_new_version_can_change_anything() -> None:
    assert breaches(OLD, {"$id": "urn:x:thing:2", "type": "string"}) == []


def test_recursive_schemas_are_compared() -> None:
    def tree(leaf: str) -> Schema:
        node = {
            "type": "object",
            "properties": {"leaf": {"type": leaf}, "next": {"$ref": "#/$defs/Tree"}},
        }
        return {"$defs": {"Tree": cast(JsonValue, node)}, "$ref": "#/$defs/Tree"}

    assert breaches(tree("string"), tree("string")) == []
    assert breaches(tree("string"), tree("integer")) == [
        ".leaf: type changed from string to integer"
    ]


# Properties

_NAMES = st.sampled_from(["a", "b", "c"])
_SCALARS = st.one_of(
    st.sampled_from(
        [{"type": "null"}, {"type": "boolean"}, {"type": "string"}, {"type": "number"}]
    ),
    st.sets(st.sampled_from(["x", "y", "z"]), min_size=1).map(
        lambda values: {"type": "string", "enum": sorted(values)}
    ),
    st.integers(0, 3).map(lambda bound: {"type": "string", "maxLength": bound}),
    st.integers(0, 3).map(lambda bound: {"type": "integer", "minimum": bound}),
    st.integers(4, 6).map(lambda bound: {"type": "integer", "maximum": bound}),
    st.just(cast(dict[str, JsonValue], {})),
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Schema]) -> Schema:
    properties = draw(st.dictionaries(_NAMES, inner, max_size=3))
    made: Schema = {
        "type": "object",
        "properties": cast(JsonValue, properties),
        "required": [name for name in sorted(properties) if draw(st.booleans())],
    }
    rest = draw(st.sampled_from(["open", "closed", "typed"]))
    if rest != "open":
        made["additionalProperties"] = False if rest == "closed" else draw(inner)
    return made


NODES: st.SearchStrategy[Schema] = st.recursive(
    cast(st.SearchStrategy[Schema], _SCALARS),
    lambda inner: st.one_of(
        objects(inner),
        inner.map(lambda items: {"type": "array", "items": items}),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: {"anyOf": cast(JsonValue, each)}),
    ),
    max_leaves=5,
)


@st.composite
def relatives(draw: st.DrawFn, schema: Schema) -> Schema:
    """A schema that is like the other, but for a change here or there."""
    if draw(st.integers(0, 5)) == 0:
        return draw(NODES)
    new = copy.deepcopy(schema)
    if "anyOf" in new:
        each = [draw(relatives(cast(Schema, node))) for node in cast(list[JsonValue], new["anyOf"])]
        more = draw(st.lists(NODES, max_size=1))
        return {"anyOf": cast(JsonValue, draw(st.permutations(each + more)))}
    if new.get("type") == "array":
        return {"type": "array", "items": draw(relatives(cast(Schema, new["items"])))}
    if new.get("type") == "object":
        return draw(related_objects(new))
    return new


@st.composite
def related_objects(draw: st.DrawFn, new: Schema) -> Schema:
    properties = cast(dict[str, Schema], new["properties"])
    for name in list(properties):
        properties[name] = draw(relatives(properties[name]))
    for name in draw(st.sets(_NAMES, max_size=1)) - properties.keys():
        properties[name] = draw(NODES)
    required = set(cast(list[str], new["required"]))
    if draw(st.integers(0, 3)) == 0:
        required ^= draw(st.sets(st.sampled_from(sorted(properties) or ["a"]), max_size=1))
    new["required"] = [name for name in sorted(properties) if name in required]
    if draw(st.integers(0, 3)) == 0:
        new.pop("additionalProperties", None)
    return new


@st.composite
def values(draw: st.DrawFn, schema: Schema) -> JsonValue:
    """A value that fits, with no field that the schema does not name unless it gives a type."""
    if "anyOf" in schema:
        chosen = draw(st.sampled_from(cast(list[Schema], schema["anyOf"])))
        return draw(values(chosen))
    if "enum" in schema:
        return cast(JsonValue, draw(st.sampled_from(cast(list[str], schema["enum"]))))
    kind = schema.get("type") or draw(st.sampled_from(["null", "boolean", "string", "integer"]))
    if kind == "array":
        return draw(st.lists(values(cast(Schema, schema["items"])), max_size=2))
    if kind == "object":
        properties = cast(dict[str, Schema], schema["properties"])
        value: Schema = {
            name: draw(values(node))
            for name, node in properties.items()
            if name in cast(list[str], schema["required"]) or draw(st.booleans())
        }
        rest = schema.get("additionalProperties", False)
        if isinstance(rest, dict):
            for name in draw(st.sets(_NAMES)) - properties.keys():
                value[name] = draw(values(rest))
        return value
    low, high = cast(int, schema.get("minimum", -3)), cast(int, schema.get("maximum", 9))
    simple: dict[str, st.SearchStrategy[JsonValue]] = {
        "null": st.none(),
        "boolean": st.booleans(),
        "string": st.text("xyz", max_size=cast(int, schema.get("maxLength", 5))),
        "number": st.integers(-3, 9) | st.just(0.5),
        "integer": st.integers(low, high),
    }
    return draw(simple[str(kind)])


@given(NODES)
def test_a_schema_is_compatible_with_itself(schema: Schema) -> None:
    assert breaches(schema, copy.deepcopy(schema)) == []


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_compatible_inputs_accept_old_values(data: st.DataObject) -> None:
    old = data.draw(NODES)
    new = data.draw(relatives(old))
    value = data.draw(values(old))
    assert fits(value, old, old)
    assume(not breaches(of_role(old, INPUT), of_role(new, INPUT)))
    event("changed" if old != new else "the same")
    assert fits(value, new, new)


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_compatible_outputs_fit_the_old_schema(data: st.DataObject) -> None:
    old = data.draw(NODES)
    new = data.draw(relatives(old))
    value = data.draw(values(new))
    assume(not breaches(of_role(old, OUTPUT), of_role(new, OUTPUT)))
    event("changed" if old != new else "the same")
    assert fits(value, old, old)


@pytest.mark.parametrize("contract", schemas.CONTRACTS, ids=lambda contract: contract.name)
def test_our_schemas_can_gain_fields_but_not_lose_them(
    contract: schemas.Contract,
) -> None:
    old = contract.schema()
    for name in cast(Schema, old["properties"]):
        new = copy.deepcopy(old)
        del cast(Schema, new["properties"])[name]
        assert f".{name}: removed" in breaches(old, new)
    new = copy.deepcopy(old)
    cast(Schema, new["properties"])["new"] = {"type": "string"}
    assert breaches(old, new) == []
    cast(list[str], new.setdefault("required", [])).append("new")
    assert breaches(old, new) == [".new: now required"]
