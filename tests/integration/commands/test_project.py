"""`project`: counting in a separate process."""

from tests.kit.harness import Harness
from tests.kit.office import Office
from tests.kit.operator import CommandRunner


def test_a_recreated_topic_is_detected(office: Office) -> None:
    place = (office.harness.topics.progress, 0)
    office.store.advance(office.store.open().generation, {place: 10})
    assert office.start().wait(30) == 1
    assert "project --rebuild" in office.log(0)


def test_missing_topics_are_reported(operator: CommandRunner, harness: Harness) -> None:
    elsewhere = harness.topics.model_copy(update={"progress": "nowhere"})
    topics = {"STREAMER_TOPICS": elsewhere.model_dump_json()}
    assert "missing topics: nowhere" in operator.run("project", code=1, env=topics).stderr
