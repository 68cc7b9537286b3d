"""What the commands print: escaped in one place, and raw only for programs."""

import csv
import io
import re
import sys
from pathlib import Path

import orjson
import pytest
import typer

from streamer.cli import output

NASTY = "a\x1b]0;owned\x07\x9b2J\u202e\nb"
CLI = Path(output.__file__).parent


class _Terminal(io.TextIOWrapper):
    """Standard output that is a terminal."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def shown(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> _Terminal:
    one = _Terminal()
    monkeypatch.setattr(sys, "stdout", one)
    return one


def _show_everything() -> None:
    output.say(NASTY, mark=NASTY)
    output.say_block(NASTY)
    output.show_json({NASTY: [NASTY]})
    output.show_json_line(NASTY)
    output.show_stored_json(f'{{"x": "{NASTY}"}}'.encode())
    output.show_csv(("x",), [(NASTY, 1, None)])
    output.show_lines([NASTY])
    output.show_table(("x",), [(NASTY,)])
    output.stream_table((("x", 3),), [(NASTY,)])


def test_nothing_controls_a_terminal(terminal: _Terminal) -> None:
    _show_everything()
    # Styling is click's own, and resets what it sets.
    plain = re.sub(r"\x1b\[\d*m", "", terminal.shown)
    assert all(line.isprintable() for line in plain.split("\n"))


def test_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    output.warn(NASTY)
    with pytest.raises(typer.Exit):
        output.fail(NASTY)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.isprintable() for line in lines)
    assert [line[:2] for line in lines] == ["a\\", "  ", "a\\", "  "]


def test_programs_get_what_was_stored(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_lines([NASTY])
    assert capsys.readouterr().out == f"{NASTY}\n"
    output.show_csv(("x", "y"), [(NASTY, 1)])
    assert list(csv.reader(io.StringIO(capsys.readouterr().out))) == [["x", "y"], [NASTY, "1"]]
    output.show_stored_json(b'{"x":\n"\xe2\x80\xae"}')
    assert capsys.readouterr().out == '{"x": "\u202e"}\n'
    output.show_json(NASTY)
    assert orjson.loads(capsys.readouterr().out) == NASTY


@pytest.mark.parametrize("cell", ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx"])
def test_a_spreadsheet_evaluates_no_cell(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    output.show_csv(("email", "attempts"), [(cell, -1)])
    (_, row) = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    assert row == [f"'{cell}", "-1"]


def test_all_output_goes_through_one_module() -> None:
    forbidden = re.compile(r"\b(typer\.(echo|secho|style)|click\.|print\(|sys\.stdout)")
    for path in sorted(CLI.glob("*.py")):
        if path.name != "output.py":
            assert not forbidden.search(path.read_text(encoding="utf-8")), path.name
