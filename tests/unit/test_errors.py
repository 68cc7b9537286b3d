"""The tree of errors is what its docstring shows."""

import importlib
import pkgutil
from collections import Counter
from typing import NamedTuple

import streamer
from streamer import errors
from streamer.errors import DONE, FAILED, WRONG_USE, StreamerError, exit_code
from streamer.ledger.connection import RedisRefusedError
from streamer.settings import SettingsError
from streamer.worker.waiter import StoppedError


class _Node(NamedTuple):
    name: str
    parent: str
    exit_code: int


def test_the_docstring_shows_all_errors_with_their_codes() -> None:
    for module in pkgutil.walk_packages(streamer.__path__, "streamer."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    assert Counter(_shown()) == Counter(_defined(StreamerError, ""))


def test_exit_codes() -> None:
    assert exit_code(StoppedError()) == DONE
    assert exit_code(SettingsError("x")) == WRONG_USE
    assert exit_code(RedisRefusedError("NOPERM")) == FAILED
    assert exit_code(OSError()) == FAILED


def _shown() -> list[_Node]:
    nodes: list[_Node] = []
    above: list[tuple[int, str, int]] = []
    for line in (errors.__doc__ or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if indent < 4:
            continue
        name, *rest = line.split()
        while above and above[-1][0] >= indent:
            above.pop()
        _, parent, code = above[-1] if above else (0, "", FAILED)
        if rest and rest[0].rstrip(",").isdecimal():
            code = int(rest[0].rstrip(","))
        nodes.append(_Node(name, parent, code))
        above.append((indent, name, code))
    return nodes


def _defined(error: type[StreamerError], parent: str) -> list[_Node]:
    nodes = (
        [] if error.__name__.startswith("_") else [_Node(error.__name__, parent, error.exit_code)]
    )
    for each in error.__subclasses__():
        nodes += _defined(each, error.__name__)
    return nodes
