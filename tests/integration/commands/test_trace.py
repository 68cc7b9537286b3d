"""`trace`: the history of one recipient."""

import signal
from typing import cast

import orjson
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.model.campaign import CampaignName
from streamer.model.record import RecordId
from streamer.model.reference import TAG, campaign_check, place
from streamer.model.wire import PARKED_FOR, source_headers
from tests.kit.harness import Harness
from tests.kit.mail_events import event_value
from tests.kit.operator import Answer, CommandRunner
from tests.kit.records import Records


def _tags(outcome: dict[str, object]) -> dict[str, str]:
    """Return the tags of the mail, of which only the reference tells."""
    source = RecordId(**cast(dict[str, int], outcome["source"]))  # type: ignore[arg-type]  # a text too
    return {TAG: campaign_check("x", "y") + place(source)}


def test_trace_shows_a_recipients_history(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    harness.produce([harness.event(1), harness.event(2)], partition=1)
    with harness.worker():
        harness.await_resolutions(2)
    (sent,) = (o for o in harness.outcomes() if o["recipient_id"] == "r-1")

    by_id = operator.answer("trace", operator.campaign, "--recipient", "r-1")
    assert by_id == operator.answer("trace", operator.campaign, "--email", "User1@example.com")
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

    name = CampaignName(harness.organization, "spring")
    topic = harness.topics.recipients
    values = [event_value("opened", f"user{n}@example.com", name=name) for n in (1, 1, 2)]
    values.append(
        event_value("clicked", "x@example.com", tags=_tags(sent), topic=topic, event_id="msg_2")
    )
    for value in (*values, b"junk"):
        records.write(harness.topics.events, value)
    traced = operator.answer("trace", operator.campaign, "--recipient", "r-1")
    events = cast(list[Answer], traced["events"])
    assert [event["kind"] for event in events] == ["input", "outcome", "event", "event"]
    assert {event["type"] for event in events[2:]} == {"opened", "clicked"}

    text = operator.run("trace", operator.campaign, "--recipient", "r-1").stdout
    assert f"email id: {sent['email_id']}" in text
    assert "user2" not in text
    unknown = operator.run("trace", operator.campaign, "--recipient", "r-9", code=1)
    assert "no trace of r-9" in unknown.stderr
    operator.run("trace", operator.campaign, code=2)


def test_trace_shows_an_unresolved_batch(harness: Harness, operator: CommandRunner) -> None:
    harness.produce([harness.event(1)])
    assert harness.start_worker(crash_at="after_pin").wait() == -signal.SIGKILL
    text = operator.run("trace", operator.campaign, "--recipient", "r-1").stdout
    assert "as item 0 of batch" in text
    assert "unresolved: no result yet" in text


def test_trace_distinguishes_parked_and_released_copies(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    topics = harness.topics
    value = orjson.dumps(harness.event(1))
    records.write(topics.recipients, value)
    source = source_headers(RecordId(topics.recipients, 0, 0))
    waits = (PARKED_FOR, f"campaign {operator.campaign}".encode())
    records.write(topics.parked, value, [*source, waits])
    records.write(topics.parked, value, [*source, waits])
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    relayed = [TopicPartition(topics.parked, 0, 1)]
    (future,) = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(f"{harness.name}.relay", relayed)]
    ).values()
    future.result()
    records.write(topics.recipients, value, source)

    story = operator.answer("trace", operator.campaign, "--email", "user1@example.com")
    events = cast(list[Answer], story["events"])
    assert [e["kind"] for e in events] == ["input", "parked", "parked", "returned"]
    assert [e["is_waiting"] for e in events if e["kind"] == "parked"] == [False, True]
    assert {orjson.dumps(e["source"]) for e in events} == {orjson.dumps(events[0]["stands_at"])}
