"""The consuming side: what a record may look like, and how partitions come and go."""

from streamer.cli.repair.reading import topic_reader
from streamer.settings import Settings
from tests.kit.raw import produce_raw
from tests.kit.world import World


def test_a_record_whose_headers_cannot_be_read_is_read_without_them(world: World) -> None:
    topic, settings = (
        world.topics.parked,
        Settings.model_validate(
            {"kafka": {"bootstrap_servers": world.bootstrap_servers, "group_id": world.name}}
        ),
    )
    # A few before it: the interpreter treats a call that it knows otherwise than a first one.
    produce_raw(world.bootstrap_servers, topic, b"good", [(b"one", b"1")], count=20)
    produce_raw(world.bootstrap_servers, topic, b"bad", [(b"one", b"1"), (b"\xff", b"2")])
    produce_raw(world.bootstrap_servers, topic, b"good", [(b"one", b"1")])
    assert world.ever_parked() == 22
    with topic_reader(settings) as reader:
        found = list(reader.read(topic, reader.spans(topic)))
    good = (b"good", [("one", b"1")])
    assert [(each.value, each.headers) for each in found] == [*[good] * 20, (b"bad", []), good]
