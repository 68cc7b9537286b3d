"""What the documents and the sample configuration say is what the code does."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

from bench import __main__ as bench
from bench import (
    due,
    durability,
    find,
    gateway,
    idle,
    ledger,
    limiter,
    mixed,
    paused,
    recovery,
    report,
    stuck,
    suppression,
)
from streamer import cli
from streamer.flow import failure_stats
from streamer.flow.failure_stats import MAX_PAUSE_S
from streamer.mail import tags
from streamer.mail.review import CLIPPED_BYTES
from streamer.mail.templates import RenderError, Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model import record_headers, wire
from streamer.model.campaign import Definition
from streamer.model.event import EventSchema
from streamer.model.published import PublishedOutcome
from streamer.settings import Settings, load
from streamer.topics import DEFAULT_PARTITIONS
from tools import docs

CONFIG = docs.ROOT / "config"
README = docs.ROOT / "README.md"
DOCS = docs.ROOT / "docs"
_COMMAND = get_command(cli.app)
PAGES = [*sorted(docs.ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
WITH_COMMANDS = [
    *(page for page in PAGES if page.name not in ("SECURITY.md", "glossary.md")),
    CONFIG / "streamer.toml",
    CONFIG / "alerts.yml",
]
MAX_LINES = 200

_METRIC = re.compile(r"\bstreamer_[a-z_]+\b")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`((?:streamer|make) [^`]+)`")
_MODULE = re.compile(r"\bpython -m ([\w.]+)(?: ([a-z]+))?")
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_ADDRESS = re.compile(r"[\w.+-]+@((?:[\w-]+\.)+[\w-]+)")
_HEADER = re.compile(r"\bstreamer-[a-z]+(?:-[a-z]+)*\b")
_ENDS = {"|", "&", "&&", ";"}


def name_of(path: Path) -> str:
    return path.relative_to(docs.ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def blocks(text: str, kind: str) -> list[str]:
    """The code blocks of a language."""
    return [code for language, code in _FENCE.findall(text) if language == kind]


def commands(text: str) -> Iterator[list[str]]:
    """The words of each `streamer` or `make` command of a document."""
    pieces = _QUOTED.findall(_FENCE.sub("", text).replace("\n", " "))
    for block in blocks(text, "sh"):
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
    command = _COMMAND
    rest = list(words)
    while isinstance(command, TyperGroup) and rest:
        name = rest.pop(0)
        if name.isupper() or name == "...":  # a placeholder
            return None
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    options = {"--help"}
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    unknown = [word for word in rest if re.match(r"--?\w", word) and word not in options]
    return f"no option {', '.join(unknown)}" if unknown else None


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as they are on GitHub."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", _LINK.sub("", heading).lower()).replace(" ", "-")
        assert anchor not in found, f"two headings have the anchor {anchor}"
        found.add(anchor)
    return found


def broken_links(page: Path, text: str) -> list[str]:
    """The links of a page to files or headings that are not there."""
    broken = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            broken.append(link)
        elif anchor:
            there = text if target == page else target.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                broken.append(link)
    return broken


# The documents


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_the_readme_links_to_every_page() -> None:
    links = _LINK.findall(README.read_text(encoding="utf-8"))
    pages = {name_of(page) for page in PAGES} - {"README.md"}
    assert pages - {link.partition("#")[0] for link in links} == set()


@pytest.mark.parametrize("page", [*PAGES, docs.ROOT / "schemas" / "README.md"], ids=name_of)
def test_every_link_resolves(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert broken_links(page, text) == []


def test_a_broken_link_is_detected() -> None:
    text = "# One: `two`\n[a](#one-two) [b](#three) [c](docs/nothing.md) [d](docs/concepts.md#x)"
    assert broken_links(README, text) == ["#three", "docs/nothing.md", "docs/concepts.md#x"]


@each_page
def test_addresses_are_examples(page: Path) -> None:
    domains = set(_ADDRESS.findall(page.read_text(encoding="utf-8").lower()))
    assert {d for d in domains if d != "example.com" and not d.endswith(".test")} == set()


@each_page
def test_every_named_setting_exists(page: Path) -> None:
    names = set(docs.setting_names())
    sections = "|".join({name.partition(".")[0] for name in names})
    setting = re.compile(rf"(?:{sections})\.\w[\w.]*")
    text = page.read_text(encoding="utf-8")
    used = {
        word for code in _CODE.findall(text) for word in code.split() if setting.fullmatch(word)
    }
    files = {word for word in used if word.endswith((".py", ".md"))}
    assert used - files - names == set()
    variables = {name.upper().replace(".", "__") for name in names}
    assert set(re.findall(r"\bSTREAMER_(\w+__\w+)", text)) - {"SECTION__NAME"} <= variables


@each_page
def test_every_named_metric_exists(page: Path) -> None:
    known = {name for each in docs.series() for name in (each, docs.base(each))}
    assert set(_METRIC.findall(page.read_text(encoding="utf-8"))) - known == set()


@pytest.mark.parametrize("document", WITH_COMMANDS, ids=name_of)
def test_every_command_exists(document: Path) -> None:
    makefile = (docs.ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    found = list(commands(document.read_text(encoding="utf-8")))
    assert found
    wrong = [
        (words, problem)
        for words in found
        if (problem := fault(words[1:]) if words[0] == "streamer" else None)
    ]
    wrong += [
        (words, "no target")
        for words in found
        if words[0] == "make" and not targets & {word for word in words if "=" not in word}
    ]
    assert not wrong


def test_an_unknown_command_is_detected() -> None:
    assert list(commands("```sh\nx=1 | streamer sent --now  # so\n```")) == [
        ["streamer", "sent", "--now"]
    ]
    assert fault(["sent"]) == "no command sent"
    assert fault(["run", "--now"]) == "no option --now"
    assert fault(["run", "--workers", "2"]) is None


@each_page
def test_every_named_module_exists(page: Path) -> None:
    measurements = get_command(bench.app)
    assert isinstance(measurements, TyperGroup)
    for module, word in _MODULE.findall(page.read_text(encoding="utf-8").replace("\n", " ")):
        assert importlib.util.find_spec(module), module
        assert module != "bench" or not word or word in measurements.commands, word


@each_page
def test_every_named_file_exists(page: Path) -> None:
    folders = ("streamer", "tests", "tools", "config", "bench", "docs", "schemas")
    named = [
        word
        for word in re.findall(r"[\w./-]+", page.read_text(encoding="utf-8"))
        if word.startswith(tuple(f"{folder}/" for folder in folders))
        and re.search(r"\.(py|toml|ya?ml|json|md)$", word)
        and "NAME" not in word
    ]
    bases = (docs.ROOT, page.parent)
    assert [word for word in named if not any((base / word).exists() for base in bases)] == []


@each_page
def test_every_example_is_valid(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, "json"):
        given = json.loads(block)
        if "connector.class" in given.get("config", ()):
            continue  # test_integrating reads it
        model: type[BaseModel] = Definition
        if "recipient_id" in given:
            model = PublishedOutcome if "status" in given else EventSchema
        read = model.model_validate_json(block)
        # A misspelt field would be ignored.
        assert read.model_dump(by_alias=True, exclude_unset=True).keys() == given.keys()


def test_shown_settings_are_valid(tmp_path: Path) -> None:
    shown = [block for page in PAGES for block in blocks(page.read_text("utf-8"), "toml")]
    assert shown
    for block in shown:
        path = tmp_path / "streamer.toml"
        path.write_text(block, encoding="utf-8")
        load(path)


def test_numbers_match_the_code() -> None:
    settings = Settings()
    concepts = " ".join((DOCS / "concepts.md").read_text(encoding="utf-8").split())
    assert f"{failure_stats.BACKPRESSURE_RECORDS:,} records" in concepts
    assert f"`retry-after` of more than {MAX_PAUSE_S:.0f} seconds" in concepts
    assert (failure_stats.OUTAGE_FAILURES, "After five failures" in concepts) == (5, True)
    assert (settings.breaker.dead_share, settings.breaker.campaign_failed_share) == (0.5, 0.5)
    assert f"last `breaker.records` ({settings.breaker.records:,})" in concepts
    assert f"last `breaker.campaign_mails` ({settings.breaker.campaign_mails:,})" in concepts
    assert f"{settings.delivery.claims_ttl_s // 86_400} days by default" in concepts
    assert f"{settings.delivery.safe_window_s // 3600} h are used" in concepts
    assert f"with {DEFAULT_PARTITIONS} partitions" in docs.REFERENCE.read_text(encoding="utf-8")


def test_bars_match_the_measurements() -> None:
    text = (DOCS / "operating.md").read_text(encoding="utf-8")
    bars = dict(
        re.findall(r"^\| `(?:python -m |make )(bench[^`]*)` \|.*\| ([^|]+) \|$", text, re.M)
    )
    assert bars == {
        "bench": f"{report.RATIO_BAR} times the loop",
        "bench durability": f"{durability.CPU_BAR} times the CPU time",
        "bench --memory": f"{report.MEMORY_BAR_MB:.0f} MB",
        "bench limiter": f"{limiter.SHARE_BAR * 100:.0f} % of the allowed calls are used, fewer "
        f"than {limiter.THROTTLED_BAR * 100:.1f} % are answered 429, calls are "
        f"{limiter.FILL_BAR * 100:.0f} % full",
        "bench stuck": f"{stuck.SLOWER_BAR * 100:.0f} %",
        "bench mixed": f"{mixed.FILL_BAR * 100:.0f} % of the best fill, "
        f"{mixed.TICK_BAR_S * 1000:.0f} ms",
        "bench recovery": f"{recovery.AGAIN_BAR_S:.0f} s where it is started again, "
        f"{recovery.TAKEOVER_BAR_S:.0f} s where another takes over, "
        f"{recovery.STOP_BAR_S:.0f} s after a stop",
        "bench ledger": f"{ledger.BYTES_BAR:.0f} bytes, from {ledger.BAR_FROM:,} recipients on",
        "bench suppression": f"p99 of {suppression.P99_BAR_MS:.0f} ms",
        "bench idle": f"{idle.CPU_BAR * 100:.0f} % of a core, {idle.THREADS_BAR} threads",
        "bench due": f"{due.LATE_BAR_S:g} s",
        "bench gateway": f"{gateway.PER_SECOND_BAR:,} webhooks per CPU second",
        "bench find": f"{find.TRACE_BAR_S:g} s, {find.RATE_BAR:,} records per CPU second",
        "bench paused": f"{paused.MEMORY_BAR_MB:.0f} MB",
    }


# The reference


def test_the_tables_are_up_to_date() -> None:
    text = docs.REFERENCE.read_text(encoding="utf-8")
    assert docs.renewed(text) == text, "renew them: python -m tools.docs --write"


@pytest.mark.parametrize("name", sorted(docs.TABLES))
def test_an_outdated_table_is_detected(name: str) -> None:
    text = docs.REFERENCE.read_text(encoding="utf-8")
    mark = f"<!-- {name}:begin -->\n"
    assert docs.renewed(text.replace(mark, f"{mark}| x |\n")) == text
    with pytest.raises(AssertionError, match=name):
        docs.renewed(text.replace(mark, ""))


def test_every_header_is_explained() -> None:
    values = {**vars(wire), **vars(record_headers)}.values()
    ours = {text for text in values if isinstance(text, str) and _HEADER.fullmatch(text)}
    text = docs.REFERENCE.read_text(encoding="utf-8")
    _, _, section = text.partition("\n## Headers\n")
    assert set(_HEADER.findall(section)) == ours


# Templates


def test_templates_behave_as_documented() -> None:
    templates = Templates(1_000_000)
    text = (DOCS / "templates.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("| not accepted | write instead |\n")
    rows = [row.replace(r"\|", "¦").split("|")[1:3] for row in rest.split("\n\n")[0].splitlines()]
    refused, accepted = (
        [code.replace("¦", "|") for row in rows for code in _CODE.findall(row[column])]
        for column in (0, 1)
    )
    tags = [code for code in refused if code.startswith("{")]
    assert len(tags) > 3
    for code in tags:
        assert templates.faults(code)
    for name in ("macro x()", "block x", "include 'x'", "extends 'x'", "for x in y recursive"):
        assert templates.faults(f"{{% {name} %}}")
    filters = [code for code in refused if code.isalpha() and code not in ("include", "extends")]
    assert "zip" in filters
    for name in filters:
        source = "{{ dict(a=1) }}" if name == "dict" else f"{{{{ text|{name} }}}}"
        with pytest.raises(RenderError, match=r"unknown|not"):
            templates.render_text(source, {"text": "x"})
    for code in accepted:
        if code.startswith("{"):
            assert not templates.faults(code)


def test_undefined_and_null_behave_as_documented() -> None:
    templates = Templates(1_000_000)
    text = (DOCS / "templates.md").read_text(encoding="utf-8")
    always, undefined = '{{ name|default("there", true) }}', '{{ name|default("there") }}'
    assert always in text
    assert undefined in text
    assert templates.render_text(undefined, {}) == "there"
    assert templates.render_text(undefined, {"name": None}) == "None"
    assert templates.render_text(always, {"name": None}) == "there"
    assert templates.render_text("{{ name }}", {"name": None}) == "None"
    assert f"{tags.MAX_TOKENS_IN_ALL:,} names" in text
    assert f"{tags.MAX_TOKENS} in a tag" in text
    assert f"{CLIPPED_BYTES // 1024} KB" in text


def test_tokens_are_verified_as_documented() -> None:
    (block,) = blocks((DOCS / "templates.md").read_text(encoding="utf-8"), "python")
    secret = re.findall(r'b"(.+)"', block)[0].encode()
    links = UnsubscribeLinks("https://example.com/unsubscribe", [secret])
    for token, found in (
        (links.sign("acme", "spring-26", "ann@example.com"), True),
        ("1.x", False),
    ):
        names = {"token": token}
        exec(block, names)
        assert (names.get("address") == "ann@example.com") == found


# Architecture


def test_every_folder_is_described() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"`(streamer/\w+)`", text))
    packages = {f"streamer/{path.parent.name}" for path in docs.ROOT.glob("streamer/*/__init__.py")}
    assert packages - rows == set()


def test_the_layers_match_the_checked_ones() -> None:
    rules = (docs.ROOT / ".importlinter").read_text(encoding="utf-8")
    (block,) = re.findall(r"^layers =\n((?:    .+\n)+)", rules, re.MULTILINE)
    layers = [re.findall(r"\w+", line) for line in block.splitlines()]
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    picture = text.partition("\n## Layers\n")[2].split("```")[1]
    shown = [re.split(r"  +", line.strip())[0] for line in picture.strip().splitlines()]
    assert [re.findall(r"\w+", line) for line in shown] == layers
