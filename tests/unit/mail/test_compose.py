"""Mails: what is in them, what cannot get in, and what they may cost."""

import contextlib
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.mail.templates import Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Message
from streamer.model.event import RecipientEvent

_MAX = 1_000_000
_LINKS = UnsubscribeLinks("https://example.com/u", [b"a secret for tests alone"])


def _compose(
    message: dict[str, object],
    variables: dict[str, object] | None = None,
    links: UnsubscribeLinks | None = _LINKS,
    **changes: object,
) -> dict[str, Any]:  # the decoded mail, whose parts are looked at one by one
    event = RecipientEvent.model_validate(
        {
            "organization_id": "acme",
            "campaign_id": "spring:26",
            "recipient_id": "r-1",
            "email": "Ann@Example.com",
            "variables": variables or {},
            **changes,
        }
    )
    whole = Message.model_validate({"from": "Acme <news@acme.test>", "subject": "Hi", **message})
    composer = Composer(Templates(_MAX), links, _MAX)
    mail: dict[str, Any] = orjson.loads(composer.compose(event, "ann@example.com", whole))
    return mail


def test_a_whole_mail() -> None:
    mail = _compose(
        {
            "subject": "Hello {{ first_name }}",
            "html": "<p>{{ first_name }} {{ email }} {{ name }}</p>",
            "text": "{{ first_name }} {{ recipient_id }} {{ campaign_id }} {{ organization_id }}",
            "reply_to": "help@acme.test",
            "headers": {"X-Campaign": "spring", "list-unsubscribe": "<mailto:evil@example.com>"},
            "tags": [{"name": "season", "value": "spring"}, {"name": "campaign", "value": "x"}],
        },
        {"first_name": "<Ann>"},
        name="Ann Lee",
    )
    url = mail["headers"]["List-Unsubscribe"].strip("<>")
    assert _LINKS.verify(url.rpartition("/")[2]) == ("acme", "spring:26", "ann@example.com")
    assert mail == {
        "from": "Acme <news@acme.test>",
        "to": ["ann@example.com"],
        "subject": "Hello <Ann>",
        "html": "<p>&lt;Ann&gt; ann@example.com Ann Lee</p>",
        "text": "<Ann> r-1 spring:26 acme",
        "reply_to": ["help@acme.test"],
        "headers": {
            "X-Campaign": "spring",
            "List-Unsubscribe": f"<{url}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
        "tags": [
            {"name": "season", "value": "spring"},
            {"name": "campaign", "value": "spring_26"},
            {"name": "organization", "value": "acme"},
        ],
    }


def test_without_links_there_is_no_header_and_no_url() -> None:
    assert "headers" not in _compose({"text": "x"}, links=None)
    with pytest.raises(RenderError, match="unsubscribe_url"):
        _compose({"text": "{{ unsubscribe_url }}"}, links=None)


def test_a_template_kept_at_resend() -> None:
    mail = _compose(
        {"template": {"id": "t1", "variables": {"season": "spring", "city": "all"}}},
        {"city": "Rome"},
    )
    url = mail["headers"]["List-Unsubscribe"].strip("<>")
    assert mail["template"] == {
        "id": "t1",
        "variables": {"season": "spring", "city": "Rome", "unsubscribe_url": url},
    }


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ nobody }}", "nobody"),
        ("a\n{{ who.ever }}", r"who\.ever \(line 2\)"),
        ("{% if nobody %}{% endif %}", "nobody"),
        ("{{ name|default('x') }} {{ nobody }}", "undefined variable: nobody"),
        ("{{ known.deeper }}", r"known\.deeper"),
    ],
)
def test_an_undefined_variable_is_named(template: str, named: str) -> None:
    with pytest.raises(RenderError, match=named):
        _compose({"html": template}, {"known": {}})


@pytest.mark.parametrize(
    "template",
    [
        "{% if %}",
        "{{ 1 / 0 }}",
        "{% include 'x' %}",
        "{% extends 'x' %}",
        "{{ 'x'|no_such_filter }}",
        "{{ 'x'.__class__ }}",
        "{{ debug() }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_what_a_template_may_not_do(template: str) -> None:
    with pytest.raises(RenderError):
        _compose({"html": template})


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% for i in range(9999) %}{% for j in range(9999) %}xxxxxxxx{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{% set ns = namespace(x='xxxx') %}"
        "{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(9999) %}{{ big }}{% endfor %}",
        "{{ big }}" * 11,
        "x" * (_MAX + 1),
    ],
)
def test_a_mail_that_is_too_large_is_not_made_to_its_end(template: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            _compose({"html": template}, {"big": "y" * 100_000})
        assert tracemalloc.get_traced_memory()[1] < 40 * _MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", ["\ud800", 2**80, float("nan"), [[]] * 3, {"a": None}])
def test_odd_values_never_break_anything(value: object) -> None:
    with contextlib.suppress(RenderError):
        _compose({"html": "{{ v }}"}, {"v": value})


@given(st.text())
def test_no_line_break_gets_into_a_header(text: str) -> None:
    try:
        mail = _compose(
            {"subject": "{{ v }}", "text": "x", "headers": {"X-A": text}, "from": f"A {text}"},
            {"v": text},
        )
    except RenderError:
        return
    for line in (mail["subject"], mail["from"], *mail["headers"].values()):
        assert len(line.splitlines()) <= 1
        assert all(ord(letter) >= 32 for letter in line)


def test_line_breaks_in_a_subject_become_one_space() -> None:
    mail = _compose({"subject": "a\r\n\nBcc: {{ v }}\u2028c", "text": "x"}, {"v": "b\x00"})
    assert mail["subject"] == "a Bcc: b c"


@given(st.text())
def test_what_is_inserted_in_html_is_escaped(text: str) -> None:
    mail = _compose({"html": "<p>{{ v }}</p>"}, {"v": text})
    inserted = mail["html"].removeprefix("<p>").removesuffix("</p>")
    assert not set(inserted) & set("<>\"'")


@pytest.mark.parametrize("name", ["X Y", "X:", "", "X\n", "Ü"])
def test_a_header_needs_a_name(name: str) -> None:
    with pytest.raises(RenderError, match="header"):
        _compose({"text": "x", "headers": {name: "y"}})


def test_threads_share_a_composer() -> None:
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    message = Message.model_validate({"from": "a@b.test", "subject": "{{ n }}", "text": "{{ n }}"})

    def subject(number: int) -> bool:
        event = RecipientEvent.model_validate(
            {
                "organization_id": f"o{number % 7}",
                "campaign_id": "c",
                "recipient_id": "r",
                "email": "e",
                "variables": {"n": number},
            }
        )
        mail = orjson.loads(composer.compose(event, f"{number}@b.test", message))
        return bool(mail["subject"] == mail["text"] == str(number))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(subject, range(2000)))
