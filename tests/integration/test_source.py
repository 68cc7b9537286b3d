"""The consuming side: what a record may look like."""

from streamer.cli.reading import topic_reader
from streamer.settings import Settings
from tests.kit.harness import Harness
from tests.kit.raw import produce_raw


def test_a_record_with_unreadable_headers_is_read(harness: Harness) -> None:
    topic, settings = harness.topics.parked, _settings(harness)
    # A few before it: the interpreter treats a call that it knows otherwise than a first one.
    produce_raw(harness.bootstrap_servers, topic, b"good", [(b"one", b"1")], count=20)
    produce_raw(harness.bootstrap_servers, topic, b"bad", [(b"one", b"1"), (b"\xff", b"2")])
    produce_raw(harness.bootstrap_servers, topic, b"good", [(b"one", b"1")])
    assert harness.ever_parked() == 22
    with topic_reader(settings) as reader:
        found = list(reader.read(topic, reader.spans(topic)))
    good = (b"good", [("one", b"1")])
    assert [(each.value, each.headers) for each in found] == [*[good] * 20, (b"bad", []), good]


def _settings(harness: Harness) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {
                "bootstrap_servers": harness.bootstrap_servers,
                "group_id": harness.name,
                "group_protocol": harness.group_protocol,
            },
            "topics": harness.topics.model_dump(),
            "worker": {"id": "reader"},
        }
    )
