"""The README's tables, made from the code: `python -m tools.docs` checks, `--write` renews."""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, SecretStr

from streamer import metrics, settings
from streamer.model.reasons import Reason
from streamer.provider.answers import (
    Conflicting,
    OnHold,
    Refused,
    Taken,
    Throttled,
    judge,
)
from streamer.provider.client import UNTRUSTED, Answer
from streamer.provider.table import ROWS
from streamer.settings import Account, Settings

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"

# What the sections say with names and types alone, in words for operators.
_MEANINGS = {
    "kafka.bootstrap_servers": "Brokers to begin with.",
    "kafka.group_id": "Consumer group; transactional ids begin with it.",
    "kafka.group_protocol": "`classic`, or `consumer` for the newer group protocol.",
    "topics.recipients": "Input: one event for each recipient of a campaign.",
    "topics.outcomes": "One outcome for each input record that names a campaign.",
    "topics.dead_letters": "Input records that name no campaign that can be acted on.",
    "topics.parked": "Records set aside while their campaign is paused or their account is held.",
    "topics.results": "Summaries of finished campaigns.",
    "redis.url": "`redis://` or `rediss://`.",
    "redis.cluster": "Whether that is a cluster.",
    "batch.size": "Most mails in a call, 1 to 100.",
    "batch.max_in_flight": "Batches that a worker has under way at a time.",
    "batch.max_bytes": "A batch is closed before its request is larger than this.",
    "mail.max_bytes": "A larger mail is `too_large`.",
    "delivery.set_aside_s": "A batch that keeps failing so long, while three others of its account "
    "went through, is set aside.",
    "delivery.give_up_s": "A batch that was set aside ends as `provider_error` so long after its "
    "pin.",
    "delivery.hold_probe_s": "How often one call tests whether an account works again.",
    "delivery.timeout_s": "How long one call to Resend may take.",
    "worker.shutdown_timeout_s": "What is still in flight so long after SIGTERM is left to the "
    "next owner.",
    "unsubscribe.base_url": "The token follows it, in each mail's `List-Unsubscribe`. An https "
    "URL.",
    "unsubscribe.secret": "Signs the tokens; at least 16 bytes. Of a list the first signs and all "
    "verify.",
    "unsubscribe.required": "Whether a worker refuses to start without those two.",
    "accounts.NAME.api_key_env": "The variable that holds the API key. Give this or the next, or "
    "neither.",
    "accounts.NAME.api_key_file": "The file that holds the API key; read again when it changes.",
    "accounts.NAME.requests_per_second": "A ceiling, for all workers together. A lower "
    "`ratelimit-limit` of Resend lowers it; 0 takes Resend's alone.",
    "accounts.NAME.organizations": "Whose mail goes through it. None: every organization that no "
    "other account names.",
    "log.format": "`human`, or `json` lines.",
    "log.level": "`debug`, `info`, `warning` or `error`.",
}
_DEFAULTS = {"worker.id": "the host's name"}


def setting_names() -> list[str]:
    """Every setting, as `section.name`; those of an account as `accounts.NAME.name`."""
    return [name for name, _, _ in _settings()]


def series() -> set[str]:
    """The names of all time series that a worker shows."""
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


def settings_table() -> str:
    """Every setting with its default and its meaning."""
    rows = []
    for name, default, meaning in _settings():
        if not meaning:
            raise AssertionError(f"{name} has no meaning: give it a docstring in the settings")
        rows.append((f"`{name}`", _DEFAULTS.get(name, default), meaning))
    return _table(("setting", "default", "meaning"), rows)


def metrics_table() -> str:
    """Every metric with its type, its labels and its help."""
    rows = []
    for metric in _metrics():
        name = metric._name + ("_total" if metric._type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append((f"`{name}`", metric._type or "", labels, metric._documentation))
    return _table(("metric", "type", "labels", "meaning"), rows)


def reasons_table() -> str:
    """Every reason with its status."""
    missing = set(Reason) - _REASONS.keys()
    if missing:
        raise AssertionError(f"no meaning for {missing}")
    rows = [("`sent`", "", "Resend took the mail and gave it an id.")]
    rows += [(f"`{each.status}`", f"`{each}`", _REASONS[each]) for each in Reason]
    return _table(("status", "reason", "meaning"), rows)


def answers_table() -> str:
    """What each answer of Resend does, as the code judges it: the first row that fits."""
    rows = [("200", "", "", _consequence(Answer(200, "", "", {"data": [{"id": "1"}]}, {})))]
    for row in ROWS:
        names = ", ".join(f"`{name}`" for name in row.names)
        answer = Answer(min(row.statuses), "".join([*row.names][:1]), row.example, {}, {})
        rows.append((_statuses(row.statuses), names, row.example, _consequence(answer)))
    untrusted, nothing = Answer(None, UNTRUSTED, "", {}, {}), Answer(None, "", "", {}, {})
    rows.append(("none", "", "a certificate that is not trusted", _consequence(untrusted)))
    rows.append(("none", "", "", _consequence(nothing)))
    return _table(("status", "error", "its words", "what follows"), rows)


def _statuses(statuses: Collection[int]) -> str:
    """`403`, `400, 422`, `4xx`."""
    if not isinstance(statuses, range):
        return ", ".join(str(each) for each in sorted(statuses))
    return "any other" if len(statuses) > 100 else f"{statuses[0] // 100}xx"


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "reasons": reasons_table,
    "answers": answers_table,
}


def renewed(text: str) -> str:
    """The text with each table between its markers made anew."""
    for name, make in TABLES.items():
        begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
        head, found, rest = text.partition(begin)
        _, ended, tail = rest.partition(end)
        if not (found and ended):
            raise AssertionError(f"the README has no markers for {name}")
        text = f"{head}{begin}{make()}{end}{tail}"
    return text


_REASONS = {
    Reason.SUPPRESSED: "The address is in the organization's suppression set.",
    Reason.DUPLICATE: "Another record of this campaign has this address already.",
    Reason.CANCELLED: "The campaign was cancelled before the mail was pinned.",
    Reason.EXPIRED: "`expires_at` of the event or of the campaign has passed.",
    Reason.INVALID_ADDRESS: "Not an address that a mail can be sent to; `detail` says why.",
    Reason.RENDER_ERROR: "A template failed for this recipient; an undefined variable is named.",
    Reason.REJECTED: "Resend refused this mail; `detail` has its words.",
    Reason.TOO_LARGE: "The mail is larger than `mail.max_bytes`.",
    Reason.WINDOW_CLOSED: "Still unknown when `delivery.safe_window_s` had passed.",
    Reason.IDEMPOTENCY_CONFLICT: "Resend has another payload under this batch's key.",
    Reason.PROVIDER_ERROR: "Resend's answers to this batch stayed unusable.",
    Reason.LEDGER_LOST: "The address is claimed, but its batch is not in Redis.",
}


def _consequence(answer: Answer) -> str:
    verdict = judge(answer, 1)
    if isinstance(verdict, Taken):
        return "Each mail is `sent` with its id, or `rejected` with Resend's words"
    if isinstance(verdict, Refused):
        return "The batch is halved until the mail at fault is alone: that one is `rejected`"
    if isinstance(verdict, Conflicting):
        return "`indeterminate`, `idempotency_conflict`; nothing is sent again"
    if isinstance(verdict, Throttled):
        return "All workers pause this account for `retry-after`; then the same bytes again"
    if isinstance(verdict, OnHold):
        held = "The sender's domain" if verdict.of_sender else "The account"
        of = "" if verdict.why == answer.name else f" (`{verdict.why}`)"
        return f"{held} is held{of}, nobody is failed: see [Holds](#holds)"
    if verdict.failing:
        return "The same bytes again; Resend tells by the key whether it has them"
    return "The same bytes again, after a wait"


def _settings() -> Iterator[tuple[str, str, str]]:
    for section, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if section == "accounts":
            yield from _section("accounts.NAME", default["default"], Account)
        else:
            yield from _section(section, default, type(default))


def _section(
    name: str, values: BaseModel, model: type[BaseModel]
) -> Iterator[tuple[str, str, str]]:
    docstrings = _docstrings(model.__name__)
    for field in model.model_fields:
        full = f"{name}.{field}"
        meaning = _MEANINGS.get(full) or docstrings.get(field, "")
        yield full, _default(getattr(values, field)), meaning


def _docstrings(class_name: str) -> dict[str, str]:
    """What stands below a class' attributes."""
    found = {}
    for node in ast.parse(inspect.getsource(settings)).body:
        if not (isinstance(node, ast.ClassDef) and node.name == class_name):
            continue
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _default(value: object) -> str:
    if value is None or isinstance(value, SecretStr):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float) and value.is_integer():
        return f"`{int(value)}`"
    return f"`{value}`"


def _metrics() -> list[MetricWrapperBase]:
    return [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        f"| {' | '.join(re.sub(r'[|]', '/', cell) for cell in row)} |\n" for row in lines
    )


def main() -> int:
    """Check the README's tables, or with `--write` make them anew."""
    text = README.read_text(encoding="utf-8")
    fresh = renewed(text)
    if "--write" in sys.argv[1:]:
        README.write_text(fresh, encoding="utf-8")
    elif fresh != text:
        print("README.md: its tables are out of date: python -m tools.docs --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
