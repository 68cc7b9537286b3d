"""Generates the tables of docs/reference.md.

`python -m tools.docs` checks that they are up to date, `--write` updates them. Settings, metrics,
reasons and commands are documented where they are defined.
"""

import ast
import inspect
import re
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TypeVar

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.main import get_command

from streamer import cli, metrics, topics
from streamer.model.disposition import Accepted, Conflicting, RateLimited, Rejected, Suspended
from streamer.model.reasons import DeadReason, Reason, Status
from streamer.provider.client import UNTRUSTED, ApiResponse
from streamer.provider.responses import classify_response
from streamer.provider.rules import RULES
from streamer.sandbox import Faults
from streamer.settings import AccountSettings, Settings, TopicSettings

_Member = TypeVar("_Member", bound=Enum)

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference.md"

_HOLDS = "[held](concepts.md#holds-and-parking)"
_BAR = r"\|"  # escaped for a table cell
_DAY_MS = 86_400_000
_COMPUTED = {socket.gethostname: "the host name"}
"""Descriptions of defaults that depend on the machine."""


def setting_names() -> list[str]:
    """All settings as `section.name`, account settings as `accounts.NAME.name`."""
    return [name for name, _, _ in _settings()]


def series() -> set[str]:
    """The names of all time series exported by a worker."""
    names = set()
    for metric in _metrics():
        name, kind = metric._name, metric._type
        if kind == "counter":
            names.add(f"{name}_total")
        elif kind == "histogram":
            names |= {f"{name}_bucket", f"{name}_count", f"{name}_sum"}
        else:
            names.add(name)
    return names


def base(name: str) -> str:
    """The name of a time series' metric."""
    return re.sub(r"_(bucket|count|sum)$", "", name)


def settings_table() -> str:
    """All settings with default and meaning."""
    rows = []
    for name, default, meaning in _settings():
        if not meaning:
            raise AssertionError(f"setting {name} is undocumented: add a description to its field")
        rows.append((f"`{name}`", default, meaning))
    return _table(("setting", "default", "meaning"), rows)


def metrics_table() -> str:
    """All metrics with type, labels and help."""
    rows = []
    for metric in _metrics():
        name = metric._name + ("_total" if metric._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", metric._type or "", labels, metric._documentation))
    return _table(("metric", "type", "labels", "meaning"), rows)


def statuses_table() -> str:
    """All outcome statuses."""
    rows = [(f"`{each}`", meaning) for each, meaning in meanings(Status).items()]
    return _table(("status", "meaning"), rows)


def reasons_table() -> str:
    """All outcome reasons with their statuses."""
    rows = [
        (f"`{each.status}`", f"`{each}`", meaning) for each, meaning in meanings(Reason).items()
    ]
    return _table(("status", "reason", "meaning"), rows)


def dead_letters_table() -> str:
    """All dead letter reasons."""
    rows = [(f"`{each}`", meaning) for each, meaning in meanings(DeadReason).items()]
    return _table(("reason", "meaning"), rows)


def topics_table() -> str:
    """All topics as `streamer topics create` creates them."""
    wanted = topics.wanted_topics(TopicSettings(), topics.DEFAULT_PARTITIONS, topics.MAX_REPLICAS)
    rows = []
    for (setting, field), topic in zip(TopicSettings.model_fields.items(), wanted, strict=True):
        largest = f"{int(topic.config['max.message.bytes']):,}"
        rows.append(
            (
                f"`{topic.name}`",
                f"`topics.{setting}`",
                field.description or "",
                _kept(topic),
                largest,
            )
        )
    return _table(("topic", "setting", "content", "retention", "maximum record size, bytes"), rows)


def commands_table() -> str:
    """All commands with arguments and help."""
    rows = []
    for name, arguments, what in _commands(get_command(cli.app), "streamer"):
        if not what:
            raise AssertionError(f"command {name} is undocumented: add a docstring")
        rows.append((f"`{' '.join((name, *arguments))}`", what))
    return _table(("command", "description"), rows)


def responses_table() -> str:
    """The effect of each response of Resend, as classified by the code; the first match applies."""
    rows = [("200", "", "", _consequence(ApiResponse(200, "", "", {"data": [{"id": "1"}]}, {})))]
    for rule in RULES:
        names = ", ".join(f"`{name}`" for name in rule.names)
        response = ApiResponse(min(rule.statuses), "".join([*rule.names][:1]), rule.example, {}, {})
        rows.append((_statuses(rule.statuses), names, rule.example, _consequence(response)))
    untrusted, nothing = ApiResponse(None, UNTRUSTED, "", {}, {}), ApiResponse(None, "", "", {}, {})
    rows.append(("none", "", "an untrusted certificate", _consequence(untrusted)))
    rows.append(("none", "", "", _consequence(nothing)))
    return _table(("status", "error", "message", "effect"), rows)


def faults_table() -> str:
    """Every fault of the sandbox."""
    rows = []
    for name, default, meaning in _section("", Faults(), Faults):
        if not meaning:
            raise AssertionError(f"the fault{name} has no meaning: give its field a docstring")
        rows.append((f"`{name[1:]}`", default, " ".join(meaning.split())))
    return _table(("fault", "default", "meaning"), rows)


def _statuses(statuses: Collection[int]) -> str:
    """Format statuses as `403`, `400, 422` or `4xx`."""
    if not isinstance(statuses, range):
        return ", ".join(str(each) for each in sorted(statuses))
    return "any other" if len(statuses) > 100 else f"{statuses[0] // 100}xx"


TABLES: dict[str, Callable[[], str]] = {
    "commands": commands_table,
    "settings": settings_table,
    "topics": topics_table,
    "statuses": statuses_table,
    "reasons": reasons_table,
    "dead-letters": dead_letters_table,
    "answers": responses_table,
    "metrics": metrics_table,
    "faults": faults_table,
}


def renewed(text: str) -> str:
    """Regenerate each table between its markers.

    Raises:
        AssertionError: a table's markers are missing.
    """
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        head, found, rest = text.partition(begin)
        _, ended, tail = rest.partition(end)
        if not (found and ended):
            raise AssertionError(f"{REFERENCE.name}: no markers for table {name}")
        text = f"{head}{begin}{make()}{end}{tail}"
    return text


def meanings(enum: type[_Member]) -> dict[_Member, str]:
    """The members of an enum with the docstring below each.

    Raises:
        AssertionError: a member has no docstring.
    """
    found = {}
    (node,) = ast.parse(inspect.getsource(enum)).body
    assert isinstance(node, ast.ClassDef)
    for member, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(member, ast.Assign)
            and isinstance(member.targets[0], ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[enum[member.targets[0].id]] = " ".join(str(text.value.value).split())
    if missing := set(enum) - found.keys():
        raise AssertionError(f"no docstring below {missing}")
    return found


def _consequence(response: ApiResponse) -> str:
    disposition = classify_response(response, 1)
    if isinstance(disposition, Accepted):
        return "Each mail is `sent` with its id, or `rejected` with Resend's message"
    if isinstance(disposition, Rejected):
        halved = "The batch is split in halves until the faulty mail is alone, which is `rejected`"
        return halved + disposition.of_template * "; mails of one template are rejected together"
    if isinstance(disposition, Conflicting):
        return "`indeterminate`, `idempotency_conflict`; not retried"
    if isinstance(disposition, RateLimited):
        return "All workers pause this account for `retry-after`, then retry the same bytes"
    if isinstance(disposition, Suspended):
        held = "The sender's domain" if disposition.sender_only else "The account"
        of = "" if disposition.reason == response.name else f" (`{disposition.reason}`)"
        return f"{held} is {_HOLDS}{of}; no recipient fails"
    if disposition.failing:
        again = "The same bytes are retried; Resend recognises them by the idempotency key"
        return again + disposition.may_be_content * ". A batch that alone keeps failing is split"
    return "The same bytes are retried after a wait"


def _settings() -> Iterator[tuple[str, str, str]]:
    for section, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if section == "accounts":
            yield from _section("accounts.NAME", default["default"], AccountSettings)
        else:
            yield from _section(section, default, type(default))


def _section(
    name: str, values: BaseModel, model: type[BaseModel]
) -> Iterator[tuple[str, str, str]]:
    for setting, field in model.model_fields.items():
        default = _computed(field) or _default(getattr(values, setting))
        yield f"{name}.{setting}", default, field.description or ""


def _computed(field: FieldInfo) -> str | None:
    return next((w for make, w in _COMPUTED.items() if field.default_factory is make), None)


def _default(value: object) -> str:
    if value is None or isinstance(value, SecretStr) or value == frozenset():
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    return f"`{value}`"


def _metrics() -> list[MetricWrapperBase]:
    return [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def _kept(topic: topics.TopicSpec) -> str:
    if topic.config["cleanup.policy"] == "compact":
        return "latest record per key"
    retention = int(topic.config["retention.ms"])
    return "forever" if retention < 0 else f"{retention // _DAY_MS} days"


def _commands(command: object, name: str) -> Iterator[tuple[str, list[str], str]]:
    """All commands: name, arguments, and the first paragraph of the help."""
    if isinstance(command, TyperGroup):
        if " " in name:
            yield name, ["..."], command.help or ""
        for word, each in command.commands.items():
            yield from _commands(each, f"{name} {word}")
    elif isinstance(command, TyperCommand):
        first = (command.help or "").partition("\n\n")[0]
        yield name, list(_arguments(command)), " ".join(first.split())


def _arguments(command: TyperCommand) -> Iterator[str]:
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            yield f"{parameter.metavar}{'...' if parameter.nargs < 0 else ''}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', _BAR) for cell in row)} |\n" for row in lines)


def main() -> int:
    """Check the tables, or update them with `--write`."""
    text = REFERENCE.read_text(encoding="utf-8")
    fresh = renewed(text)
    if "--write" in sys.argv[1:]:
        REFERENCE.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        print("docs/reference.md is out of date; run: python -m tools.docs --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
