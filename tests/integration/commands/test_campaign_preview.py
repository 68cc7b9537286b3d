"""`campaign preview` against a real Redis."""

import tempfile
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.kit.desk import HTML, LINKS, VARS, Desk
from tests.kit.operator import CommandRunner


def concerns(answer: Mapping[str, Any]) -> list[str]:
    return [warning["concern"] for warning in answer["warnings"]]


def test_preview_renders_the_workers_mail(desk: Desk, tmp_path: Path) -> None:
    desk.define(headers={"X-Season": "{{ first_name }}"}, reply_to="help@acme.test")
    before = desk.client.keys("*")
    folder = tmp_path / "new" / "folder"
    answer = desk.json("preview", "--vars", VARS, "--output", folder)
    url = LINKS.url(desk.organization, "spring", "recipient@example.com")
    assert (answer["rendered"], answer["error"], answer["warnings"]) == (True, None, [])
    assert answer["recipient"]["email"] == "recipient@example.com"
    mail = answer["mail"]
    assert mail["to"] == ["recipient@example.com"]
    assert mail["subject"] == "Hello Ann"
    assert mail["text"] == f"Hi Ann\n{url}"
    assert mail["headers"] == {
        "X-Season": "Ann",
        "List-Unsubscribe": f"<{url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    assert orjson.loads((folder / "mail.json").read_bytes()) == mail
    assert (folder / "mail.json").stat().st_size == answer["bytes"]
    assert (folder / "mail.html").read_text() == mail["html"]
    assert (folder / "mail.txt").read_text() == mail["text"]

    shown = desk.run("preview", "--vars", VARS).stdout
    for words in (
        f"campaign: {desk.campaign}",
        "from: Acme <news@acme.test>",
        "to: recipient@example.com",
        "reply_to: help@acme.test",
        "X-Season: Ann",
        "subject: Hello Ann",
        "Hi Ann",
        "<p>Hi Ann",
    ):
        assert words in shown
    assert "warning" not in shown
    assert desk.client.keys("*") == before
    assert desk.sandbox.stats().calls == 0


def test_preview_deletes_files_of_missing_parts(desk: Desk, tmp_path: Path) -> None:
    desk.define(text=None)
    folder = tmp_path / "mail"
    folder.mkdir()
    (folder / "mail.txt").write_text("a template of mine")
    refused = desk.run("preview", "--vars", VARS, "--output", folder, code=1)
    assert "mail.txt was not written by preview" in refused.stderr
    assert [path.name for path in folder.iterdir()] == ["mail.txt"]
    (folder / "mail.txt").unlink()
    for _ in range(2):
        answer = desk.json("preview", "--vars", VARS, "--output", folder)
    assert concerns(answer) == ["missing_text"]
    names = [".streamer-preview", "mail.html", "mail.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    shown = desk.run("preview", "--vars", VARS).stdout
    assert "warning: the mail has no text part: add `text`" in shown


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one.json", '{"email": "Bo@Example.com",\n "variables": {"first_name": "Bo"}}'),
        ("two.jsonl", '{"email":"Bo@Example.com","variables":{"first_name":"Bo"}}\n{"x'),
        ("three.CSV", "email,first_name\nBo@Example.com,Bo\nbad\n"),
    ],
)
def test_preview_reads_a_recipient_file(
    desk: Desk, tmp_path: Path, name: str, content: str
) -> None:
    desk.define()
    file = tmp_path / name
    file.write_text(content)
    answer = desk.json("preview", "--recipient", file)
    assert answer["mail"]["to"] == ["bo@example.com"]
    assert answer["mail"]["subject"] == "Hello Bo"


def test_an_inline_message_needs_no_campaign(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    message = {"from": "a@b.test", "subject": "own", "text": "x"}
    file.write_bytes(orjson.dumps({"email": "bo@example.com", "message": message}))
    assert desk.json("preview", "--recipient", file)["mail"]["subject"] == "own"


def test_every_undefined_variable_is_reported(desk: Desk, tmp_path: Path) -> None:
    desk.define(html=f"{HTML}{{{{ shop.url }}}}", text="{{ city }}")
    answer = desk.json("preview", "--output", tmp_path / "out", code=1)
    assert (answer["rendered"], answer["mail"]) == (False, None)
    assert answer["error"].startswith("render_error: undefined variable: first_name")
    assert [warning["text"] for warning in answer["warnings"]] == [
        "first_name is undefined",
        "shop.url is undefined",
        "city is undefined",
    ]
    assert not (tmp_path / "out").exists()
    failure = desk.run("preview", code=1)
    assert "warning: city is undefined: define it" in failure.stdout
    assert "cannot render the mail for recipient@example.com" in failure.stderr


@pytest.mark.parametrize(
    ("email", "html", "error"),
    [("nobody", "x", "invalid_address"), ("a@example.com", "{{ 1 // 0 }}", "render_error")],
)
def test_unsendable_mails_are_reported(
    desk: Desk, tmp_path: Path, email: str, html: str, error: str
) -> None:
    desk.define(html=html, subject="s", text=None)
    file = tmp_path / "one.json"
    file.write_bytes(orjson.dumps({"email": email}))
    assert error in desk.json("preview", "--recipient", file, code=1)["error"]


def test_a_too_large_mail_is_reported(desk: Desk) -> None:
    desk.define(html="{{ long }}", subject="s", text=None)
    long = orjson.dumps({"long": "x" * 3000}).decode()
    limit = {"STREAMER_MAIL__MAX_BYTES": "2000"}
    failure = desk.run("preview", "--vars", long, code=1, env=limit)
    assert "too_large" in failure.stderr


def test_invalid_preview_arguments(desk: Desk, tmp_path: Path) -> None:
    assert "is not defined" in desk.run("preview", code=1).stderr
    desk.define()
    file = tmp_path / "one.txt"
    assert "unknown format" in desk.run("preview", "--recipient", file, code=2).stderr
    missing = tmp_path / "one.json"
    assert "No such file" in desk.run("preview", "--recipient", missing, code=1).stderr
    missing.write_text("{")
    assert "not JSON" in desk.run("preview", "--recipient", missing, code=1).stderr
    missing.write_text("{}")
    assert "no email" in desk.run("preview", "--recipient", missing, code=1).stderr
    empty = tmp_path / "none.csv"
    empty.write_text("email\n")
    assert "no recipient" in desk.run("preview", "--recipient", empty, code=1).stderr
    both = ("--recipient", missing, "--vars", "{}")
    assert "not both" in desk.run("preview", *both, code=2).stderr
    assert "expected a JSON object" in desk.run("preview", "--vars", "[]", code=2).stderr
    without = {"STREAMER_UNSUBSCRIBE__BASE_URL": ""}
    assert "unsubscribe.base_url" in desk.run("preview", code=2, env=without).stderr


def test_open_shows_the_html_in_a_browser(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_(url: str) -> bool:
        opened.append(url)
        return len(opened) == 1

    monkeypatch.setattr(webbrowser, "open", open_)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    desk.define()
    desk.run("preview", "--vars", VARS, "--output", tmp_path, "--open")
    assert opened == [(tmp_path / "mail.html").as_uri()]
    failed = desk.run("preview", "--vars", VARS, "--open")
    assert "cannot open a browser" in failed.stderr
    page = Path(opened[1].removeprefix("file://"))
    assert "Hi Ann" in page.read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"from": "Acme"}, "from: no address found"),
        ({"reply_to": "nobody"}, "reply_to: no address found"),
        ({"html": "{{ first_name|uper }}"}, "did you mean upper?"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "is in the past"),
        ({"subject": " "}, "subject: empty"),
    ],
)
def test_content_that_nobody_can_get_is_shown(
    desk: Desk, changes: dict[str, object], words: str
) -> None:
    desk.define(**changes)
    assert words in desk.run("preview", "--vars", VARS, code=1).stderr
    (fault,) = desk.json("preview", "--vars", VARS, code=1)["faults"]
    assert words in fault
    to = ("--to", "ann@example.com", "--vars", VARS)
    refused = desk.run("test", *to, code=1)
    assert "nothing was sent" in refused.stderr
    assert words in refused.stderr
    assert desk.sandbox.stats().calls == 0
    checked = CommandRunner(desk.environment, desk.organization, "spring").run("doctor", code=1)
    assert f"campaign {desk.campaign}: " in checked.stdout
    assert words in checked.stdout
