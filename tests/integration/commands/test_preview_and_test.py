"""`campaign preview` and `campaign test` against a real Redis and the sandbox."""

import secrets
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from streamer.cli import app
from streamer.ledger import campaigns, keys, suppression
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.limiter import Limiter
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Definition
from streamer.sandbox import DEFAULT_KEY, Faults, SandboxProcess
from streamer.settings import Redis as RedisSettings
from streamer.stack import Redis

SECRET = "a secret for tests alone"
LINKS = UnsubscribeLinks("https://example.com/u", [SECRET.encode()])
HTML = "<p>Hi {{ first_name }} <a href='{{ unsubscribe_url }}'>no more</a></p>"
TEXT = "Hi {{ first_name }}\n{{ unsubscribe_url }}"
VARS = '{"first_name": "Ann"}'
NO_CHANGE: Mapping[str, str] = {}


class Desk:
    """Somebody at a terminal, with a Redis and a sandbox, and no Kafka."""

    def __init__(self, redis: Redis, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.client: Client = connect(RedisSettings(url=redis.url))
        self.organization = f"org-{secrets.token_hex(4)}"
        self.campaign = f"{self.organization}/spring"
        self.environment = {
            "STREAMER_REDIS__URL": redis.url,
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "STREAMER_UNSUBSCRIBE__BASE_URL": "https://example.com/u",
            "STREAMER_UNSUBSCRIBE__SECRET": SECRET,
            "RESEND_API_KEY": DEFAULT_KEY,
            "RESEND_API_URL": sandbox.url,
        }

    def define(self, **changes: object) -> None:
        """Define the campaign."""
        fields = {
            "organization_id": self.organization,
            "campaign_id": "spring",
            "from": "Acme <news@acme.test>",
            "subject": "Hello {{ first_name }}",
            "html": HTML,
            "text": TEXT,
            **changes,
        }
        assert campaigns.create(self.client, Definition.model_validate(fields))

    def run(
        self,
        command: str,
        *arguments: str | Path,
        code: int = 0,
        env: Mapping[str, str] = NO_CHANGE,
    ) -> Result:
        """Run `campaign COMMAND`, which must end with the code."""
        words = ["campaign", command, self.campaign, *map(str, arguments)]
        result = CliRunner().invoke(app, words, env={**self.environment, **env})
        assert result.exit_code == code, result.output
        return result

    def json(  # the answer, whose fields are looked at one by one
        self, command: str, *arguments: str | Path, code: int = 0
    ) -> Any:
        """Run it, and read its answer."""
        return orjson.loads(self.run(command, *arguments, "--json", code=code).stdout)


@pytest.fixture
def desk(make_redis: Callable[[], Redis], sandbox: SandboxProcess) -> Iterator[Desk]:
    one = Desk(make_redis(), sandbox)
    yield one
    one.client.close()


def concerns(answer: Mapping[str, Any]) -> list[str]:
    return [warning["concern"] for warning in answer["warnings"]]


# Preview


def test_a_preview_is_the_mail_that_a_worker_would_send(desk: Desk, tmp_path: Path) -> None:
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


def test_a_part_that_is_gone_leaves_no_file(desk: Desk, tmp_path: Path) -> None:
    desk.define(text=None)
    folder = tmp_path / "mail"
    folder.mkdir()
    (folder / "mail.txt").write_text("of another campaign")
    answer = desk.json("preview", "--vars", VARS, "--output", folder)
    assert concerns(answer) == ["missing_text"]
    assert sorted(path.name for path in folder.iterdir()) == ["mail.html", "mail.json"]
    shown = desk.run("preview", "--vars", VARS).stdout
    assert "warning: there is no text part: add one" in shown


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("one.json", '{"email": "Bo@Example.com",\n "variables": {"first_name": "Bo"}}'),
        ("two.jsonl", '{"email":"Bo@Example.com","variables":{"first_name":"Bo"}}\n{"x'),
        ("three.CSV", "email,first_name\nBo@Example.com,Bo\nbad\n"),
    ],
)
def test_a_recipient_of_a_file(desk: Desk, tmp_path: Path, name: str, content: str) -> None:
    desk.define()
    file = tmp_path / name
    file.write_text(content)
    answer = desk.json("preview", "--recipient", file)
    assert answer["mail"]["to"] == ["bo@example.com"]
    assert answer["mail"]["subject"] == "Hello Bo"


def test_an_event_that_carries_its_message_needs_no_campaign(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    message = {"from": "a@b.test", "subject": "own", "text": "x"}
    file.write_bytes(orjson.dumps({"email": "bo@example.com", "message": message}))
    assert desk.json("preview", "--recipient", file)["mail"]["subject"] == "own"


def test_every_undefined_variable_is_said(desk: Desk, tmp_path: Path) -> None:
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
    assert "warning: city is undefined: give it" in failure.stdout
    assert "it cannot be rendered for recipient@example.com" in failure.stderr


@pytest.mark.parametrize(
    ("email", "html", "error"),
    [("nobody", "x", "invalid_address"), ("a@example.com", "{{ 1 // 0 }}", "render_error")],
)
def test_what_a_worker_could_not_send(
    desk: Desk, tmp_path: Path, email: str, html: str, error: str
) -> None:
    desk.define(html=html, subject="s", text=None)
    file = tmp_path / "one.json"
    file.write_bytes(orjson.dumps({"email": email}))
    assert error in desk.json("preview", "--recipient", file, code=1)["error"]


def test_a_mail_that_is_too_large(desk: Desk) -> None:
    desk.define(html="x" * 3000, subject="s", text=None)
    failure = desk.run("preview", code=1, env={"STREAMER_MAIL__MAX_BYTES": "2000"})
    assert "too_large" in failure.stderr


def test_previews_that_cannot_be_had(desk: Desk, tmp_path: Path) -> None:
    assert "is not defined" in desk.run("preview", code=1).stderr
    desk.define()
    file = tmp_path / "one.txt"
    assert "of what format" in desk.run("preview", "--recipient", file, code=2).stderr
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
    assert "not a JSON object" in desk.run("preview", "--vars", "[]", code=2).stderr
    without = {"STREAMER_UNSUBSCRIBE__BASE_URL": ""}
    assert "unsubscribe.base_url" in desk.run("preview", code=2, env=without).stderr


def test_the_html_is_opened(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "no browser could be opened" in failed.stderr
    page = Path(opened[1].removeprefix("file://"))
    assert "Hi Ann" in page.read_text()


# Test


def test_a_test_mail_goes_to_each_address_once(desk: Desk) -> None:
    desk.define(scheduled_at="in 3 days")
    to = ("--to", "Ann@Example.com", "--to", "bo@example.com", "--to", "ann@example.com ")
    answer = desk.json("test", "--vars", VARS, *to)
    assert (answer["sent"], answer["refused"], answer["suppressed"]) == (2, 0, 0)
    accepted = {each.address: each for each in desk.sandbox.acceptances()}
    assert {each["address"]: each["email_id"] for each in answer["addresses"]} == {
        address: acceptance.email_id for address, acceptance in accepted.items()
    }
    assert accepted.keys() == {"ann@example.com", "bo@example.com"}
    assert desk.sandbox.stats().calls == 1
    # It is none of the campaign's.
    assert {each.campaign for each in accepted.values()} == {""}
    assert "ann@example.com" in desk.run("test", "--vars", VARS, "--to", "ann@example.com").stdout


def test_a_test_mail_is_not_claimed_and_gives_the_ledger_no_epoch(desk: Desk) -> None:
    desk.define()
    before = sorted(desk.client.keys("*"))
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    assert sorted(desk.client.keys("*")) == before
    assert desk.sandbox.stats().accepted == 1


def test_a_test_mail_takes_a_send_slot_that_workers_share(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    taken = int(desk.client.get(keys.account_limiter("default")) or 0)
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    again = int(desk.client.get(keys.account_limiter("default")) or 0)
    assert again - taken >= 100_000  # microseconds: 10 a second at most
    assert desk.sandbox.stats().accepted == 2


def test_with_a_ledger_that_is_not_its_own_nothing_is_sent(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    desk.client.set(keys.account_epoch("default"), "e2")
    failure = desk.run("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert "nothing was sent: the ledger" in failure.stderr
    assert desk.sandbox.stats().calls == 0


def test_while_calls_keep_failing_none_is_made(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    limiter = Limiter(desk.client, Epoch(desk.client, "e1"))
    for _ in range(15):
        limiter.failed("default", "b")
    failure = desk.run("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert "the calls of account default keep failing" in failure.stderr
    assert desk.sandbox.stats().calls == 0


def test_a_test_mail_shows_whether_a_hold_is_over(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    desk.client.hset(keys.account_holds("default"), "*", "daily_quota_exceeded")
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    assert desk.sandbox.stats().accepted == 1


def test_a_suppressed_address_is_refused(desk: Desk) -> None:
    desk.define()
    suppression.add(desk.client, desk.organization, ["ann@example.com"])
    to = ("--to", "Ann@example.com", "--to", "bo@example.com")
    answer = desk.json("test", "--vars", VARS, *to, code=1)
    assert (answer["sent"], answer["suppressed"]) == (1, 1)
    assert [each.address for each in desk.sandbox.acceptances()] == ["bo@example.com"]
    desk.run("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert desk.sandbox.stats().calls == 1
    desk.run("test", "--vars", VARS, "--to", "ann@example.com", "--even-suppressed")
    assert desk.sandbox.acceptances()[-1].address == "ann@example.com"


def test_resends_words_are_shown(desk: Desk) -> None:
    desk.define()
    desk.sandbox.order(Faults(refused=frozenset({"ann@example.com"})))
    to = ("--to", "ann@example.com", "--to", "bo@example.com")
    answer = desk.json("test", "--vars", VARS, *to, code=1)
    assert (answer["sent"], answer["refused"]) == (1, 1)
    refused = next(each for each in answer["addresses"] if each["result"] == "refused")
    assert "refused by this sandbox" in refused["detail"]
    desk.sandbox.order(Faults(refuse_key="invalid_api_key"))
    shown = desk.run("test", "--vars", VARS, *to, code=1).stdout
    assert shown.count("invalid_api_key") == 2


def test_without_an_answer_it_is_said_that_nobody_knows(desk: Desk) -> None:
    desk.define()
    desk.sandbox.order(Faults(outage="drop"))
    answer = desk.json("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert answer["unknown"] == 1
    assert "may have been sent" in answer["addresses"][0]["detail"]
    assert len(desk.sandbox.calls()) == 1


def test_tests_that_cannot_be_sent(desk: Desk) -> None:
    to = ("--to", "ann@example.com")
    assert "is not defined" in desk.run("test", *to, code=1).stderr
    desk.define()
    assert "is no address" in desk.run("test", *to, "--to", "ann", code=2).output
    assert "--to" in desk.run("test", code=2).output
    many = [word for number in range(101) for word in ("--to", f"u{number}@example.com")]
    assert "100 are allowed" in desk.run("test", *many, code=2).stderr
    failure = desk.run("test", *to, code=1).stderr
    assert "first_name is undefined" in failure
    assert "nothing was sent" in failure
    small = {"STREAMER_BATCH__MAX_BYTES": "500"}
    assert "fewer" in desk.run("test", "--vars", VARS, *to, code=1, env=small).stderr
    no_key = {"RESEND_API_KEY": ""}
    assert "no API key" in desk.run("test", "--vars", VARS, *to, code=1, env=no_key).stderr
    other = {"STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS": '["other"]'}
    other |= {"STREAMER_ACCOUNTS__DEFAULT__API_KEY_ENV": "RESEND_API_KEY"}
    assert "no account serves" in desk.run("test", *to, code=1, env=other).stderr
    assert desk.sandbox.stats().calls == 0
