"""Definitions are parsed strictly: a misspelt field would be missing in every mail."""

import io
from pathlib import Path

import orjson
import pytest

from streamer.cli.definitions import InvalidDefinitionError, from_json, read_text
from streamer.model.campaign import Definition

DEFINITION: dict[str, object] = {
    "organization_id": "acme",
    "campaign_id": "spring-26",
    "from": "Acme <news@acme.test>",
    "subject": "Hello {{ first_name }}",
    "html": "<p>Hello</p>",
}


def test_a_valid_definition_is_parsed() -> None:
    found = from_json(orjson.dumps(DEFINITION).decode())
    assert type(found) is Definition
    assert found == Definition.model_validate(DEFINITION)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"replyTo": "a@b.cc"}, "replyTo: unknown field"),
        ({"attachments": []}, "attachments: unknown field"),
        ({"campaign_id": "a b"}, "campaign_id: "),
        ({"from": "Acme"}, "from: no address found"),
        ({"from": "Acme <news>"}, "from: no address found"),
        ({"from": "Acme <news@acme>"}, "from: the domain has no dot"),
        ({"subject": None}, "subject is required"),
        ({"html": None}, "at least one of html, text and template"),
        ({"subject": "{{ x"}, "subject: syntax error"),
        ({"text": "a\n{% if %}"}, "text: syntax error"),
        ({"headers": {"X-A": "{{"}}, "headers.X-A: syntax error"),
        ({"reply_to": ["a@b.cc", "{{ x }"]}, "reply_to: no address found"),
        ({"from": "Acme <ne ws@acme.test>"}, "from: the part before the @"),
        ({"headers": {"X A": "x"}}, "headers: invalid name 'X A'"),
        ({"expires_at": "2026-12-01T00:00:00"}, "expires_at: "),
        ({"expires_at": "2020-12-01T00:00:00Z"}, "expires_at: 2020-12-01T00:00:00+00:00 is in the"),
        ({"subject": " "}, "subject: empty"),
        ({"html": "\n", "text": ""}, "html, text: the mail has no body"),
        (
            {"text": "{{ a }}\n{{ b|uper }}{{ c|defualt('x') }}"},
            "text: unknown filter: uper (line 2); did you mean upper?; "
            "text: unknown filter: defualt (line 2); did you mean default?",
        ),
        ({"html": "{% filter titel %}x{% endfilter %}"}, "html: unknown filter: titel (line 1)"),
        ({"html": "{{ a|map('uper')|join }}"}, "html: unknown filter: uper (line 1); did you mean"),
        (
            {"html": "{% if a is not defind %}x{% endif %}"},
            "unknown test: defind (line 1); did you",
        ),
        ({"html": "{{ rnage(3) }}"}, "unknown function: rnage (line 1); did you mean range?"),
    ],
)
def test_each_error_is_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidDefinitionError) as error:
        from_json(orjson.dumps(DEFINITION | change).decode())
    assert words in str(error.value)


def test_invalid_json_is_refused() -> None:
    with pytest.raises(InvalidDefinitionError):
        from_json("nope")


def test_text_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.html"
    file.write_bytes("\ufeff<p>ü</p>".encode())
    assert read_text(file) == "<p>ü</p>"
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidDefinitionError, match="not UTF-8"):
        read_text(file)
    with pytest.raises(InvalidDefinitionError, match="No such file"):
        read_text(tmp_path / "b.html")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    assert read_text(Path("-")) == "text"
