"""Names that do not exist: every command says so with the nearest, and changes nothing."""

from collections.abc import Iterator
from typing import cast

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from streamer.cli import app
from streamer.ledger import keys
from streamer.ledger.connection import Client
from tests.kit.operator import CommandRunner

CAMPAIGN = (
    *(("campaign", command) for command in ("show", "pause", "resume", "close", "preview")),
    *(("campaign", command, "--yes") for command in ("cancel", "delete", "drop")),
    ("campaign", "edit", "--subject", "x", "--yes"),
    ("campaign", "copy", "{new}"),
    ("campaign", "test", "--to", "a@b.cc"),
    ("produce", "-", "--format", "csv"),
    ("progress",),
    ("watch",),
    ("outcomes",),
    ("outcomes", "--all"),
    ("outcomes", "--follow"),
    ("retry", "--status", "failed"),
    ("trace", "--email", "a@b.cc"),
    ("trace", "--recipient", "r-1"),
)
ORGANIZATION = (
    ("campaign", "list"),
    ("suppress", "add", "a@b.cc"),
    ("suppress", "remove", "a@b.cc"),
    ("suppress", "remove", "--all", "--yes"),
    ("suppress", "check", "a@b.cc"),
    ("suppress", "export"),
    ("account", "hold"),
    ("account", "release"),
)
NAMED = {"campaign", "organization"}
EXEMPT = {
    ("dlq", "list"),  # dead letters name campaigns that may not exist
    ("dlq", "replay"),
    ("dlq", "purge"),
    ("suppress", "import"),  # as `suppress add`
}


@pytest.fixture
def known(operator: CommandRunner, client: Client) -> Iterator[CommandRunner]:
    """A campaign, and the state of Redis, which no command may change."""
    operator.ready()
    before = _kept(client)
    yield operator
    assert _kept(client) == before


def _kept(client: Client) -> dict[bytes, bytes | None]:
    """All that is in Redis, without what other tests left to expire, as leases."""
    found = cast(list[bytes], client.keys("*"))
    return {key: client.dump(key) for key in found if client.pttl(key) == -1}


def _command(words: tuple[str, ...], name: str, new: str = "") -> list[str]:
    """Put the name behind the words of the command itself."""
    groups = {"campaign", "suppress", "account"}
    count = 2 if words[0] in groups else 1
    return [*words[:count], name, *(word.format(new=new) for word in words[count:])]


ENVIRONMENT = {
    "RESEND_API_KEY": "re_sandbox",
    "RESEND_API_URL": "http://127.0.0.1:1",
    "STREAMER_UNSUBSCRIBE__REQUIRED": "false",
}


def test_no_command_takes_a_campaign_that_does_not_exist(known: CommandRunner) -> None:
    organization = known.organization
    for words in CAMPAIGN:
        for name, near in (
            (f"{organization}/sprign-26", True),
            (f"{organization[:-1]}/spring-26", True),
            ("qqq/zzz", False),
        ):
            command = _command(words, name, new=f"{organization}/new")
            result = known.run(*command, code=1, env=ENVIRONMENT, stdin=b"email\na@b.cc\n")
            assert f"campaign {name} is not defined" in result.stderr, command
            is_named = f"did you mean {known.campaign}" in result.stderr
            assert is_named == near, (command, result.stderr)
            assert result.stdout == "" or words[0] in ("trace", "retry"), command


def test_no_command_takes_an_organization_that_does_not_exist(known: CommandRunner) -> None:
    name = f"x{known.organization}"
    for words in ORGANIZATION:
        result = known.run(*_command(words, name), code=1)
        assert "organization" in result.stderr, words
        assert f"did you mean {known.organization}" in result.stderr, words
        assert result.stdout == ""


def test_a_recipient_that_does_not_exist_is_reported(known: CommandRunner) -> None:
    for option in (("--email", "a@b.cc"), ("--recipient", "r-9")):
        failure = known.run("outcomes", known.campaign, *option, code=1).stderr
        assert f"no outcome of {'address' if option[0] == '--email' else 'recipient'}" in failure
        assert "no trace of" in known.run("trace", known.campaign, *option, code=1).stderr


def test_every_command_with_a_name_is_covered() -> None:
    every = dict(_leaves(get_command(app)))
    found = {
        words
        for words, command in every.items()
        if {each.name for each in command.params} & NAMED
        or (words[0] == "account" and words != ("account", "list"))
    }
    covered = {words[:2] if words[:2] in every else words[:1] for words in CAMPAIGN + ORGANIZATION}
    assert found - EXEMPT == covered


def _leaves(command: object, *words: str) -> Iterator[tuple[tuple[str, ...], TyperCommand]]:
    if isinstance(command, TyperGroup):
        for word, each in command.commands.items():
            yield from _leaves(each, *words, word)
    elif isinstance(command, TyperCommand):
        yield words, command


def test_a_new_organization_is_declared(operator: CommandRunner, client: Client) -> None:
    refused = operator.run("suppress", "add", operator.organization, "a@b.cc", code=1).stderr
    assert "if it is new, give --new" in refused
    assert not client.exists(keys.suppressed(operator.organization))
    operator.run("suppress", "add", operator.organization, "--new", "-", stdin=b"a@b.cc\n")
    assert operator.json("suppress", "export", operator.organization) == ["a@b.cc"]
    assert "1 added" in operator.run("suppress", "add", operator.organization, "b@b.cc").stdout
