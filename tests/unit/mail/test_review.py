"""Reviewing mails: the warnings given, and parsing of arbitrary HTML."""

import re
from collections.abc import Mapping
from html import escape

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from streamer.mail.compose import Composer
from streamer.mail.review import (
    CLIPPED_BYTES,
    Mail,
    MailCheck,
    find_links,
    read_mail,
    review,
    undefined_variables,
    unsubscribe_url,
)
from streamer.mail.templates import Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Message
from streamer.model.event import RecipientEvent

_URL = "https://example.com/u/1.abc-_"
_URLS = st.from_regex(r"https?://[a-z]{1,9}\.test(/[a-zA-Z0-9&=?%._~-]{0,9}){0,3}", fullmatch=True)


def _mail(**changes: JsonValue) -> Mail:
    good: Mail = {
        "subject": "Hello",
        "html": f"<p>Hi <a href='{_URL}'>no more</a></p>",
        "text": f"Hi\n{_URL}\n",
        "headers": {"List-Unsubscribe": f"<{_URL}>"},
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def _concerns(mail: Mail) -> list[MailCheck]:
    return [remark.concern for remark in review(mail)]


def test_a_good_mail_has_no_warnings() -> None:
    assert review(_mail()) == []
    assert unsubscribe_url(_mail()) == _URL


def test_a_template_at_resend_has_no_warnings() -> None:
    assert review({"template": {"id": "t"}, "headers": {"List-Unsubscribe": f"<{_URL}>"}}) == []


@pytest.mark.parametrize("subject", [None, "", " \u00a0 "])
def test_an_empty_subject(subject: str | None) -> None:
    assert _concerns(_mail(subject=subject)) == [MailCheck.EMPTY_SUBJECT]


@pytest.mark.parametrize("text", [None, "", "\n \n"])
def test_a_missing_text_part(text: str | None) -> None:
    assert _concerns(_mail(text=text)) == [MailCheck.MISSING_TEXT]


@given(st.integers(-3, 3), st.sampled_from("xé€😀"))
def test_clipping_counts_bytes(beyond: int, character: str) -> None:
    head, width = f"<a href='{_URL}'>n</a>", len(character.encode())
    count, rest = divmod(CLIPPED_BYTES + beyond - len(head), width)
    html = head + character * count + "x" * rest
    assert _concerns(_mail(html=html)) == ([MailCheck.CLIPPED_HTML] if beyond > 0 else [])


@pytest.mark.parametrize(
    ("href", "is_safe"),
    [
        ("https://acme.test/", True),
        ("HTTPS://acme.test/", True),
        (" https://acme.test/\n", True),
        ("mailto:help@acme.test", True),
        ("tel:+123", True),
        ("#top", True),
        ("http://acme.test/", False),
        ("HtTp://acme.test/", False),
        ("ht\ntp://acme.test/", False),
        ("&#104;ttp://acme.test/", False),
        ("javascript:alert(1)", False),
        ("www.acme.test", False),
        ("//acme.test/", False),
        ("/shop", False),
        ("", False),
    ],
)
def test_html_links(href: str, is_safe: bool) -> None:
    html = f"<A HREF='{_URL}'>n</A><area href=\"{href}\">"
    assert _concerns(_mail(html=html)) == ([] if is_safe else [MailCheck.INSECURE_LINK])


@given(st.lists(_URLS, max_size=6))
def test_each_insecure_link_is_named_once(urls: list[str]) -> None:
    insecure = {url for url in urls if url.startswith("http:")}
    html = _mail()["html"]
    html = f"{html}" + "".join(f'<a href="{escape(url)}">x</a>' for url in urls)
    remarks = review(_mail(html=html))
    assert {remark.concern for remark in remarks} <= {MailCheck.INSECURE_LINK}
    named = [re.findall(r"'(.*)'", remark.text)[0] for remark in remarks]
    assert sorted(named) == sorted(insecure)


@given(_URLS, st.sampled_from(["", ".", ")", "!\n", '"', "> more"]))
def test_text_links(url: str, following: str) -> None:
    remarks = review(_mail(text=f"See <{url}{following}\n{_URL}"))
    named = [re.findall(r"'(.*)'", remark.text)[0] for remark in remarks]
    expected = url.rstrip(".?") if url.startswith("http:") else None
    assert named == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    "changes",
    [
        {"html": "<p>x</p>"},
        {"html": f'<a href="{_URL}">x</a>', "text": "x"},
        {"html": f'<a href="{_URL}">x</a>', "text": None},
        {"html": None},
    ],
)
def test_a_visible_unsubscribe_link_is_found(changes: dict[str, JsonValue]) -> None:
    assert MailCheck.NO_UNSUBSCRIBE_LINK not in _concerns(_mail(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"html": "<p>x</p>", "text": "x"},
        {"html": f'<!-- <a href="{_URL}">x</a> -->', "text": "x"},
        {"html": f'<link href="{_URL}">', "text": "x"},
        {"html": f'<a href="{_URL}x">x</a>', "text": f"{_URL}x"},
        {"html": '<a href="https://example.com/unsubscribe">x</a>', "text": "unsubscribe"},
        {"headers": None},
    ],
)
def test_an_invisible_unsubscribe_link_does_not_count(changes: dict[str, JsonValue]) -> None:
    assert _concerns(_mail(**changes)) == [MailCheck.NO_UNSUBSCRIBE_LINK]


def test_escaped_links_are_unescaped() -> None:
    url = "https://example.com/u?a=1&token=1.abc"
    headers: JsonValue = {"List-Unsubscribe": f"<{url}>"}
    html = f'<a href="{escape(url)}">no more</a>'
    assert _concerns(_mail(html=html, text="x", headers=headers)) == []


_SNIPPETS = st.sampled_from(
    [
        "<",
        ">",
        "<!",
        "<![",
        "[if mso]>",
        "<a href=",
        '"',
        "'",
        "</a",
        "<!--",
        "-->",
        "<?",
        "&#",
        "]",
    ]
)


@given(st.lists(_SNIPPETS | st.text(max_size=4)).map("".join))
def test_any_html_can_be_parsed(html: str) -> None:
    find_links(html)


def test_unknown_markup_is_a_comment() -> None:
    assert [link.url for link in find_links("<![x[ <b> <a href='https://a.test'>")] == [
        "https://a.test"
    ]


# Undefined variables

_LINKS = UnsubscribeLinks("https://example.com/u", [b"a secret for tests alone"])


def _undefined(
    html: str, variables: dict[str, JsonValue] | None = None, **more: object
) -> list[str]:
    composer = Composer(Templates(100_000), _LINKS, 100_000)
    message = Message.model_validate({"from": "a@b.test", "subject": "s", "html": html, **more})
    event = RecipientEvent(
        organization_id="acme", campaign_id="c", recipient_id="r", email="a@example.com"
    )

    def render(given: Mapping[str, JsonValue]) -> bytes:
        changed = msgspec.structs.replace(event, variables=dict(given))
        return composer.compose(changed, "a@example.com", message)

    return undefined_variables(render, variables or {})


@pytest.mark.parametrize(
    ("html", "names"),
    [
        ("{{ email }}", []),
        ("{{ a }} {{ b }} {{ a }}", ["a", "b"]),
        ("{{ a|upper }} {{ b|default('x') }} {{ c }}", ["a", "c"]),
        (
            "{{ who.ever }} {{ who.else }} {{ who.deep.er }}",
            ["who.ever", "who.else", "who.deep", "who.deep.er"],
        ),
        ("{{ known.a }} {{ known.b }} {{ known['c'] }} {{ z }}", ["known.b", "known['c']", "z"]),
        ("{% if a %}{{ b }}{% endif %}{{ c }}", ["a", "b", "c"]),
        ("{% for item in items %}{{ item }}{% endfor %}{{ b }}", ["items", "b"]),
        ("{{ price + 1 }} {{ b }}", ["price", "b"]),
        ("{{ price|float * 2 }} {{ b }}", ["price", "b"]),
        ("{{ a[0] }} {{ b }}", ["a", "b"]),
        ("{{ name }} {{ b }}", ["name", "b"]),
    ],
)
def test_every_undefined_variable_is_named(html: str, names: list[str]) -> None:
    known: dict[str, JsonValue] = {"known": {"a": 1}}
    assert _undefined(html, known) == names
    assert known == {"known": {"a": 1}}


def test_a_missing_list_does_not_end_the_search() -> None:
    found = _undefined("{% for i in offers %}{{ i.name }}{% endfor %}{{ last }}")
    assert found[0] == "offers"
    assert found[-1] == "last"


def test_all_parts_of_a_mail_are_searched() -> None:
    found = _undefined("{{ a }}", subject="{{ b }}", text="{{ c }}", headers={"X-Y": "{{ d }}"})
    assert sorted(found) == ["a", "b", "c", "d"]


_NAMES = st.lists(st.from_regex(r"v[a-z]{1,6}", fullmatch=True), unique=True, max_size=12)


@given(_NAMES, st.data())
def test_exactly_the_missing_variables_are_named(names: list[str], data: st.DataObject) -> None:
    present: set[str] = data.draw(st.sets(st.sampled_from(names))) if names else set()
    html = " ".join(f"{{{{ {name} }}}}" for name in names)
    found = _undefined(html, dict.fromkeys(present, "x"))
    assert found == [name for name in names if name not in present]


def test_another_render_error_ends_the_search() -> None:
    assert _undefined("{{ a }} {{ email|round }}") == ["a"]


def test_a_composed_mail_is_read() -> None:
    assert read_mail(b'{"subject":"x"}') == {"subject": "x"}
