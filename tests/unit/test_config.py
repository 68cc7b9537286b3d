"""What operators take from `config/` is what the code has and the documents explain."""

import re
import tomllib

import pytest
import yaml

from streamer.provider.rules import RULES, ErrorCategory
from streamer.settings import Settings, load
from tools import dashboards, docs
from tools.panels import CAMPAIGNS, OPERATE, View

CONFIG = docs.ROOT / "config"

_METRIC = re.compile(r"\bstreamer_[a-z_]+\b")
_CODE = re.compile(r"`([^`\n]+)`")


def chapters() -> dict[str, str]:
    """The chapters of `operating.md` that are about alerts, by their headings."""
    text = (docs.ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    _, _, rest = text.partition("\n## Alerts\n")
    about, _, _ = rest.partition("\n## ")
    found = re.split(r"^### (.+)\n", about, flags=re.MULTILINE)[1:]
    return dict(zip(found[::2], found[1::2], strict=True))


def views() -> list[View]:
    """All panels."""
    sections = [*OPERATE.values(), *CAMPAIGNS.values()]
    return [view for section in sections for view in section]


def alerts() -> dict[str, dict[str, str]]:
    """The annotations of each alert."""
    rules = yaml.safe_load((CONFIG / "alerts.yml").read_text(encoding="utf-8"))
    return {
        rule["alert"]: rule["annotations"] for group in rules["groups"] for rule in group["rules"]
    }


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


def test_the_dashboards_are_those_of_the_code() -> None:
    assert {path.name for path in dashboards.FOLDER.iterdir()} == dashboards.dashboards().keys()
    for name, text in dashboards.dashboards().items():
        written = (dashboards.FOLDER / name).read_text(encoding="utf-8")
        assert written == text, "run: python -m tools.dashboards --write"


def test_every_metric_is_on_a_dashboard() -> None:
    shown = set(_METRIC.findall("".join(query.expr for view in views() for query in view.queries)))
    assert shown - docs.series() == set()
    assert {docs.base(name) for name in docs.series()} == {docs.base(name) for name in shown}


def test_a_legend_names_labels_that_its_query_has() -> None:
    for view in views():
        for query in view.queries if view.kind != "figure" else ():
            named = set(re.findall(r"{{(\w+)}}", query.legend))
            grouped = re.search(r" by \((.+?)\)", query.expr)
            labels = set(grouped.group(1).split(", ")) if grouped else set()
            assert named == labels - {"le"}, view.title


def test_every_panel_says_what_it_shows_and_in_what() -> None:
    for view in views():
        assert view.description.endswith("."), view.title
        assert view.unit, view.title


def test_every_alert_leads_to_the_panel_that_explains_it() -> None:
    for name, about in alerts().items():
        assert about["panel"].partition("&")[0] == dashboards.panel_of(name), name
    assert {name for view in views() for name in view.alerts} == alerts().keys()


def test_every_metric_of_the_alerts_exists() -> None:
    text = (CONFIG / "alerts.yml").read_text(encoding="utf-8")
    expressions = re.findall(r"^\s+expr: (.+)$", text, re.MULTILINE)
    assert len(expressions) == text.count("- alert: ")
    assert set(_METRIC.findall(" ".join(expressions))) - docs.series() == set()


def test_every_alert_has_a_remedy() -> None:
    assert [name for name, about in alerts().items() if not about["runbook"].endswith(".")] == []


def test_every_alert_has_its_chapter() -> None:
    assert list(chapters()) == list(alerts())
    for name, about in alerts().items():
        assert about["chapter"] == f"docs/operating.md#{name.lower()}"
        parts = re.findall(r"^\*\*(.+?)\*\*", chapters()[name], re.MULTILINE)
        assert parts == ["What it means.", "What to look at.", "What to do."], name


def test_every_reason_of_a_hold_has_its_remedy() -> None:
    reasons = set()
    for row in RULES:
        if row.category in (ErrorCategory.ACCOUNT, ErrorCategory.SENDER):
            reasons |= {row.reason} if row.reason else set(row.names)
    reasons -= {"invalid_access", "invalid_region"}  # of endpoints that are not called
    told = set(_CODE.findall(chapters()["StreamerAccountHeld"]))
    assert reasons - told == set()
