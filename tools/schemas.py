"""The JSON Schemas in `schemas/`, made from the models.

`python -m tools.schemas` checks that they are up to date, `--write` renews them, and
`--compatible-with [REF]` compares them with those of a commit: by default with the last ones
that were different.
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
from streamer.model.event import RecipientEvent
from streamer.model.published import DeadLetterHeaders, PublishedOutcome, PublishedResult
from tools.compatibility import INPUT, OUTPUT, ROLE, Schema, breaches
from tools.docs import ROOT

FOLDER = ROOT / "schemas"
README = FOLDER / "README.md"

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class Contract:
    """One schema: what it is of, and whether streamer reads or writes that."""

    title: str
    version: int
    role: str
    model: type[BaseModel]

    @property
    def name(self) -> str:
        """As it stands in the schema's id and its file's name."""
        return self.title.lower().replace(" ", "-")

    def schema(self) -> Schema:
        """The schema, made from the model."""
        made: Schema = self.model.model_json_schema(by_alias=True)
        return {
            "$schema": _DIALECT,
            "$id": f"urn:streamer:schema:{self.name}:{self.version}",
            **cast(Schema, _without_titles(made)),
            "title": self.title,
            ROLE: self.role,
        }


CONTRACTS = (
    Contract("Recipient event", 1, INPUT, RecipientEvent),
    Contract("Campaign definition", 1, INPUT, Definition),
    Contract("Outcome", 1, OUTPUT, PublishedOutcome),
    Contract("Dead letter headers", 1, OUTPUT, DeadLetterHeaders),
    Contract("Result", 1, OUTPUT, PublishedResult),
)


class NoHistoryError(RuntimeError):
    """There is nothing to compare with; the message says why."""


def files() -> dict[str, str]:
    """The schemas' files as they should be: their texts by their names."""
    return {
        f"{contract.name}.json": json.dumps(contract.schema(), indent=2, ensure_ascii=False) + "\n"
        for contract in CONTRACTS
    }


def present() -> dict[str, str]:
    """The schemas' files as they are."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.json"))}


def examples() -> dict[str, str]:
    """The examples of the schemas' page, by the titles that they stand under."""
    found = {}
    for section in re.split(r"^## ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, rest = section.partition("\n")
        if example := re.search(r"^```json\n(.*?)^```$", rest, re.MULTILINE | re.DOTALL):
            found[title] = example[1]
    return found


def at(reference: str) -> dict[str, str]:
    """The schemas' files of a commit.

    Raises:
        NoHistoryError: there is no such commit here.
    """
    names = _git("ls-tree", "--name-only", reference, "schemas/").splitlines()
    texts = {
        name: _git("show", f"{reference}:./{name}") for name in names if name.endswith(".json")
    }
    return {name.removeprefix("schemas/"): text for name, text in texts.items()}


def last_different() -> str:
    """The last commit whose schemas are not the present ones.

    Raises:
        NoHistoryError: there is none.
    """
    now = present()
    for commit in _git("log", "--format=%H", "--", "schemas").split():
        if (then := at(commit)) and then != now:
            return commit
    raise NoHistoryError("no commit that is known here had other schemas")


def all_breaches(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """What new files break of the promises of old ones."""
    found = [f"{name}: removed" for name in old if name not in new]
    for name in old.keys() & new.keys():
        broken = breaches(json.loads(old[name]), json.loads(new[name]))
        found += [f"{name}: {breach}" for breach in broken]
    return sorted(found)


def _without_titles(node: JsonValue, *, are_names: bool = False) -> JsonValue:
    """Drop what pydantic makes of the fields' names: it says nothing more."""
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
        print(f"not compatible with {commit}: only new optional fields, or a new version")
    return 1 if found else 0


def _write() -> None:
    fresh = files()
    for path in FOLDER.glob("*.json"):
        if path.name not in fresh:
            path.unlink()
    for name, text in fresh.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def main() -> int:
    """Check the schemas, renew them, or compare them with a commit's."""
    parser = argparse.ArgumentParser(prog="python -m tools.schemas")
    parser.add_argument("--write", action="store_true", help="make them anew")
    parser.add_argument(
        "--compatible-with",
        nargs="?",
        const="",
        metavar="REF",
        help="compare with those of a commit (by default the last that were different)",
    )
    given = parser.parse_args()
    if given.write:
        _write()
    elif given.compatible_with is None and files() != present():
        print("schemas/: out of date: python -m tools.schemas --write")
        return 1
    return 0 if given.compatible_with is None else _compare(given.compatible_with)


if __name__ == "__main__":
    sys.exit(main())
