"""A table of the acts and their targets."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamer.demo.reports import ActReport

_P99_LIMIT_MS = 100.0


def show(console: Console, reports: Sequence[ActReport]) -> None:
    """Print the table, followed by what does not add up, if anything."""
    table = Table()
    table.add_column()
    for report in reports:
        table.add_column(f"act {report.act.name}", justify="right", no_wrap=True)
    for name, cells in _rows(reports):
        table.add_row(name, *cells)
    console.print(table)
    wrong = problems(reports)
    for line in wrong:
        console.print(Text(line, "red"))
    if not wrong:
        console.print(
            "Every recipient has exactly one result, and none was mailed twice.", style="green"
        )


def problems(reports: Sequence[ActReport]) -> list[str]:
    """Return what does not add up, with the names of the acts."""
    return [f"act {report.act.name}: {words}" for report in reports for words in report.problems]


def _rows(reports: Sequence[ActReport]) -> list[tuple[str, list[Text]]]:
    return [
        ("recipients", [_count(r.act.recipients) for r in reports]),
        ("sent", [_count(r.sent) for r in reports]),
        ("skipped (suppressed)", [_count(r.skipped) for r in reports]),
        ("  of whom left since", [_count(r.gone) for r in reports]),
        ("failed", [_count(r.failed) for r in reports]),
        ("indeterminate", [_count(r.indeterminate) for r in reports]),
        ("dead letters", [_count(r.dead) for r in reports]),
        ("workers killed", [_count(r.killed) for r in reports]),
        ("mails accepted", [_count(r.accepted) for r in reports]),
        ("mails accepted twice", [_none(r.accepted_twice) for r in reports]),
        ("calls", [_count(r.calls) for r in reports]),
        ("mails in a call", [Text(f"{r.fill:.1f}") for r in reports]),
        ("time", [_against(r.seconds, r.act.limit_s, "s") for r in reports]),
        (
            "suppression p99",
            [_against(r.suppression_p99_ms, _P99_LIMIT_MS, "ms") for r in reports],
        ),
    ]


def _count(value: int) -> Text:
    return Text(f"{value:,}")


def _none(value: int) -> Text:
    """A count that should be 0."""
    return Text(f"{value:,}", "bold red" if value else "green")


def _against(value: float, limit: float | None, unit: str) -> Text:
    if limit is None:
        return Text(f"{value:.1f} {unit}")
    if value < limit:
        return Text(f"{value:.1f} of {limit:.0f} {unit}", "green")
    return Text(f"TOO SLOW {value:.1f} of {limit:.0f} {unit}", "bold red")
