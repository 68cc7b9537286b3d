"""Tables: folded on a terminal, and whole in a pipe."""

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from streamer.cli import output
from streamer.cli.output import fitted, folded, say, show_table, stream_table
from tests.kit.snapshots import assert_snapshot

SNAPSHOTS = Path(__file__).parent / "snapshots"
CAMPAIGNS = [
    (
        "acme/spring-26",
        "sending",
        "48 %",
        "48,211",
        "12",
        "51,777",
        "5 h",
        "Hello {{ first_name }}",
    ),
    (
        "acme/a-campaign-with-a-long-name",
        "waiting for account default (monthly_quota_exceeded)",
        "0 %",
        "0",
        "0",
        "1,000",
        "12 d",
        "What is new in the shop, and what our customers say of it",
    ),
]
OUTCOMES = [
    (
        "2026-11-24 03:40:00 UTC",
        "228a7f9e94022efef28b153418018c1b",
        "somebody.with.a.long.address@example.com",
        "failed",
        "rejected",
        "Invalid `to` field. The email address needs to follow the form of an address.",
    )
]
HEADER = ("CAMPAIGN", "STATE", "PROGRESS", "SENT", "FAILED", "LEFT", "AGE", "SUBJECT")
COLUMNS = (("OCCURRED", 24), ("RECIPIENT", 16), ("EMAIL", 28), ("STATUS", 13), ("REASON", 15))


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(output, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch


def test_tables_fold_at_80_columns(
    on_terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show_table(HEADER, CAMPAIGNS)
    stream_table((*COLUMNS, ("DETAIL", 6)), OUTCOMES)
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert_snapshot(SNAPSHOTS / "tables.txt", text)


def test_a_table_in_a_pipe_has_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(HEADER, CAMPAIGNS)
    assert len(capsys.readouterr().out.splitlines()) == 3


@given(
    cells=st.lists(st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=60)),
    room=st.integers(10, 200),
)
def test_folding_loses_nothing(cells: list[str], room: int) -> None:
    if not cells:
        return
    widths = fitted([len(cell) for cell in cells], room)
    least = 8 * len(cells) + 2 * (len(cells) - 1)
    assert sum(widths) + 2 * (len(widths) - 1) <= max(room, least)
    lines = folded(cells, [max(1, width) for width in widths])
    joined = ["".join(part) for part in zip(*lines, strict=True)] or [""] * len(cells)
    assert joined == cells


@pytest.mark.parametrize(("no_color", "is_coloured"), [("", True), ("1", False)])
def test_colours_are_left_out_if_asked(
    monkeypatch: pytest.MonkeyPatch, no_color: str, is_coloured: bool
) -> None:
    written: list[str] = []
    monkeypatch.setattr(typer, "echo", written.append)
    monkeypatch.setenv("NO_COLOR", no_color)
    say("text", mark="failed", colour="red")
    assert ("\x1b[31m" in written[0]) == is_coloured
