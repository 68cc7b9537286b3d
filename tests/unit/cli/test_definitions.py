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
        ({"reply_to": ["a@b.cc", "{{ x }"]}, "reply_to: syntax error"),
        ({"expires_at": "2026-12-01T00:00:00"}, "expires_at: "),
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
