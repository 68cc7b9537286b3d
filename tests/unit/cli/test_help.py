"""The help of every command: grouped by task, with examples, in 80 and in 40 columns."""

import shlex
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from streamer.cli import app
from streamer.cli.examples import EXAMPLES
from tests.kit.snapshots import assert_snapshot
from tests.unit.test_docs import fault

SNAPSHOTS = Path(__file__).parent / "snapshots"


def _names(command: object, name: str = "") -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for word, each in command.commands.items():
            yield from _names(each, f"{name} {word}".strip())
    else:
        yield name


_COMMAND = get_command(app)
COMMANDS = sorted(_names(_COMMAND))


def shown(name: str, columns: int) -> str:
    variables = {"COLUMNS": str(columns), "TERM": "dumb", "NO_COLOR": "1"}
    output = StringIO()
    with patch.dict("os.environ", variables), redirect_stdout(output), pytest.raises(SystemExit):
        _COMMAND.main([*name.split(), "-h"], prog_name="streamer")
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


@pytest.mark.parametrize("name", ["", "campaign", "campaign create", "outcomes"])
def test_the_help_is_as_it_was_at_80_columns(name: str) -> None:
    file = f"help {name}".strip().replace(" ", "-")
    assert_snapshot(SNAPSHOTS / f"{file}.txt", shown(name, 80))


@pytest.mark.parametrize("columns", [80, 40])
def test_every_help_fits_its_terminal(columns: int) -> None:
    for name in ["", *COMMANDS]:
        text = shown(name, columns)
        assert max(map(len, text.splitlines())) <= columns, name


def test_commands_are_grouped_by_task() -> None:
    headings = [line.split()[1] for line in shown("", 80).splitlines() if line.startswith("╭")]
    assert headings == ["Options", "Send", "Watch", "Mend", "Run", "Try"]


def test_every_command_has_two_examples() -> None:
    assert sorted(EXAMPLES) == COMMANDS
    for name in COMMANDS:
        text = " ".join(shown(name, 200).split())
        for example in EXAMPLES[name]:
            assert " ".join(example.split()) in text, name


def test_every_example_is_a_command() -> None:
    for name, examples in EXAMPLES.items():
        for example in examples:
            _, _, words = example.partition("streamer ")
            line = words.partition(" | ")[0].partition(" > ")[0].partition(" < ")[0]
            assert line.startswith(name), example
            assert fault(shlex.split(line)) is None, example
