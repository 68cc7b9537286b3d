"""Composing mails: their contents, what is kept out of them, and their cost."""

import contextlib
import gc
import tracemalloc
import unicodedata
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import Environment
from pydantic import JsonValue

from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.mail.templates import Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Message
from streamer.model.event import EventSchema, RecipientEvent, parse
from streamer.model.record import RecordId
from streamer.model.reference import campaign_check, read_reference

_MAX = 1_000_000
_ADDRESS = "<news@acme.test>"
_LINKS = UnsubscribeLinks("https://example.com/u", [b"a secret for tests alone"])


def _compose(
    message: dict[str, object],
    variables: dict[str, object] | None = None,
    links: UnsubscribeLinks | None = _LINKS,
    **changes: object,
) -> dict[str, Any]:  # the decoded mail
    event = EventSchema.model_validate(
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
    mail: dict[str, Any] = orjson.loads(
        composer.compose(RecipientEvent.of(event), "ann@example.com", whole)
    )
    return mail


def test_a_complete_mail() -> None:
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


def _compose_plainly(tags: list[JsonValue], record_id: RecordId | None) -> dict[str, str]:
    """Return the tags of a mail for the campaign `a.b`."""
    ids: dict[str, JsonValue] = {"organization_id": "acme", "campaign_id": "a.b"}
    event = parse(orjson.dumps({**ids, "recipient_id": "r-1", "email": "ann@example.com"}))
    fields = {"from": "Acme <news@acme.test>", "subject": "Hi", "text": "x", "tags": tags}
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    body = composer.compose(event, event.email, Message.model_validate(fields), record_id)
    return {tag["name"]: tag["value"] for tag in orjson.loads(body)["tags"]}


def test_the_tags_refer_to_the_record() -> None:
    tags: list[JsonValue] = [{"name": "_r", "value": "x"}, {"name": "season", "value": "spring"}]
    plain = _compose_plainly(tags, None)
    assert plain["_r"] == "x"  # a mail for a test refers to no record
    for offset in (1042, 1043):
        found = _compose_plainly(tags, RecordId("t", 3, offset))
        assert read_reference(found["_r"]) == (campaign_check("acme", "a.b"), 3, offset)
        assert found | {"_r": "x"} == plain


def test_a_mail_with_as_many_tags_as_resend_takes_refers_to_none() -> None:
    for number in (72, 73):
        tags: list[JsonValue] = [{"name": f"t{each}", "value": "x"} for each in range(number)]
        found = _compose_plainly(tags, RecordId("t", 0, 0))
        assert len(found) == 75
        assert ("_r" in found) == (number == 72)


@pytest.mark.parametrize(
    "sender", ["Acme", "news@", "Acme <news@>", "news@localhost", "news@-acme.test", "a@b..test"]
)
def test_a_sender_without_a_usable_domain_is_a_fault_of_that_mail(sender: str) -> None:
    """Resend would refuse the whole batch for it."""
    with pytest.raises(RenderError, match=r"^from: "):
        _compose({"from": sender, "text": "x"})


def test_no_unsubscribe_header_or_url_without_links() -> None:
    assert "headers" not in _compose({"text": "x"}, links=None)
    with pytest.raises(RenderError, match="unsubscribe_url"):
        _compose({"text": "{{ unsubscribe_url }}"}, links=None)


def test_a_template_stored_at_resend() -> None:
    mail = _compose(
        {"template": {"id": "t1", "variables": {"season": "spring", "city": "all"}}},
        {"city": "Rome"},
    )
    url = mail["headers"]["List-Unsubscribe"].strip("<>")
    assert mail["template"] == {
        "id": "t1",
        "variables": {"season": "spring", "city": "Rome", "unsubscribe_url": url},
    }


def test_variables_may_be_named_like_dict_methods() -> None:
    source = "{{ items|join }} {{ get }} {{ pop|default('-') }} {{ o.keys()|join }} to get a copy"
    given: dict[str, object] = {"items": [1, 2], "get": "g", "o": {"k": 1}}
    assert _compose({"text": source}, given)["text"] == "12 g - k to get a copy"
    loop = "{% for values in items %}{{ values }}{% endfor %}"
    assert _compose({"text": loop}, given)["text"] == "12"


def test_templates_cannot_update_variables() -> None:
    source = "{% for i in range(9) %}{% do update(a=a + a) %}{% endfor %}{{ a|length }}"
    with pytest.raises(RenderError, match="`update` is undefined"):
        _compose({"text": source}, {"a": [1]})


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ("{{ nobody }}", "nobody"),
        ("a\n{{ who.ever }}", r"who\.ever \(line 2\)"),
        ("{% if nobody %}{% endif %}", "nobody"),
        ("{{ name|default('x') }} {{ nobody }}", "undefined variable: nobody"),
        ("{{ known.deeper }}", r"known\.deeper"),
        ("{{ known['deeper'] }}", r"known\['deeper'\]"),
        ("{{ 'x' ~ nobody }}", "undefined variable: nobody"),
        ("{{ nobody + 1 }}", "`nobody` is undefined"),
        ("\n{{ items }}", r"undefined variable: items \(line 2\)"),
        ("{{ copy }}", "undefined variable: copy"),
        ("{{ keys.deeper }}", r"undefined variable: keys\.deeper"),
        ("{{ values + 1 }}", "`values` is undefined"),
        ("{{ get('email') }}", "`get` is undefined"),
        ("{% set x = update %}{{ x(email='x') }}", "`update` is undefined"),
        ("{{ name }}", "undefined variable: name"),
        ("{{ nobody|e }}", "undefined variable: nobody"),
        ("\n{{ nobody | escape }}", r"undefined variable: nobody \(line 2\)"),
        ("{% if nobody|length > 2 %}x{% endif %}", "undefined variable: nobody"),
        ("{{ 1 + (nobody|count) }}", "undefined variable: nobody"),
        ("{{ nobody|tojson }}", "undefined variable: nobody"),
        ("<a href='?r={{ known.code|urlencode }}'>", r"undefined variable: known\.code "),
        ("{{ known['deeper']|indent(2) }}", r"known\['deeper'\]"),
        ("{{ known.deeper.still|e }}", r"undefined variable: known\.deeper"),
        ("{{ known[0]|e }}", r"known\[0\]"),
        ("{{ items|e }}", "undefined variable: items"),
        ("{% set x = nobody %}{{ x|e }}", "undefined variable: nobody|undefined variable: x"),
        ("{{ 'a' ~ nobody|e|upper }}", "undefined variable: nobody"),
        ("{{ nobody|default(who)|e }}", "undefined"),
        ("{{ known[-1]|e }}", "undefined"),
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
def test_forbidden_templates_are_render_errors(template: str) -> None:
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
        "{% for i in range(99999) %}{% for j in range(99999) %}{% set a = items|length %}"
        "{% endfor %}{% endfor %}",
        "{{ items|join(items) }}",
        "{% for x in items %}{% if x in items|sort %}{% endif %}{% endfor %}",
        "{{ '%100000000d'|format(1) }}",
        "{{ 'x'|indent(100000000) }}",
        "x" * (_MAX + 1),
    ],
)
def test_rendering_stops_at_the_size_limit(template: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            _compose(
                {"html": template},
                {"big": "y" * 100_000, "items": [f"item {i}" for i in range(20_000)]},
            )
        assert tracemalloc.get_traced_memory()[1] < 40 * _MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", ["\ud800", 2**80, float("nan"), [[]] * 3, {"a": None}])
def test_odd_values_at_most_fail_to_render(value: object) -> None:
    with contextlib.suppress(RenderError):
        _compose({"html": "{{ v }}"}, {"v": value})


def _nested(depth: int) -> object:
    value: object = "x"
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


_HOSTILE: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "deep": ({"html": "{{ v }}{{ v|tojson }}"}, {"v": _nested(190)}),
    "deep, at Resend": ({"template": {"id": "t"}}, {"v": _nested(190)}),
    "deep, at Resend, shared": ({"template": {"id": "t", "variables": {"v": _nested(190)}}}, {}),
    "a long number": ({"html": "{{ v }}"}, {"v": 10**4000}),
    "a long number, at Resend": ({"template": {"id": "t", "variables": {"v": 10**4000}}}, {}),
    "a long number in the template": ({"html": f"{{{{ {'9' * 9000} }}}}"}, {}),
    "a surrogate": ({"html": "{{ v }}", "subject": "{{ v }}"}, {"v": "\ud800"}),
    "a surrogate, at Resend": ({"template": {"id": "t"}}, {"v": "\udfff"}),
    "a surrogate in the template": ({"html": "\ud800"}, {}),
    "a surrogate in an expression": ({"html": "{{ '\ud800' }}"}, {}),
    "a surrogate in a name": ({"html": "{{ v['\ud800'] }}"}, {"v": {"\ud800": 1}}),
    "a surrogate in a header": ({"text": "x", "headers": {"X-A": "\ud800"}}, {}),
    "a surrogate in a header's name": ({"text": "x", "headers": {"X-\ud800": "x"}}, {}),
    "a NUL": ({"html": "{{ v }}"}, {"v": "\0"}),
    "a NUL in the template": ({"html": "a\0b"}, {}),
    "a NUL in a subject": ({"text": "x", "subject": "a\0{{ v }}"}, {"v": "\0"}),
    "a NUL, at Resend": ({"template": {"id": "t"}}, {"v": ["\0"]}),
    "many expressions": ({"html": "{{a}}" * 190_000}, {"a": "x"}),
    "many conditions": ({"html": "{%if a%}{%endif%}" * 55_000}, {"a": "x"}),
    "many comments": ({"html": "{##}" * 240_000}, {}),
    "a long expression": ({"html": "{{ " + "a~" * 450_000 + "a }}"}, {"a": "x"}),
    "a long name": ({"html": "{{ " + "a" * 900_000 + " }}"}, {}),
    "brackets": ({"html": "{" * 900_000}, {}),
    "unclosed": ({"html": "{{ '" * 200_000}, {}),
    "many headers": (
        {"text": "x", "headers": {f"X-{n}": f"{n}{{{{ a }}}}" for n in range(9000)}},
        {"a": 1},
    ),
    "many tags": (
        {"text": "x", "tags": [{"name": f"n{n}", "value": "x"} for n in range(9000)]},
        {},
    ),
    "marks": ({"html": "{{ v|upper }}", "subject": "{{ v }}"}, {"v": "e\u0301\u0327" * 100_000}),
}


@pytest.mark.parametrize(("message", "variables"), _HOSTILE.values(), ids=_HOSTILE)
def test_a_hostile_mail_at_most_fails_to_render(
    message: dict[str, object], variables: dict[str, object]
) -> None:
    if "template" in message:
        message = {"subject": None, **message}
    with contextlib.suppress(RenderError, TooLargeError):
        body = str(_compose(message, variables))
        assert "\\x00" not in body
        assert "\\ud" not in body


@pytest.mark.parametrize(
    "source", [_HOSTILE[name][0]["html"] for name in ("many expressions", "a long expression")]
)
def test_too_long_templates_are_refused(source: str) -> None:
    with pytest.raises(RenderError, match=r"too (many expressions|long) \(line 1\)"):
        _compose({"html": source}, {"a": "x"})


def test_the_number_of_headers_is_limited() -> None:
    headers = {f"X-{number}": f"{number} {{{{ a }}}}" for number in range(101)}
    with pytest.raises(RenderError, match="headers: more than 100"):
        _compose({"text": "x", "headers": headers}, {"a": 1})


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "a\\u0000b"])
def test_an_escaped_nul_is_not_a_nul(text: str) -> None:
    assert _compose({"text": "{{ v }}"}, {"v": text})["text"] == text
    with pytest.raises(RenderError, match="NUL"):
        _compose({"text": "{{ v }}"}, {"v": f"{text}\0"})


@given(st.text())
def test_headers_contain_no_line_breaks(text: str) -> None:
    try:
        mail = _compose(
            {
                "subject": "{{ v }}",
                "text": "x",
                "headers": {"X-A": text},
                "from": f"A {text} {_ADDRESS}",
            },
            {"v": text},
        )
    except RenderError:
        return
    for line in (mail["subject"], mail["from"], *mail["headers"].values()):
        assert len(line.splitlines()) <= 1
        assert all(ord(letter) >= 32 for letter in line)


@given(st.text(), st.sampled_from(["from", "reply_to"]))
def test_addresses_contain_no_control_characters(text: str, field: str) -> None:
    breaks = any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in text)
    if breaks:
        with pytest.raises(RenderError, match=f"{field}: contains a control character"):
            _compose({"text": "x", field: f"A {text} {_ADDRESS}"})
        return
    mail = _compose({"text": "x", field: f"A {text} {_ADDRESS}"})
    given_back = mail[field] if field == "from" else mail[field][0]
    assert given_back == f"A {text} {_ADDRESS}"


def test_header_values_are_templates() -> None:
    mail = _compose(
        {"text": "x", "headers": {"X-Name": "{{ v }} {{ email }}", "X-Plain": "a\r\nb"}},
        {"v": "Ann\r\nBcc: evil@example.com"},
    )
    assert mail["headers"]["X-Name"] == "Ann Bcc: evil@example.com ann@example.com"
    assert mail["headers"]["X-Plain"] == "a b"
    with pytest.raises(RenderError, match="nobody"):
        _compose({"text": "x", "headers": {"X-Name": "{{ nobody }}"}})


@pytest.mark.parametrize("name", ["List-Unsubscribe", "list-unsubscribe-POST"])
def test_unsubscribe_headers_cannot_be_overridden(name: str) -> None:
    mail = _compose({"text": "x", "headers": {name: "{{ nobody }}"}})
    assert set(mail["headers"]) == {"List-Unsubscribe", "List-Unsubscribe-Post"}
    assert "nobody" not in str(mail["headers"])


def test_custom_unsubscribe_headers_are_kept_without_links() -> None:
    own = {
        "List-Unsubscribe": "<https://example.com/off/{{ recipient_id }}>",
        "list-unsubscribe-post": "List-Unsubscribe=One-Click",
    }
    mail = _compose({"text": "x", "headers": own}, links=None)
    assert mail["headers"] == own | {"List-Unsubscribe": "<https://example.com/off/r-1>"}


def test_tags_are_limited_to_what_resend_allows() -> None:
    mail = _compose(
        {
            "text": "x",
            "tags": [{"name": "a b", "value": "é\n" + "x" * 300}, {"name": "a.b", "value": "2"}],
        },
        organization_id="o.1",
    )
    tags = {tag["name"]: tag["value"] for tag in mail["tags"]}
    assert tags == {"a_b": "2", "campaign": "spring_26", "organization": "o_1"}
    long = _compose({"text": "x", "tags": [{"name": "a", "value": "x" * 300}]})["tags"]
    assert long[0] == {"name": "a", "value": "x" * 256}


def test_plain_fields_are_copied_unchanged() -> None:
    fields = {"topic_id": "t", "scheduled_at": "in 1 hour", "from": "{{ x }} <a@b.test>"}
    mail = _compose({"text": "x", "reply_to": ["a@b.test", "c@d.test"], **fields})
    assert {field: mail[field] for field in fields} == fields
    assert mail["reply_to"] == ["a@b.test", "c@d.test"]
    assert not {"expires_at", "expected_recipients", "html", "template"} & set(mail)


def test_builtin_variables_take_precedence() -> None:
    fixed = ["email", "recipient_id", "campaign_id", "organization_id", "name"]
    text = " ".join(f"{{{{ {variable} }}}}" for variable in fixed)
    mail = _compose({"text": text}, dict.fromkeys([*fixed, "unsubscribe_url"], "no"), name="Ann")
    assert mail["text"] == "ann@example.com r-1 spring:26 acme Ann"
    mail = _compose({"text": "{{ unsubscribe_url }}"}, {"unsubscribe_url": "no"})
    assert f"<{mail['text']}>" == mail["headers"]["List-Unsubscribe"]


def test_an_absent_name_is_undefined() -> None:
    assert _compose({"text": "{{ name|default('there') }}"})["text"] == "there"


def test_equal_messages_keep_their_own_campaign_tag() -> None:
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    seen = []
    for campaign in ("c1", "c2", "c1"):
        fields = {"organization_id": "o", "campaign_id": campaign, "recipient_id": "r"}
        event = EventSchema.model_validate({**fields, "email": "a@b.test"})
        message = Message.model_validate({"from": "a@b.test", "subject": "s", "text": "t"})
        mail = orjson.loads(composer.compose(RecipientEvent.of(event), "a@b.test", message))
        seen.append(mail["tags"][0]["value"])
    assert seen == ["c1", "c2", "c1"]


def test_the_size_limit_counts_bytes() -> None:
    def size_of(text: str, limit: int) -> int:
        event = EventSchema.model_validate(
            {"organization_id": "o", "campaign_id": "c", "recipient_id": "r", "email": "a@b.test"}
        )
        message = Message.model_validate({"from": "a@b.test", "subject": "s", "text": text})
        return len(
            Composer(Templates(limit), _LINKS, limit).compose(
                RecipientEvent.of(event), "a@b.test", message
            )
        )

    size = size_of("é" * 1000, _MAX)
    assert size_of("é" * 1000, size) == size
    with pytest.raises(TooLargeError, match=f"{size} bytes, the limit is {size - 1}"):
        size_of("é" * 1000, size - 1)


def test_error_messages_are_short() -> None:
    with pytest.raises(RenderError) as caught:
        _compose({"text": "{{ " + "x" * 10_000 + " }}"})
    assert len(str(caught.value)) <= 500


def test_an_engine_panic_is_a_render_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """Like the engine's, not an Exception."""

    def panics(*_: object, **__: object) -> str:
        raise PanicException

    templates = Templates(_MAX)
    assert templates.render_text("a", {}) == "a"
    with monkeypatch.context() as patched:
        patched.setattr("minijinja.Environment.render_template", panics, raising=False)
        with pytest.raises(RenderError, match="engine"):
            templates.render_text("a", {})
    assert templates.render_text("a", {}) == "a"


def test_old_templates_are_evicted() -> None:
    templates = Templates(_MAX)
    for number in range(1500):
        assert templates.render_text(f"{number} {{{{ x }}}}", {"x": "y"}) == f"{number} y"
    big = "x" * 900_000
    tracemalloc.start()
    try:
        for number in range(40):
            assert templates.render_text(f"{number}{big}", {}).startswith(str(number))
        assert tracemalloc.get_traced_memory()[0] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Environment]]:
    """The engine of each compiled template."""
    made: list[weakref.ref[Environment]] = []
    add_template = Environment.add_template

    def noted(engine: Environment, name: str, source: str) -> None:
        made.append(weakref.ref(engine))
        add_template(engine, name, source)

    monkeypatch.setattr(Environment, "add_template", noted, raising=False)
    return made


def test_threads_share_compiled_templates(
    engines: list[weakref.ref[Environment]],
) -> None:
    templates = Templates(_MAX)
    assert templates.render_text("a {{ x }}", {"x": 0}) == "a 0"
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda x: templates.render_text("a {{ x }}", {"x": x}), range(200))
        assert list(made) == [f"a {x}" for x in range(200)]
    assert len(engines) == 1


def test_the_template_cache_is_limited_in_bytes(engines: list[weakref.ref[Environment]]) -> None:
    templates = Templates(_MAX, most_cached=1_000_000)
    for number in range(60):
        assert templates.render_text(f"{number}{'{{ x }}' * 200}", {"x": ""}) == str(number)
        templates.render_text("used {{ x }}", {"x": ""})
    gc.collect()
    alive = [engine() is not None for engine in engines]
    assert 5 < sum(alive) < 30
    assert alive[0] is False
    assert alive[1] is True  # recently used
    assert alive[-1] is True


def test_threads_compile_render_and_evict_concurrently() -> None:
    templates = Templates(_MAX, most_cached=100_000)

    def render(number: int) -> bool:
        source = f"{number % 13} {{{{ x|string|first|length }}}} {{{{ x }}}}"
        return templates.render_text(source, {"x": number}) == f"{number % 13} 1 {number}"

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(render, range(2000)))


def test_undefined_variables_do_not_leak_between_threads() -> None:
    templates = Templates(_MAX)

    def renders(number: int) -> bool:
        try:
            templates.render_text("{{ l|first|tojson }}", {"l": "x" * (number % 2)})
        except RenderError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(renders, range(1000))) == [n % 2 == 1 for n in range(1000)]


def test_a_failing_template_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    templates = Templates(_MAX)
    with pytest.raises(RenderError, match="syntax error"):
        templates.render_text("{{ x", {})
    with monkeypatch.context() as patched:
        patched.delattr("streamer.mail.templates.narrow")
        with pytest.raises(RenderError, match="syntax error"):
            templates.render_text("{{ x", {})


def test_line_breaks_in_a_subject_become_one_space() -> None:
    mail = _compose({"subject": "a\r\n\nBcc: {{ v }}\u2028c", "text": "x"}, {"v": "b\x00"})
    assert mail["subject"] == "a Bcc: b c"


@given(st.text(st.characters(exclude_characters="\0")))
def test_values_inserted_in_html_are_escaped(text: str) -> None:
    mail = _compose({"html": "<p>{{ v }}</p>"}, {"v": text})
    inserted = mail["html"].removeprefix("<p>").removesuffix("</p>")
    assert not set(inserted) & set("<>\"'")


@pytest.mark.parametrize("name", ["X Y", "X:", "", "X\n", "Ü"])
def test_invalid_header_names_are_refused(name: str) -> None:
    with pytest.raises(RenderError, match="header"):
        _compose({"text": "x", "headers": {name: "y"}})


def test_threads_share_a_composer() -> None:
    composer = Composer(Templates(_MAX), _LINKS, _MAX)
    message = Message.model_validate({"from": "a@b.test", "subject": "{{ n }}", "text": "{{ n }}"})

    def subject(number: int) -> bool:
        event = EventSchema.model_validate(
            {
                "organization_id": f"o{number % 7}",
                "campaign_id": "c",
                "recipient_id": "r",
                "email": "e",
                "variables": {"n": number},
            }
        )
        mail = orjson.loads(composer.compose(RecipientEvent.of(event), f"{number}@b.test", message))
        return bool(mail["subject"] == mail["text"] == str(number))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(subject, range(2000)))
