"""Parsing events, and the reasons of dead letters."""

import json
import tracemalloc
from collections.abc import Callable
from unittest import mock

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.model import event
from streamer.model.event import DeadEventError, RecipientEvent, parse
from tests.kit.properties import examples

_EVENT = {
    "organization_id": "acme",
    "campaign_id": "spring-26",
    "recipient_id": "r-1001",
    "email": "anything",
}
_MESSAGE = {"from": "a@b.test", "subject": "s", "text": "t"}


def _changed(**changes: object) -> bytes:
    return orjson.dumps(_EVENT | changes)


@pytest.mark.parametrize(
    "value",
    [
        _changed(),
        _changed(unknown={"deep": [1]}),
        _changed(email=""),
        _changed(recipient_id="A.z_0:@-"),
        _changed(recipient_id="x" * 128),
        _changed(expires_at="2026-12-01T00:00:00Z"),
        _changed(expires_at="2026-12-01t01:00:00.5+01:00"),
        _changed(expires_at=None, message=None, name=None),
        _changed(message=_MESSAGE),
        _changed(message={"from": "a@b.test", "template": {"id": "t"}}),
    ],
)
def test_valid_events_are_parsed(value: bytes) -> None:
    assert parse(value).organization_id == "acme"


@pytest.mark.parametrize(
    ("field", "faults"),
    [
        ("tags", [1] * 100_000),
        ("tags", [{}] * 100_000),
        ("reply_to", [1] * 100_000),
        ("headers", {str(number): number for number in range(100_000)}),
    ],
)
def test_many_errors_cost_no_extra_memory(field: str, faults: object) -> None:
    value = _changed(message=_MESSAGE | {field: faults})
    tracemalloc.start()
    try:
        with pytest.raises(DeadEventError, match=f"message.{field}"):
            parse(value)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(value)


@pytest.mark.parametrize(
    "value", [None, b"", b"\xff", b"{", b"nothing", b"[" * 10_000, b"{}x", b'{"email":"\\ud800"}']
)
def test_undecodable_values_are_dead_letters(value: bytes | None) -> None:
    with pytest.raises(DeadEventError) as caught:
        parse(value)
    assert caught.value.reason == "undecodable"


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "recipient_id"),
        (_changed(email=None), "email"),
        (_changed(organization_id=""), "organization_id"),
        (_changed(organization_id="a b"), "organization_id"),
        (_changed(campaign_id="a\n"), "campaign_id"),
        (_changed(recipient_id="x" * 129), "recipient_id"),
        (_changed(recipient_id=7), "recipient_id"),
        (_changed(variables=[]), "variables"),
        (_changed(expires_at="2026-12-01T00:00:00"), "expires_at"),
        (_changed(expires_at="2026-12-01"), "expires_at"),
        (_changed(expires_at="1795000000"), "expires_at"),
        (_changed(expires_at=1795000000), "expires_at"),
        (_changed(message={}), "message.from"),
        (_changed(message={"from": "a@b.test", "subject": "s"}), "message"),
        (_changed(message={"from": "a@b.test", "html": "h"}), "message"),
        (_changed(message=_MESSAGE | {"template": {"id": "t"}}), "message"),
    ],
)
def test_invalid_events_are_dead_letters(value: bytes, named: str) -> None:
    with pytest.raises(DeadEventError, match=named) as caught:
        parse(value)
    assert caught.value.reason == "invalid_event"


def test_the_detail_shows_no_personal_data() -> None:
    with pytest.raises(DeadEventError) as caught:
        parse(_changed(organization_id="secret person"))
    assert "secret" not in str(caught.value)


def test_only_the_first_problems_are_named() -> None:
    with pytest.raises(DeadEventError) as caught:
        parse(orjson.dumps(dict.fromkeys((*_EVENT, "name", "variables", "expires_at"), 7)))
    assert str(caught.value).endswith("; 2 more errors")
    assert len(str(caught.value)) < 500


# What msgspec reads must be what pydantic would have read.

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
_STRINGS = st.builds(json.dumps, _TEXTS, ensure_ascii=st.booleans())
_NUMBERS = st.integers().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(repr)
_SCALARS = _STRINGS | _NUMBERS | st.sampled_from(["true", "false", "null", "-0", "1E5", "0.1e-7"])
_ODD_SCALARS = st.sampled_from(
    [
        *(
            r'"\ud800"',
            r'"\udc00\ud83d"',
            r'"\ud83d\ude00"',
            r'"\u0000"',
            r'"\x"',
            '"\n"',
            '"\x7f"',
        ),
        *("1e400", "-1e400", "5e-324", "NaN", "Infinity", "-Infinity", "nan", "0x1", "01", "1."),
        *(".5", "+1", "18446744073709551616", "123456789012345678901234567890", "1" * 5000),
        *("tru", "None", "[1,]", '{"a":}', '{"a":1,}', "9007199254740993.0", '"', '"\udcff"'),
    ]
)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
    pairs = st.lists(st.tuples(_STRINGS, inner), max_size=3)
    return lists | pairs.map(lambda items: f"{{{','.join(f'{k}:{v}' for k, v in items)}}}")


_JSON = st.recursive(_SCALARS, _nested, max_leaves=6)
_DEEP = st.sampled_from([1, 150, 198, 199, 200, 201, 999, 2000, 100_000]).flatmap(
    lambda depth: st.sampled_from(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth])
)
_ODD = _ODD_SCALARS | _DEEP | _JSON | _nested(_ODD_SCALARS)
_TIMES = st.sampled_from(
    [
        *("2026-12-01T00:00:00Z", "2026-12-01t01:00:00.123456789+01:00", "2026-12-01 00:00z"),
        *("0001-01-01T00:00:00+14:00", "2026-12-01T00:00:60Z", "2026-12-01T00:00:00-00:00"),
        *("2026-12-01T00:00:00.5-12:00", "9999-12-31T23:59:59+00:00", "2024-02-29T00:00:00Z"),
        *("2026-12-01", "2026-12-01T00:00:00", "2026-13-01T00:00:00Z", "2026-12-01T24:00:00Z"),
    ]
).map(json.dumps)
_MESSAGES = st.sampled_from(
    [
        *('{"from":"a@b.test","subject":"s","text":"t"}', "null", '{"from":"a@b.test"}'),
        *('{"from":"é@b.test","subject":"s","html":"{{ a }}","tags":[{"name":"a","value":"b"}]}',),
        *('{"from_":"a@b.test","template":{"id":"t","variables":{"a":[[1]]}}}',),
    ]
)
_FIELDS = {
    "organization_id": st.sampled_from(['"acme"', '"a:b"']),
    "campaign_id": st.just('"spring-26"'),
    "recipient_id": st.from_regex(r"[A-Za-z0-9._:@-]{1,9}", fullmatch=True).map(json.dumps)
    | st.sampled_from([f'"{"x" * 128}"', f'"{"x" * 129}"', '"a b"', '"r\\n"', '""']),
    "email": _STRINGS,
    "name": _STRINGS | st.just("null"),
    "variables": st.dictionaries(_TEXTS, _JSON, max_size=3).map(
        lambda given: f"{{{','.join(f'{json.dumps(k)}:{v}' for k, v in given.items())}}}"
    ),
    "expires_at": _TIMES | st.just("null"),
    "message": _MESSAGES,
    "unknown": _JSON,
}
_REQUIRED = ("organization_id", "campaign_id", "recipient_id", "email")
_SELDOM = st.integers(0, 6).map(lambda number: number == 3)


@st.composite
def _events(draw: st.DrawFn) -> bytes:
    """Events of which about half are good, and most others nearly."""
    names = [*_REQUIRED, *draw(st.sets(st.sampled_from([*_FIELDS.keys() - {*_REQUIRED}])))]
    pairs = [(json.dumps(name), draw(_FIELDS[name])) for name in draw(st.permutations(names))]
    if draw(_SELDOM):  # an odd value, of a field or beside them; perhaps the second of a name
        name = json.dumps(draw(st.sampled_from([*_FIELDS])))
        odd = (draw(st.sampled_from([name, name.replace("e", r"\u0065")])), draw(_ODD))
        pairs.insert(draw(st.integers(0, len(pairs))), odd)
    gap = draw(st.sampled_from(["", " ", "\n\t"]))
    text = f"{{{gap}{f'{gap},{gap}'.join(f'{k}{gap}:{v}' for k, v in pairs)}}}{gap}"
    value = text.encode(errors="surrogateescape")  # \udcff becomes a byte that is not UTF-8
    if draw(_SELDOM):
        at, cut = draw(st.integers(0, len(value))), draw(st.integers(0, 2))
        value = value[:at] + draw(st.binary(max_size=2)) + value[at + cut :]
    return value


def _decided(read: Callable[[bytes], RecipientEvent], value: bytes) -> str:
    try:
        return repr(read(value))  # the text tells 1 from 1.0 and from True
    except DeadEventError as error:
        return f"{error.reason}: {error}"


def _with_pydantic(value: bytes) -> RecipientEvent:
    with mock.patch.object(event, "_read", return_value=None):
        return parse(value)


@settings(max_examples=examples(1000))
@given(_events())
def test_the_quick_way_decides_as_pydantic(value: bytes) -> None:
    expected = _decided(_with_pydantic, value)
    for _ in range(2):  # the second time with a known message
        assert _decided(parse, value) == expected


@pytest.mark.parametrize("depth", range(195, 206))
@pytest.mark.parametrize("field", ["unknown", "variables", "message"])
def test_the_quick_way_knows_how_deep_is_too_deep(depth: int, field: str) -> None:
    inner = b'{"a":' * depth + b"1" + b"}" * depth
    inner = inner if field != "message" else (
        b'{"from":"a@b.test","template":{"id":"t","variables":' + inner + b"}}"
    )  # fmt: skip
    value = _changed()[:-1] + b',"' + field.encode() + b'":' + inner + b"}"
    for _ in range(2):
        assert _decided(parse, value) == _decided(_with_pydantic, value)


def test_the_quick_way_knows_which_numbers_are_too_long() -> None:
    for digits in (3_000, 5_000):
        value = _changed()[:-1] + b',"unknown":' + b"1" * digits + b"}"
        assert _decided(parse, value) == _decided(_with_pydantic, value)


def test_a_message_is_that_of_its_event() -> None:
    for text in ("one", "two", "one"):
        message = parse(_changed(message=_MESSAGE | {"text": text})).message
        assert message is not None
        assert message.text == text


def test_most_events_take_the_quick_way() -> None:
    given = _changed(message=_MESSAGE, name="Ann é", variables={"a": [1, 2.5, None]}, other=[{}])
    parse(given)
    with mock.patch.object(event, "validate", side_effect=AssertionError):
        assert parse(given).message is parse(_changed(message=_MESSAGE)).message
        assert parse(_changed(expires_at="2026-12-01T00:00:00Z")).expires_at is not None


def test_messages_are_known_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event, "_known_messages", event._KnownMessages())
    monkeypatch.setattr(event, "_MAX_KNOWN_BYTES", 50_000)
    for number in range(100):
        message = _MESSAGE | {"text": "t" * 1_000}
        parse(_changed(campaign_id=f"c-{number}", message=message))
        parse(_changed(campaign_id="same", message=message | {"subject": str(number)}))
    known = event._known_messages
    assert known._bytes == sum(each.size for each in known._by_campaign.values())
    assert 40_000 < known._bytes <= 50_000


def test_a_long_timestamp_is_not_remembered() -> None:
    event._short_timestamp.cache_clear()
    text = f"2026-12-01T00:00:00.{'0' * 100_000}Z"
    assert parse(_changed(expires_at=text)).expires_at is not None
    assert event._short_timestamp.cache_info().currsize == 0
