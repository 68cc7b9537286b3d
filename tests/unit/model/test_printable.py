"""Untrusted text cannot control the terminal."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.printable import printable, printable_json, printable_lines


@given(st.text())
def test_only_printable_text_is_left(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
    assert all(line.isprintable() for line in printable_lines(text).split("\n"))
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x7E)))
def test_plain_text_is_unchanged(text: str) -> None:
    assert printable(text) == text


def test_escapes_are_shown() -> None:
    assert printable("a\x1b[2J\n\u202eb") == "a\\x1b[2J\\n\\u202eb"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_json_keeps_its_value(value: object) -> None:
    text = printable_json(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
    assert all(line.isprintable() for line in text.split("\n"))
    assert orjson.loads(text) == value
