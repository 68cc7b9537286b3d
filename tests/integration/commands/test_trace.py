"""`trace`: one recipient's whole story."""

import signal
from typing import cast

import orjson
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.model.record import Coordinates
from streamer.model.wire import PARKED_FOR, source_headers
from tests.kit.mender import Answer, Mender


def test_trace_tells_the_whole_story(mender: Mender) -> None:
    world = mender.world
    world.produce([world.event(1), world.event(2)], partition=1)
    with world.worker():
        world.await_endings(2)
    (sent,) = (o for o in world.outcomes() if o["recipient_id"] == "r-1")

    by_id = mender.json("trace", mender.campaign, "--recipient", "r-1")
    assert by_id == mender.json("trace", mender.campaign, "--email", "User1@example.com")
    events = cast(list[Answer], by_id["events"])
    assert [event["kind"] for event in events] == ["input", "outcome"]
    assert events[1]["email_id"] == sent["email_id"]
    assert events[1]["source"] == events[0]["stands_at"] == sent["source"]
    (standing,) = cast(list[Answer], by_id["ledger"])
    assert (standing["address"], standing["suppressed"]) == ("user1@example.com", False)
    claim = cast(Answer, standing["claim"])
    assert claim["batch_id"] == sent["batch_id"]
    batch = cast(Answer, claim["batch"])
    assert batch["account"] == "default"
    assert cast(Answer, batch["result"])["email_id"] == sent["email_id"]

    text = mender.run("trace", mender.campaign, "--recipient", "r-1").stdout
    assert f"email id: {sent['email_id']}" in text
    assert "user2" not in text
    unknown = mender.run("trace", mender.campaign, "--recipient", "r-9", code=1)
    assert "nothing is known of r-9" in unknown.stderr
    mender.run("trace", mender.campaign, code=2)


def test_trace_shows_a_batch_that_is_open(mender: Mender) -> None:
    world = mender.world
    world.produce([world.event(1)])
    assert world.start_worker(crash_at="after_pin").wait() == -signal.SIGKILL
    text = mender.run("trace", mender.campaign, "--recipient", "r-1").stdout
    assert "as item 0 of batch" in text
    assert "still open: no result yet" in text


def test_trace_tells_a_parked_copy_that_waits_from_one_that_came_back(mender: Mender) -> None:
    world, topics = mender.world, mender.world.topics
    value = orjson.dumps(world.event(1))
    mender.write(topics.recipients, value)
    source = source_headers(Coordinates(topics.recipients, 0, 0))
    waits = (PARKED_FOR, f"campaign {mender.campaign}".encode())
    mender.write(topics.parked, value, [*source, waits])
    mender.write(topics.parked, value, [*source, waits])
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    relayed = [TopicPartition(topics.parked, 0, 1)]
    (future,) = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(f"{world.name}.relay", relayed)]
    ).values()
    future.result()
    mender.write(topics.recipients, value, source)

    story = mender.json("trace", mender.campaign, "--email", "user1@example.com")
    events = cast(list[Answer], story["events"])
    assert [e["kind"] for e in events] == ["input", "parked", "parked", "returned"]
    assert [e["is_waiting"] for e in events if e["kind"] == "parked"] == [False, True]
    assert {orjson.dumps(e["source"]) for e in events} == {orjson.dumps(events[0]["stands_at"])}
