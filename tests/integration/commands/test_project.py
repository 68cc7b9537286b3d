"""`project`: counting in a separate process."""

from streamer.progress.fold import Cursor, Place
from tests.kit.office import Office
from tests.kit.operator import Operator
from tests.kit.world import World


def test_a_recreated_topic_is_detected(office: Office) -> None:
    place = Place(Cursor.OUTCOMES, office.world.topics.outcomes, 0)
    office.store.advance(office.store.open().generation, {place: 10})
    assert office.start().wait(30) == 1
    assert "project --rebuild" in office.log(0)


def test_missing_topics_are_reported(operator: Operator, world: World) -> None:
    elsewhere = world.topics.model_copy(update={"parked": "nowhere"})
    topics = {"STREAMER_TOPICS": elsewhere.model_dump_json()}
    assert "missing topics: nowhere" in operator.run("project", code=1, env=topics).stderr
