"""The examples of docs/integrating.md say what streamer reads; others run them."""

import json
import re
from typing import cast

import pytest

from streamer.model.event import parse
from streamer.settings import TopicSettings
from tests.kit.documents import examples
from tools.schemas import CONTRACTS
from tools.validation import fits

PAGE = "integrating.md"
_EVENT = {
    "java": re.compile(r'"""(.*?)"""', re.DOTALL),
    "typescript": re.compile(r"JSON\.stringify\((.*?)\)", re.DOTALL),
}


@pytest.mark.parametrize("language", _EVENT)
def test_the_events_of_the_examples_fit_the_schema(language: str) -> None:
    (example,) = examples(PAGE, language)
    (written,) = _EVENT[language].findall(example)
    event = json.loads(written)
    (schema,) = (each.schema() for each in CONTRACTS if each.name == "recipient-event")
    assert fits(event, schema, schema)
    assert not fits({**event, "campaign_id": None}, schema, schema)
    assert parse(written.strip().encode()).variables == {"first_name": "Ann"}
    assert f'"{TopicSettings().recipients}"' in example


def test_the_connector_reads_what_is_committed() -> None:
    (example,) = examples(PAGE, "json")
    config = cast(dict[str, str], json.loads(example)["config"])
    assert config["topics"] == TopicSettings().outcomes
    assert config["consumer.override.isolation.level"] == "read_committed"
    assert all(isinstance(value, str) for value in config.values())
