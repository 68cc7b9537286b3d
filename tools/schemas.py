"""Generates the JSON Schemas in `schemas/` from the models.

`python -m tools.schemas` checks that they are up to date, `--write` updates them, and
`--compatible-with [REF]` compares them with those of a commit, by default the latest commit with
different schemas.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import BaseModel, JsonValue

from streamer.model.campaign import Definition
from streamer.model.event import EventSchema
from streamer.model.published import (
    DeadLetterHeaders,
    PublishedMailEvent,
    PublishedOutcome,
    PublishedProgress,
    PublishedResult,
)
from tools.compatibility import INPUT, OUTPUT, ROLE, Schema, breaches
from tools.docs import ROOT

FOLDER = ROOT / "schemas"
README = FOLDER / "README.md"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Contract:
    """A schema: its model, and whether streamer reads or writes the data."""

    title: str
    version: int
    role: str
    model: type[BaseModel]

    @property
    def name(self) -> str:
        """The name used in the schema's id and file name."""
        return self.title.lower().replace(" ", "-")

    def schema(self) -> Schema:
        """Generate the schema from the model."""
        made: Schema = self.model.model_json_schema(by_alias=True)
        return {
            "$schema": _DIALECT,
            "$id": f"urn:streamer:schema:{self.name}:{self.version}",
            **cast(Schema, _without_titles(made)),
            "title": self.title,
            ROLE: self.role,
        }


CONTRACTS = (
    Contract("Recipient event", 1, INPUT, EventSchema),
    Contract("Campaign definition", 1, INPUT, Definition),
    Contract("Outcome", 1, OUTPUT, PublishedOutcome),
    Contract("Dead letter headers", 1, OUTPUT, DeadLetterHeaders),
    Contract("Progress", 1, OUTPUT, PublishedProgress),
    Contract("Result", 1, OUTPUT, PublishedResult),
    Contract("Mail event", 1, OUTPUT, PublishedMailEvent),
)


class NoHistoryError(RuntimeError):
    """No earlier schemas to compare with; the message says why."""


def files() -> dict[str, str]:
    """The expected schema files, as texts by name."""
    return {
        f"{contract.name}.json": json.dumps(contract.schema(), indent=2, ensure_ascii=False) + "\n"
        for contract in CONTRACTS
    }


def present() -> dict[str, str]:
    """The schema files as they are, as texts by name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}


def examples() -> dict[str, str]:
    """The examples in the schemas' README, by section title."""
    found = {}
    for section in re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, rest = section.partition("\n")
        if example := re.search(r"^```json\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL):
            found[title] = example[1]
    return found


def at(reference: str) -> dict[str, str]:
    """The schema files of a commit, as texts by name.

    Raises:
        NoHistoryError: the commit does not exist in this repository.
    """
    names = _git("ls-tree", "--name-only", reference, "schemas/").splitlines()
    texts = {
        name: _git("show", f"{reference}:./{name}") for name in names if name.endswith(".json")
    }
    return {name.removeprefix("schemas/"): text for name, text in texts.items()}


def last_different() -> str:
    """The latest commit whose schemas differ from the current ones.

    Raises:
        NoHistoryError: there is no such commit.
    """
    now = present()
    for commit in _git("log", "--format=%H", "--", "schemas").split():
        if (then := at(commit)) and then != now:
            return commit
    raise NoHistoryError("no earlier commit with different schemas")


def all_breaches(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """List the incompatibilities between old and new files."""
    found = [f"{name}: removed" for name in old if name not in new]
    for name in old.keys() & new.keys():
        broken = breaches(json.loads(old[name]), json.loads(new[name]))
        found += [f"{name}: {breach}" for breach in broken]
    return sorted(found)


def _without_titles(node: JsonValue, *, are_names: bool = False) -> JsonValue:
    """Drop the titles that pydantic derives from field names, which add nothing."""
    if isinstance(node, list):
        return [_without_titles(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_titles(value, are_names=key in ("properties", "$defs") and not are_names)
        for key, value in node.items()
        if key != "title" or are_names
    }


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, check=True, encoding="utf-8"
        )
    except FileNotFoundError:
        raise NoHistoryError("git is not installed") from None
    except subprocess.CalledProcessError as error:
        raise NoHistoryError(f"git {arguments[0]}: {error.stderr.strip()}") from None
    return done.stdout


def _compare(reference: str) -> int:
    try:
        commit = reference or last_different()
        old = at(commit)
    except NoHistoryError as error:
        print(f"schemas: not compared: {error}")
        return 1 if reference else 0
    found = all_breaches(old, present())
    for breach in found:
        print(f"schemas/{breach}")
    if found:
        print(f"incompatible with {commit}: only add optional fields, or raise the version")
    return 1 if found else 0


def _write() -> None:
    fresh = files()
    for path in FOLDER.glob("*.json"):
        if path.name not in fresh:
            path.unlink()
    for name, text in fresh.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Check the schemas, update them, or compare them with a commit's."""
    parser = argparse.ArgumentParser(prog="python -m tools.schemas")
    parser.add_argument("--write", action="store_true", help="update the schemas")
    parser.add_argument(
        "--compatible-with",
        nargs="?",
        const="",
        metavar="REF",
        help="compare with a commit's schemas (default: the latest commit with different ones)",
    )
    given = parser.parse_args()
    if given.write:
        _write()
    elif given.compatible_with is None and files() != present():
        print("schemas/ is out of date; run: python -m tools.schemas --write")
        return 1
    return 0 if given.compatible_with is None else _compare(given.compatible_with)


if __name__ == "__main__":
    sys.exit(main())
