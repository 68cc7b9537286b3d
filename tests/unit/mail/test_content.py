"""What is judged before the first mail."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.mail import templates as module
from streamer.mail.content import content_faults, field_faults, variables
from streamer.mail.templates import Templates
from streamer.mail.uses import UseKind
from streamer.model.campaign import Message

NOW = datetime(2026, 11, 24, tzinfo=UTC)
TEMPLATES = Templates(1_000_000)
GOOD: dict[str, object] = {"from": "Acme <news@acme.test>", "subject": "Hi", "text": "Hello"}


def faults(**changes: object) -> list[str]:
    return content_faults(Message.model_validate(GOOD | changes), TEMPLATES, NOW)


def test_good_content_has_no_faults() -> None:
    assert faults(reply_to=["Help <help@acme.test>", "a@b.cc"], headers={"X-A": "{{ a }}"}) == []
    assert (
        faults(text="{{ a|default('x') }}{{ range(3)|join }}{% for x in y %}{{ loop.index }}") != []
    )
    assert faults(text="{% for x in y %}{{ loop.index }}{{ x.get('a', 1) }}{% endfor %}") == []
    assert faults(expires_at="2026-11-24T00:00:01Z") == []
    assert faults(subject=None, text=None, template={"id": "welcome"}) == []


def test_every_fault_is_named_at_once() -> None:
    found = faults(**{"from": "Acme", "reply_to": "nobody", "subject": "", "text": "{{ a|x }}"})
    assert [fault.partition(":")[0] for fault in found] == ["from", "reply_to", "subject", "text"]


def test_an_expiry_is_a_fault_only_when_it_has_passed() -> None:
    assert faults(expires_at="2026-11-24T00:00:00Z") == [
        "expires_at: 2026-11-24T00:00:00+00:00 is in the past"
    ]
    late = Message.model_validate(GOOD | {"expires_at": "2020-01-01T00:00:00Z"})
    assert list(field_faults(late)) == []


def test_variables_of_all_parts_are_found() -> None:
    parts = {
        "subject": "{{ a }}",
        "html": "{% if b %}{{ c.d }}{% endif %}",
        "text": "{{ e|upper }}",
    }
    message = Message.model_validate({"from": "a@b.cc", "headers": {"X-F": "{{ f }}"}, **parts})
    assert {"a", "b", "c", "e", "f"} <= variables(message, TEMPLATES)
    assert "nobody" not in variables(message, TEMPLATES)


@pytest.mark.parametrize("kind", UseKind)
def test_what_is_suggested_exists(kind: UseKind) -> None:
    form, _, names = module._LOOKUPS[kind]
    for name in names:
        assert not any(each.startswith("unknown") for each in TEMPLATES.faults(form.format(name)))


@pytest.mark.parametrize("name", [*module._REFUSED_FILTERS, "nope"])
def test_filters_that_are_not_accepted_are_unknown(name: str) -> None:
    (fault,) = TEMPLATES.faults(f"a\n{{{{ x|{name} }}}}")
    assert fault.startswith(f"unknown filter: {name} (line 2)")


@given(st.text(alphabet="{}%|x( )'is notmap.fiter", max_size=40))
def test_any_source_can_be_judged(source: str) -> None:
    assert all(isinstance(fault, str) for fault in TEMPLATES.faults(source))
    assert isinstance(TEMPLATES.names(source), frozenset)
