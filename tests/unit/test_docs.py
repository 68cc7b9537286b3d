"""What the documents and the sample configuration say is what the code does."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from streamer import cli
from streamer.settings import Settings, load
from tools import docs

CONFIG = docs.ROOT / "config"
DOCUMENTS = [docs.README, CONFIG / "streamer.toml", CONFIG / "alerts.yml"]

_METRIC = re.compile(r"\bstreamer_[a-z_]+\b")
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`((?:streamer|make) [^`]+)`")
_ENDS = {"|", "&", "&&", ";"}


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `streamer` or `make` command of a document."""
    pieces = _QUOTED.findall(text.replace("\n", " "))
    for block in _BLOCK.findall(text):
        pieces += block.splitlines()
    for piece in pieces:
        command: list[str] = []
        for word in [*shlex.split(piece, comments=True), ";"]:
            if word not in _ENDS:
                command.append(word)
                continue
            if command and command[0] in ("streamer", "make"):
                yield command
            command = []


def fault(words: list[str]) -> str | None:
    """What is wrong with a `streamer` command; None if its help knows all of it."""
    command = get_command(cli.app)
    rest = list(words)
    while isinstance(command, TyperGroup) and rest:
        name = rest.pop(0)
        if name.isupper():  # a placeholder
            return None
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    options = {"--help"}
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    unknown = [word for word in rest if re.match(r"--?\w", word) and word not in options]
    return f"no option {', '.join(unknown)}" if unknown else None


def test_the_tables_are_up_to_date() -> None:
    text = docs.README.read_text(encoding="utf-8")
    assert docs.renewed(text) == text, "renew them: python -m tools.docs --write"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_exists(document: Path) -> None:
    makefile = (docs.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    text = document.read_text(encoding="utf-8")
    found = list(commands(text))
    assert found
    wrong = [
        (words, problem)
        for words in found
        if (problem := fault(words[1:]) if words[0] == "streamer" else None)
    ]
    wrong += [
        (words, "no target")
        for words in found
        if words[0] == "make" and not targets.issuperset(words[1:2])
    ]
    assert not wrong


def test_a_command_that_is_not_there_is_noticed() -> None:
    assert list(commands("```sh\nx=1 | streamer sent --now  # so\n```")) == [
        ["streamer", "sent", "--now"]
    ]
    assert fault(["sent"]) == "no command sent"
    assert fault(["run", "--now"]) == "no option --now"
    assert fault(["run", "--workers", "2"]) is None


def test_every_file_that_is_linked_is_there() -> None:
    text = docs.README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", text)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-") for h in headings}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors
    local = [link for link in links if "://" not in link and not link.startswith("#")]
    assert local
    assert [link for link in local if not (docs.ROOT / link).exists()] == []


def test_the_sample_configuration_is_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMER_CONFIG", "STREAMER_WORKER__ID"):
        monkeypatch.delenv(name, raising=False)
    assert load(CONFIG / "streamer.toml").model_dump() == Settings().model_dump()


def test_the_sample_configuration_has_every_setting() -> None:
    text = (CONFIG / "streamer.toml").read_text(encoding="utf-8")
    given = tomllib.loads(text)
    either = "accounts.NAME.api_key_file"  # stands for api_key_env
    for name in set(docs.setting_names()) - {either}:
        section, _, field = name.replace("accounts.NAME", "accounts/default").partition(".")
        table = given
        for part in section.split("/"):
            table = table[part]
        assert field in table or re.search(rf"^# {field} = ", text, re.MULTILINE), name


def test_every_metric_of_the_dashboard_exists() -> None:
    dashboard = json.loads((CONFIG / "grafana" / "streamer.json").read_text(encoding="utf-8"))
    panels = dashboard["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    used = set(_METRIC.findall(" ".join(expressions)))
    assert used
    assert used - docs.series() == set()
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_every_metric_is_on_the_dashboard() -> None:
    shown = (CONFIG / "grafana" / "streamer.json").read_text(encoding="utf-8")
    used = set(_METRIC.findall(shown))
    missing = {
        name
        for name in docs.series()
        if not used & {name, *(f"{_base(name)}{end}" for end in ("_bucket", "_count", "_sum"))}
    }
    assert missing == set()


def test_every_metric_of_the_alerts_exists() -> None:
    text = (CONFIG / "alerts.yml").read_text(encoding="utf-8")
    expressions = re.findall(r"^\s+expr: (.+)$", text, re.MULTILINE)
    assert len(expressions) == text.count("- alert: ")
    assert set(_METRIC.findall(" ".join(expressions))) - docs.series() == set()


def test_every_alert_says_what_to_do() -> None:
    text = (CONFIG / "alerts.yml").read_text(encoding="utf-8")
    rules = text.split("- alert: ")[1:]
    for rule in rules:
        (runbook,) = re.findall(r"^\s+runbook: (.+)$", rule, re.MULTILINE)
        assert runbook.endswith("."), rule


def test_a_pod_is_given_the_time_to_finish() -> None:
    text = (CONFIG / "kubernetes.yaml").read_text(encoding="utf-8")
    (grace,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", text)
    assert float(grace) > Settings().worker.shutdown_timeout_s + 20


def _base(name: str) -> str:
    return re.sub(r"_(bucket|count|sum)$", "", name)
