"""Generates the Grafana dashboards of `config/grafana/dashboards` from `tools/panels.py`.

`python -m tools.dashboards` checks that they are up to date, `--write` updates them.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence

import yaml
from grafana_foundation_sdk.builders import bargauge, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.builders import common as build_common
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard

from streamer import metrics
from tools.docs import ROOT
from tools.kubernetes import ALERTS
from tools.panels import CAMPAIGNS, FIRING, OPERATE, View, one

FOLDER = ROOT / "config" / "grafana" / "dashboards"
DOCS = "https://example.com/streamer/docs"
"""Where links to chapters go until an operator says where the documents are."""

_SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
_SECTIONS = {"Operate": OPERATE, "Campaigns": CAMPAIGNS}
_NOTHING = "-"

_Variable = build.DatasourceVariable | build.QueryVariable | build.TextBoxVariable
_Panel = timeseries.Panel | stat.Panel | bargauge.Panel | statetimeline.Panel


def dashboards() -> dict[str, str]:
    """The files of `FOLDER` by name."""
    source = build.DatasourceVariable("datasource").label("Data source").type("prometheus")
    docs = build.TextBoxVariable("docs").label("Docs at").default_value(DOCS)
    return {
        "operate.json": _dashboard("Operate", "Is it well, and if not, why?", [source, docs]),
        "campaigns.json": _dashboard(
            "Campaigns",
            "How far is each campaign, and what became of its mails? Of the 200 campaigns that "
            "changed last.",
            [source, *_choices(), docs],
        ),
    }


def panel_of(alert: str) -> str:
    """The path within Grafana of the panel that explains an alert.

    Raises:
        AssertionError: no panel, or more than one, explains it.
    """
    found = [
        f"/d/{_uid(title)}?viewPanel={number}"
        for title in _SECTIONS
        for number, view in _numbered(title)
        if alert in view.alerts
    ]
    assert len(found) == 1, f"{alert} belongs to `alerts` of one panel, and not {len(found)}"
    return found[0]


def _dashboard(title: str, description: str, variables: Sequence[_Variable]) -> str:
    made = (
        build.Dashboard(f"streamer: {title}")
        .uid(_uid(title))
        .description(description)
        .tags(["streamer"])
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("streamer")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags(["streamer"])
            .keep_time(True)
        )
        .annotation(_AlertsBuilder())
    )
    for variable in variables:
        made = made.with_variable(variable)
    chapters = _chapters()
    panels = _numbered(title)
    for section, views in _SECTIONS[title].items():
        made = made.with_row(build.Row(section))
        for _ in views:
            made = made.with_panel(_panel(*next(panels), chapters))
    return json.dumps(made.build(), cls=JSONEncoder, indent=1) + "\n"


def _uid(title: str) -> str:
    return f"streamer-{title.lower()}"


def _numbered(title: str) -> Iterator[tuple[int, View]]:
    views = (view for section in _SECTIONS[title].values() for view in section)
    return iter(enumerate(views, 1))


def _panel(number: int, view: View, chapters: Mapping[str, str]) -> _Panel:
    panel = _of_kind(view, chapters)
    panel.id(number).title(view.title).description(view.description).datasource(_SOURCE)
    panel.unit(view.unit).span(view.width).height(view.height)
    panel.links([_link(f"What {alert} means", chapters[alert]) for alert in view.alerts])
    for letter, query in zip("AB", view.queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).datasource(_SOURCE)
        target = target.expr(query.expr).legend_format(query.legend)
        panel.with_target(target.instant() if view.kind in ("figure", "bars") else target.range())
    return panel


def _of_kind(view: View, chapters: Mapping[str, str]) -> _Panel:
    if view.kind == "figure":
        return stat.Panel().color_mode(common.BigValueColorMode.NONE).no_value(_NOTHING)
    if view.kind == "bars":
        bars = bargauge.Panel().min(0).no_value(_NOTHING)
        bars.orientation(common.VizOrientation.HORIZONTAL)
        return bars.max(1) if view.unit == "percentunit" else bars
    if view.kind == "states":
        return _alerts(chapters)
    return (
        timeseries.Panel()
        .min(0)
        .fill_opacity(10)
        .show_points(common.VisibilityMode.NEVER)
        .tooltip(build_common.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        .legend(
            build_common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
        )
    )


def _alerts(chapters: Mapping[str, str]) -> statetimeline.Panel:
    """Alerts with their states as words, each with its links."""
    words = {
        "1": dashboard.ValueMappingResult(text="pending", color="yellow"),
        "2": dashboard.ValueMappingResult(text="firing", color="red"),
    }
    panel = statetimeline.Panel().merge_values(True).no_value("No alert")
    panel.mappings([dashboard.ValueMap(options=words)])
    for alert, chapter in chapters.items():
        links = [
            {"title": "The panel that explains it", "url": panel_of(alert)},
            {"title": "Its chapter", "url": chapter, "targetBlank": True},
        ]
        panel.override_by_name(alert, [dashboard.DynamicConfigValue("links", links)])
    return panel


def _chapters() -> dict[str, str]:
    """The URL of each alert's chapter."""
    rules = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))
    return {
        rule["alert"]: rule["annotations"]["chapter"].replace("docs/", "${docs}/", 1)
        for group in rules["groups"]
        for rule in group["rules"]
    }


def _link(title: str, url: str) -> build.DashboardLink:
    link = build.DashboardLink(title).type(dashboard.DashboardLinkType.LINK)
    return link.url(url).target_blank(True)


class _Alerts(dashboard.AnnotationQuery):
    """Alerts, as annotations of each panel."""

    def to_json(self) -> dict[str, object]:
        """Add what the SDK does not know: what is shown of an alert."""
        shown = {"titleFormat": "{{alertname}}", "tagKeys": "severity,account,reason,campaign"}
        return {**super().to_json(), **shown}


class _AlertsBuilder(build.AnnotationQuery):
    def __init__(self) -> None:
        self._internal = _Alerts("Alerts", _SOURCE, icon_color="red", expr=FIRING)


def _choices() -> Iterator[build.QueryVariable]:
    """The variables by which campaigns are chosen."""
    for name, above in (("organization", {}), ("campaign", {"organization": "$organization"})):
        series = one(metrics.CAMPAIGN_RECIPIENTS, "", **above)
        yield (
            build.QueryVariable(name)
            .label(name.capitalize())
            .datasource(_SOURCE)
            .query(f"label_values({series}, {name})")
            .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
            .multi(True)
            .include_all(True)
            .all_value(".+")
        )


def main() -> int:
    """Check or write the files."""
    made = dashboards()
    if "--write" in sys.argv[1:]:
        for name, text in made.items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    stale = [
        name for name, text in made.items() if (FOLDER / name).read_text(encoding="utf-8") != text
    ]
    if stale:
        print(f"{', '.join(stale)}: out of date; run: python -m tools.dashboards --write")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
