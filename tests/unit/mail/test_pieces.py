"""Mails in pieces are, byte for byte, what the engine composes."""

from unittest import mock

import msgspec
import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from streamer.mail import compose
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.mail.pieces import Pieces
from streamer.mail.templates import Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Message
from streamer.model.event import RecipientEvent
from streamer.model.record import RecordId
from tests.kit.properties import examples

_MAX = 3_000  # bytes
_LINKS = UnsubscribeLinks("https://example.com/u?a=1&t=", [b"a secret for tests alone"])
_USES = 12  # enough for the composer to make pieces
_NAMES = ("first_name", "city", "points", "name", "email", "recipient_id", "unsubscribe_url")

_WORDS = st.sampled_from(
    [
        *("Ann", "Ann Lee", 'O\'Hara & "co"/', "back\\slash", "Zoë 🎈", "<b>", "", "\\u0000"),
        *("R&D", 'the "a"', "1", "{{ city }}", " ", "\u200d", "東京", "\\u0000"),
    ]
)
_ODD: st.SearchStrategy[JsonValue] = st.sampled_from(
    [
        *("a\nb", "\u2028", "\xa0", "x\0y", "\ud800", "x" * _MAX, 1.0, True, None),
        *(2**63 - 1, 2**63, -(2**63), [1], {"a": "b"}),
    ]
)
_VALUES: st.SearchStrategy[JsonValue] = st.text() | st.integers(-9, 9) | _ODD
_PLAIN = st.sampled_from(
    [
        *("{{ first_name }}", "{{city}}", "{{ points }}", "{{ name }}", "{{ email }}"),
        *("{{ recipient_id }}", "{{ campaign_id }}", "{{ organization_id }}"),
        *("{{- first_name -}}", "{{\tcity\n}}"),
    ]
)
_OTHER = st.sampled_from(
    [
        *("{{ first_name|default('you') }}", "{{ first_name|upper }}", "{{ points + 1 }}"),
        *("{% if points > 0 %}{{ points }} points{% else %}\n{% endif %}", "{{ city[0] }}"),
        *("{% for p in items %}{{ p }}/{% endfor %}", "{% set city = 'Rome' %}", "{{ range }}"),
        *("{%- if city %} x {% endif -%}", "{% raw %}{{ x }}{% endraw %}", "{# {{ x }} #}"),
        *("{{ none }}", "{{ true }}", "{{ items }}", "{{ points or city }}"),
        *("{% autoescape false %}{{ first_name }}{% endautoescape %}", "{{ first_name|e }}"),
        *("{% with a = city %}{{ a }}{% endwith %}", "{{ unsubscribe_url|default('-') }}"),
    ]
)
_FAULTY = st.sampled_from(
    ["{{ missing }}", "{{ loop }}", "{{ keys }}", "{{ first_name", "{% if %}"]
)
_SELDOM = st.integers(0, 30).map(lambda number: number == 13)
_TEXTS = st.sampled_from(["", " ", "<p>Hi ", 'a "quoted" \\u0000 ', "{", "}", "}}", "é🎈", "a/b\\"])
_BREAKS = st.sampled_from(["\n", "\r\n", "\t", "\u2028"])


def _templates(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    plain = st.lists(texts | _PLAIN, max_size=8)
    other = st.lists(texts | _PLAIN | _OTHER, max_size=8)
    faulty = _SELDOM.flatmap(lambda is_faulty: _FAULTY if is_faulty else st.just(""))
    return st.tuples(plain | plain | other, faulty).map(lambda parts: "".join(parts[0]) + parts[1])


_TEMPLATES = _templates(_TEXTS | _BREAKS)
_LINES = _SELDOM.flatmap(lambda is_broken: _TEMPLATES if is_broken else _templates(_TEXTS))


@st.composite
def _messages(draw: st.DrawFn) -> Message:
    fields: dict[str, object] = {"from": "Acme <news@acme.test>", "subject": draw(_LINES)}
    for name in draw(st.sampled_from([("html",), ("text",), ("html", "text")])):
        fields[name] = draw(_TEMPLATES)
    optional = {
        "headers": {"X-One": draw(_LINES), "X-Two": "b\\c"},
        "reply_to": ["a@b.test", "c@d.test"],
        "tags": [{"name": "season", "value": "spring"}],
    }
    fields |= {name: optional[name] for name in draw(st.sets(st.sampled_from([*optional])))}
    return Message.model_validate(fields)


@st.composite
def _recipients(draw: st.DrawFn) -> RecipientEvent:
    variables: dict[str, JsonValue] = {
        "first_name": draw(_WORDS),
        "city": draw(_WORDS),
        "points": draw(st.integers(0, 9)),
        "items": [1, "two"],
    }
    if draw(st.booleans()):
        names = st.sampled_from([*_NAMES, "items", "keys"])
        variables |= draw(st.dictionaries(names, _VALUES, max_size=1))
    if draw(_SELDOM):
        del variables[draw(st.sampled_from([*variables]))]
    name = None if draw(_SELDOM) else draw(_WORDS)
    return RecipientEvent("acme", "spring:26", "r-1", "x", name, variables)


def _composed(
    composer: Composer, event: RecipientEvent, message: Message, offset: int = 0
) -> bytes | str:
    try:
        return composer.compose(event, "o'hara/x@b.test", message, RecordId("t", 3, offset))
    except (RenderError, TooLargeError) as error:
        return f"{type(error)} {error}"


@settings(max_examples=examples(700))
@given(_messages(), st.lists(_recipients(), min_size=1, max_size=4), st.booleans())
def test_pieces_are_what_the_engine_composes(
    message: Message, recipients: list[RecipientEvent], has_links: bool
) -> None:
    links = _LINKS if has_links else None
    composer = Composer(Templates(_MAX), links, _MAX)
    for _ in range(_USES):
        _composed(composer, recipients[0], message)
    for offset, recipient in enumerate(recipients, start=1):
        found = _composed(composer, recipient, message, offset)
        with mock.patch.object(Pieces, "fill", return_value=None) as fill:
            assert found == _composed(composer, recipient, message, offset)
        assert isinstance(found, str) or found != _composed(
            composer, recipient, message, offset + 1
        )
        took = fill.called and _takes_pieces(composer, recipient, message)
        note("in pieces" if took else "by the engine" if isinstance(found, bytes) else "no mail")


def _takes_pieces(composer: Composer, event: RecipientEvent, message: Message) -> bool:
    with mock.patch.object(Composer, "_fields", side_effect=AssertionError):
        try:
            composer.compose(event, "o'hara/x@b.test", message, RecordId("t", 3, 1))
        except AssertionError:
            return False
    return True


@pytest.mark.parametrize(
    ("subject", "html"),
    [
        ("Hi {{ first_name }}", "<p>{{ first_name }} {{ email }}</p>{{ unsubscribe_url }}"),
        ("Hi {{ first_name|default('you') }}!", "{% if points > 0 %}{{ points }}{% endif %}"),
        ("Hi", "{# a comment #}{% raw %}{{ x }}{% endraw %}{{- recipient_id -}} {{ city }}\n"),
        ('{{ name }} \\ "you"', "{% for p in items %}{{ p }}{% endfor %}{{ campaign_id }}"),
        ("{{ city }}", "{% set a = city %}{{ a }}{{ organization_id }}"),
    ],
)
def test_usual_mails_are_made_in_pieces(subject: str, html: str) -> None:
    message = Message.model_validate({"from": "a@b.test", "subject": subject, "html": html})
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    variables: dict[str, JsonValue] = {
        "first_name": "Zoë O'Hara",
        "city": '"Rome"',
        "points": 3,
        "items": [1],
    }
    recipient = RecipientEvent("acme", "spring-26", "r-1", "x", "Ann Lee", variables)
    for _ in range(_USES):
        _composed(composer, recipient, message)
    assert _takes_pieces(composer, recipient, message)


@pytest.mark.parametrize(
    "variables", [{}, {"a": None}, {"a": 1.5}, {"a": True}, {"a": "x\0"}, {"a": "\ud800"}]
)
def test_what_pieces_cannot_write_is_left_to_the_engine(variables: dict[str, JsonValue]) -> None:
    message = Message.model_validate({"from": "a@b.test", "subject": "s", "html": "{{ a }}"})
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    usual = RecipientEvent("acme", "spring-26", "r-1", "x", None, {"a": "b"})
    for _ in range(_USES):
        _composed(composer, usual, message)
    assert _takes_pieces(composer, usual, message)
    other = msgspec.structs.replace(usual, variables=variables)
    assert not _takes_pieces(composer, other, message)


def test_each_character_is_written_as_the_engine_does() -> None:
    both = dict.fromkeys(("subject", "html", "text"), "x {{ a }}")
    message = Message.model_validate({"from": "a@b.test", **both})
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    for character in map(chr, [*range(1, 0x300), 0x2028, 0xFEFF, 0x1F388]):
        recipient = RecipientEvent("acme", "spring-26", "r-1", "x", None, {"a": f"b{character}c"})
        found = [_composed(composer, recipient, message) for _ in range(_USES)]
        with mock.patch.object(Pieces, "fill", return_value=None):
            assert _composed(composer, recipient, message) == found[-1]
        assert not character.isprintable() or _takes_pieces(composer, recipient, message)


@pytest.mark.parametrize(
    "subject",
    [
        *("{{ a }}", "x\n{{ a }}", "{{ a }}\r", "x\n{{ a|upper }}", "\x07{{ a ~ a }}\x07x"),
        *("\n{{ a }}\n ", "x\n{{ a|upper }}\ny"),
    ],
)
@pytest.mark.parametrize("value", ["", "b", "\r\nb\n", "\n", "b\x85", "\x07", "\u2028"])
def test_lines_are_cleaned_as_a_whole(subject: str, value: str) -> None:
    message = Message.model_validate({"from": "a@b.test", "subject": subject, "text": "t"})
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    recipient = RecipientEvent("acme", "spring-26", "r-1", "x", None, {"a": value})
    found = {_composed(composer, recipient, message) for _ in range(_USES)}
    assert len(found) == 1


@pytest.mark.parametrize("in_reverse", [False, True])
def test_equal_values_of_different_kinds_are_told_apart(in_reverse: bool) -> None:
    html = "{{ a|default('-') }} {% if a is defined %}{{ a == 1 }}{% endif %}"
    message = Message.model_validate({"from": "a@b.test", "subject": "s", "html": html})
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    values: list[JsonValue] = [1, True, 1.0, 0, False, 0.0, -0.0, "1", None, [1], [2], {"b": 1}]
    given: list[dict[str, JsonValue]] = [{}, *({"a": value} for value in values)]
    usual = RecipientEvent("acme", "spring-26", "r-1", "x", None, {"a": "b"})
    for _ in range(_USES):
        _composed(composer, usual, message)
    for variables in given[::-1] if in_reverse else given:
        recipient = msgspec.structs.replace(usual, variables=variables)
        found = [_composed(composer, recipient, message) for _ in range(2)]
        with mock.patch.object(Pieces, "fill", return_value=None):
            assert found == 2 * [_composed(composer, recipient, message)]


@pytest.mark.parametrize("shown", ["{{ a + 0 }}", "{{ a + 0 }}" + 5_000 * "x"])
def test_what_is_known_of_a_part_is_bounded(shown: str) -> None:
    html = "{% if a >= 0 %}" + shown + "{% endif %}"
    message = Message.model_validate({"from": "a@b.test", "subject": "s", "html": html})
    composer = Composer(Templates(9_000), _LINKS, 9_000)
    for number in range(600):
        event = RecipientEvent("acme", "spring-26", "r-1", "x", None, {"a": number})
        assert isinstance(_composed(composer, event, message), bytes)
    (prepared,) = composer._prepared.values()
    assert prepared.pieces is not None
    (part,) = prepared.pieces._parts
    assert len(part._known) == (500 if len(shown) < 4_000 else 0)


def test_a_message_is_cut_only_if_many_mails_use_it() -> None:
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    with mock.patch.object(Composer, "_cut", side_effect=AssertionError):
        for number in range(50):
            fields = {"from": "a@b.test", "subject": "s", "text": f"text {number}"}
            event = RecipientEvent("acme", "spring-26", "r-1", "x")
            composer.compose(event, "ann@b.test", Message.model_validate(fields))


@pytest.mark.parametrize(
    "large",
    [
        {"text": "x" * 2_000},
        {"text": "t", "reply_to": ["r@b.test"] * 5},
        {"text": "t", "headers": {"X-A": "x" * 2_000}},
        {"text": "t", "tags": [{"name": "a", "value": "b"}] * 4},
        {"template": {"id": "t", "variables": {"a": [[]] * 20}}},
    ],
    ids=lambda large: next(reversed(large)),
)
def test_what_is_prepared_is_limited_in_bytes(
    monkeypatch: pytest.MonkeyPatch, large: dict[str, object]
) -> None:
    monkeypatch.setattr(compose, "_MAX_PREPARED_BYTES", 120_000)
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    event = RecipientEvent("acme", "spring-26", "r-1", "x")
    messages = []
    for number in range(100):
        fields = {"from": "a@b.test", "subject": str(number), **large}
        messages.append(Message.model_validate(fields))
        composer.compose(event, "ann@b.test", messages[-1])
    kept = [prepared.message for prepared in composer._prepared.values()]
    assert 5 < len(kept) <= 15
    assert kept == messages[-len(kept) :]
    assert composer._prepared_bytes == sum(each.size for each in composer._prepared.values())
