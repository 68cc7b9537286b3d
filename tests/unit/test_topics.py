"""What each topic needs."""

import pytest

from streamer.settings import SettingsError, TopicSettings
from streamer.topics import wanted_topics


def test_parked_records_are_kept_forever() -> None:
    shapes = {shape.name: shape for shape in wanted_topics(TopicSettings(), 8, 3)}
    assert shapes["campaign.parked"].config["retention.ms"] == "-1"
    assert shapes["campaign.results"].config["cleanup.policy"] == "compact"
    assert {shape.config["min.insync.replicas"] for shape in shapes.values()} == {"2"}


def test_results_fit_into_their_topics() -> None:
    shapes = {shape.name: shape for shape in wanted_topics(TopicSettings(), 8, 1)}
    room = {name: int(shape.config["max.message.bytes"]) for name, shape in shapes.items()}
    for resolution in ("campaign.outcomes", "campaign.dead-letters", "campaign.parked"):
        assert room[resolution] > room["campaign.recipients"]


def test_topics_must_differ() -> None:
    with pytest.raises(SettingsError, match=r"topics.recipients and topics.parked are both x"):
        wanted_topics(TopicSettings(recipients="x", parked="x"), 8, 1)
