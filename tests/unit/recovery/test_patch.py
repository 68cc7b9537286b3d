"""Merge patches against RFC 7396."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from streamer.recovery.patch import InvalidPatchError, UnpatchableError, apply, merge, read_patch

# RFC 7396, appendix A: original, patch, result.
EXAMPLES = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
values: st.SearchStrategy[JsonValue] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=8,
)
patches = st.dictionaries(st.text(max_size=2), values, max_size=4)


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_rfc_examples(target: str, patch: str, result: str) -> None:
    assert merge(json.loads(target), json.loads(patch)) == json.loads(result)


@given(values, values)
def test_merging_is_idempotent(target: JsonValue, patch: JsonValue) -> None:
    once = merge(target, patch)
    assert merge(once, patch) == once


@given(values, patches)
def test_unnamed_members_are_kept(target: JsonValue, patch: dict[str, JsonValue]) -> None:
    before = json.dumps(target)
    merged = merge(target, patch)
    assert json.dumps(target) == before
    assert isinstance(merged, dict)
    untouched = target if isinstance(target, dict) else {}
    assert {k: v for k, v in merged.items() if k not in patch} == {
        k: v for k, v in untouched.items() if k not in patch
    }
    assert all((name in merged) == (value is not None) for name, value in patch.items())


@given(values, patches)
def test_patching_bytes_equals_merging(target: JsonValue, patch: dict[str, JsonValue]) -> None:
    assert json.loads(apply(patch, json.dumps(target).encode())) == merge(target, patch)


def test_numbers_are_kept_verbatim() -> None:
    number = b"123456789012345678901234567890"
    assert apply({"a": None}, b'{"n":%s}' % number) == b'{"n":%s}' % number


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"{", b"[" * 100_000, b"1e999", b"NaN"])
def test_invalid_json_cannot_be_patched(value: bytes | None) -> None:
    with pytest.raises(UnpatchableError):
        apply({}, b'{"x":' + value + b"}" if value in (b"1e999", b"NaN") else value)


def test_a_patch_is_read_from_text_or_file(tmp_path: Path) -> None:
    file = tmp_path / "fix.json"
    file.write_text('{"a": 1}')
    assert read_patch(str(file)) == read_patch(' {"a": 1}') == {"a": 1}
    file.write_text("[1]")
    for text in (str(file), "{", "[1]", str(tmp_path / "nowhere")):
        with pytest.raises(InvalidPatchError):
            read_patch(text)
