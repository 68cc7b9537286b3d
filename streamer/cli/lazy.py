"""Commands that are imported when they are needed: imports take most of a short command's time."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getdoc
from typing import NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_name, get_group

from streamer.cli.examples import epilog
from streamer.startup import quiet_imports


class CommandSource(NamedTuple):
    """Where a command is.

    Attributes:
        module: its module in `streamer.cli`.
        name: of its function there, or of the `typer.Typer` of a group.
        panel: the heading of the help below which it is listed.
    """

    module: str
    name: str
    panel: str


class LazyCommands(Mapping[str, TyperCommand | TyperGroup]):
    """The commands by name, each imported when it is first asked for."""

    def __init__(self, sources: Mapping[str, CommandSource]) -> None:
        self._sources = sources
        self._loaded: dict[str, TyperCommand | TyperGroup] = {}

    def __getitem__(self, name: str) -> TyperCommand | TyperGroup:
        if name not in self._loaded:
            self._loaded[name] = _load(name, self._sources[name])
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _load(name: str, source: CommandSource) -> TyperCommand | TyperGroup:
    with quiet_imports():
        module = import_module(f"streamer.cli.{source.module}")
    found: object = getattr(module, source.name)
    parent = typer.Typer(pretty_exceptions_enable=False)
    if isinstance(found, typer.Typer):
        parent.add_typer(found, name=name, rich_help_panel=source.panel)
        _write_help(found, f"{name} ")
    else:
        assert callable(found), f"{source} is no command"
        parent.command(name, rich_help_panel=source.panel)(found)
        _write_help(parent)
    loaded = get_group(parent).commands[name]
    assert isinstance(loaded, TyperCommand | TyperGroup)
    return loaded


def _write_help(commands: typer.Typer, prefix: str = "") -> None:
    """Fold the docstrings to the terminal, and show two examples below the options."""
    for command in commands.registered_commands:
        call = command.callback
        assert call is not None
        paragraphs = (getdoc(call) or "").split("\n\n")
        command.help = "\n\n".join(" ".join(each.split()) for each in paragraphs)
        name = command.name or get_command_name(call.__name__)
        command.epilog = epilog(f"{prefix}{name}")
