"""Generates docs/asyncapi.json, an AsyncAPI document of all topics, from the code.

`python -m tools.asyncapi` checks that it is up to date, `--write` updates it.
"""

import json
import sys

from pydantic import JsonValue

from streamer import topics
from streamer.cli.version import version
from streamer.settings import TopicSettings
from tools.docs import ROOT
from tools.schemas import CONTRACTS

DOCUMENT = ROOT / "docs" / "asyncapi.json"

_JSON_SCHEMA = "application/schema+json;version=draft-2020-12"
_BINDING = "0.5.0"
_VALUES = {
    "recipients": "recipient-event",
    "outcomes": "outcome",
    "dead_letters": None,
    "parked": None,
    "results": "result",
    "progress": "progress",
    "events": "mail-event",
}
"""By topic the schema of its values; None where a value is that of an input record, untouched."""
_HEADERS = {"dead_letters": "dead-letter-headers"}
_KEYS = {
    "recipients": "The recipient's id; any key is accepted, and none too.",
    "results": "ORGANIZATION/CAMPAIGN",
    "progress": "ORGANIZATION/CAMPAIGN",
    "events": "A hash of the address.",
}
_ACTIONS = {
    "recipients": ("receive",),
    "parked": ("send", "receive"),
    "events": ("send", "receive"),
}
"""What streamer does with a topic, unless it only sends to it."""


def document() -> dict[str, JsonValue]:
    """Return the document."""
    named: dict[str, JsonValue] = {}
    channels: dict[str, JsonValue] = {}
    operations: dict[str, JsonValue] = {}
    wanted = topics.wanted_topics(TopicSettings(), topics.DEFAULT_PARTITIONS, topics.MAX_REPLICAS)
    for (setting, field), topic in zip(TopicSettings.model_fields.items(), wanted, strict=True):
        named[setting] = _message(setting)
        messages = {setting: _reference("components", "messages", setting)}
        channels[setting] = {
            "address": topic.name,
            "description": f"{field.description} Its name is the setting `topics.{setting}`.",
            "messages": {**messages},
            "bindings": {"kafka": _binding(topic)},
        }
        for action in _ACTIONS.get(setting, ("send",)):
            operations[f"{action}_{setting}"] = {
                "action": action,
                "channel": _reference("channels", setting),
                "messages": [_reference("channels", setting, "messages", setting)],
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "streamer",
            "version": version(),
            "description": "Sends email campaigns from Kafka through Resend. `receive` is what "
            "streamer reads, `send` what it writes. Read with isolation.level=read_committed.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": named},
    }


def text() -> str:
    """Return the document as its file has it."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def _message(setting: str) -> JsonValue:
    value, headers = _VALUES[setting], _HEADERS.get(setting)
    key = _KEYS.get(setting, "That of the input record.")
    message: dict[str, JsonValue] = {
        "name": setting,
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": key},
                "bindingVersion": _BINDING,
            }
        },
    }
    if value is None:
        message["description"] = "The value and headers of an input record, with further headers."
    else:
        message["payload"] = _schema(value)
    if headers is not None:
        message["headers"] = _schema(headers)
    return message


def _schema(name: str) -> JsonValue:
    if name not in {contract.name for contract in CONTRACTS}:
        raise AssertionError(f"there is no schema {name}")
    return {"schemaFormat": _JSON_SCHEMA, "schema": {"$ref": f"../schemas/{name}.json"}}


def _binding(topic: topics.TopicSpec) -> JsonValue:
    config = topic.config
    configuration: dict[str, JsonValue] = {
        "cleanup.policy": [config["cleanup.policy"]],
        "max.message.bytes": int(config["max.message.bytes"]),
    }
    for name in ("retention.ms", "retention.bytes"):
        if name in config:
            configuration[name] = int(config[name])
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replicas": topic.replication,
        "topicConfiguration": configuration,
        "bindingVersion": _BINDING,
    }


def _reference(*path: str) -> JsonValue:
    return {"$ref": f"#/{'/'.join(path)}"}


def main() -> int:
    """Check the document, or update it with `--write`."""
    if "--write" in sys.argv[1:]:
        DOCUMENT.write_text(text(), encoding="utf-8")
    elif not DOCUMENT.is_file() or DOCUMENT.read_text(encoding="utf-8") != text():
        print("docs/asyncapi.json is out of date; run: python -m tools.asyncapi --write")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
