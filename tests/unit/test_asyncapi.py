"""The AsyncAPI document is that of the code."""

import json
from typing import cast

from pydantic import JsonValue

from streamer.settings import TopicSettings
from tools import asyncapi


def test_the_document_is_up_to_date() -> None:
    assert asyncapi.DOCUMENT.read_text(encoding="utf-8") == asyncapi.text()


def test_all_topics_and_schemas_are_in_it() -> None:
    document = cast(dict[str, dict[str, JsonValue]], json.loads(asyncapi.text()))
    assert set(document["channels"]) == set(TopicSettings.model_fields)
    files = {part for part in asyncapi.text().split('"') if part.startswith("../")}
    assert len(files) == 6  # all but the definition of a campaign
    for file in files:
        assert (asyncapi.DOCUMENT.parent / file).is_file()
