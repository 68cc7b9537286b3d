"""`trace`: the history of one recipient."""

import signal
from contextlib import closing
from typing import cast

import orjson
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer.kafka.offsets import GroupOffsets, end_offsets
from streamer.kafka.partitions import partition_of
from streamer.model.campaign import CampaignName
from streamer.model.mail_event import event_key
from streamer.model.record import RecordId
from streamer.model.reference import TAG, campaign_check, place
from streamer.model.wire import PARKED_FOR, source_headers
from streamer.sandbox import Faults
from tests.kit.harness import Harness, wait_until
from tests.kit.mail_events import event_value
from tests.kit.office import Office
from tests.kit.operator import Answer, CommandRunner
from tests.kit.records import Records
from tests.kit.settings import settings_of


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


@pytest.fixture
def of_large_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the topics count as too large to be read."""
    monkeypatch.setattr("streamer.cli.trace._FEW", -1)


@pytest.mark.usefixtures("of_large_topics")
def test_the_ledger_leads_to_a_record_and_its_outcome(
    harness: Harness, operator: CommandRunner
) -> None:
    harness.produce(harness.event(number) for number in range(50))
    harness.produce([orjson.dumps(harness.event(50))], partition=3)  # without a key
    with harness.worker():
        harness.await_resolutions(51)
    for number in (7, 50):
        trace = ("trace", operator.campaign, "--email", f"User{number}@example.com")
        followed = operator.run(*trace, "--json")
        assert "found by the ledger alone" in followed.stderr
        read = operator.run(*trace, "--all", "--json")
        assert "found by" not in read.stderr
        assert orjson.loads(followed.stdout) == orjson.loads(read.stdout)
        kinds = [event["kind"] for event in orjson.loads(read.stdout)["events"]]
        assert kinds == ["input", "outcome"]


@pytest.mark.usefixtures("of_large_topics")
def test_the_ledger_leads_to_the_attempts_before_a_retry(
    harness: Harness, operator: CommandRunner
) -> None:
    harness.sandbox.set_faults(Faults(reject_addresses=frozenset({"user1@example.com"})))
    harness.produce(harness.event(number) for number in range(3))
    with harness.worker():
        harness.await_resolutions(3)
        harness.sandbox.reset_faults()
        operator.run("retry", operator.campaign, "--status", "failed", "--yes")
        harness.await_resolutions(4)
    trace = ("trace", operator.campaign, "--email", "user1@example.com")
    followed = operator.answer(*trace)
    assert followed == operator.answer(*trace, "--all")
    events = cast(list[Answer], followed["events"])
    assert [(e["kind"], e.get("status")) for e in events] == [
        ("input", None), ("outcome", "failed"), ("input", None), ("outcome", "sent"),
    ]  # fmt: skip


@pytest.mark.usefixtures("of_large_topics")
def test_mail_events_are_read_until_all_is_found_that_the_ledger_knows(
    office: Office, operator: CommandRunner, records: Records
) -> None:
    harness = office.harness
    name, topic = CampaignName(harness.organization, "spring"), harness.topics.events
    key = event_key("user1@example.com")
    number = partition_of(settings_of(harness), key, 4) or 0

    def write(kind: str, event_id: str) -> None:
        value = event_value(kind, "user1@example.com", name=name, event_id=event_id)
        records.write(topic, value, partition=number, key=key)

    harness.produce(harness.event(each) for each in range(3))
    with harness.worker():
        harness.await_resolutions(3)
    other = CampaignName(harness.organization, "other")
    value = event_value("opened", "user1@example.com", name=other, event_id="other")
    with office.applying():
        records.write(topic, value, partition=number, key=key)
        for event_id, kind in enumerate(["delivered", "opened", *["opened"] * 3]):
            write(kind, str(event_id))
        with closing(GroupOffsets(settings_of(harness), f"{harness.name}.events")) as offsets:
            place = (topic, number)
            wait_until(
                lambda: any(each.offset == 6 for each in offsets.read([place]).values()),
                30,
                "they are applied",
            )
    write("clicked", "5")  # not applied yet

    def kinds(*options: str) -> list[object]:
        answer = operator.answer(
            "trace", operator.campaign, "--email", "user1@example.com", *options
        )
        return [event.get("type") for event in cast(list[Answer], answer["events"])[2:]]

    assert kinds() == ["delivered", "opened", "clicked"]
    assert kinds("--all") == ["delivered", *["opened"] * 4, "clicked"]


@pytest.mark.usefixtures("of_large_topics")
def test_the_topics_are_read_where_the_ledger_leads_nowhere(
    harness: Harness, operator: CommandRunner
) -> None:
    harness.suppress("user1@example.com")
    harness.produce([harness.event(1), harness.event(2)])
    with harness.worker():
        harness.await_resolutions(2)
    result = operator.run("trace", operator.campaign, "--email", "user1@example.com")
    assert "the ledger does not lead to it: reading the topics" in result.stderr
    assert "suppressed" in result.stdout
    by_id = ("trace", operator.campaign, "--recipient", "r-1")
    followed = operator.run(*by_id, "--json")
    assert "found by the key alone" in followed.stderr
    assert followed.stdout == operator.run(*by_id, "--all", "--json").stdout
    assert '"suppressed"' in followed.stdout


@pytest.mark.usefixtures("of_large_topics")
def test_an_id_leads_to_each_record_of_its_key(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    operator.define()
    harness.produce([harness.event(each) for each in (0, 1, 1, 2)])
    harness.produce([harness.event(1, expires_at="soon")])  # a dead letter
    harness.produce([orjson.dumps(harness.event(3))])  # without a key
    with harness.worker():
        harness.await_resolutions(6)
    key = partition_of(settings_of(harness), b"r-4", 4) or 0
    waits = (PARKED_FOR, f"campaign {operator.campaign}".encode())
    value = orjson.dumps(harness.event(4))
    records.write(harness.topics.recipients, value, partition=key, key=b"r-4")
    source = RecordId(harness.topics.recipients, key, _last(harness, key))
    records.write(harness.topics.parked, value, [*source_headers(source), waits], key, b"r-4")
    for number, expected in ((1, 6), (3, 2), (4, 2)):
        by_id = ("trace", operator.campaign, "--recipient", f"r-{number}")
        followed, read = operator.run(*by_id, "--json"), operator.run(*by_id, "--all", "--json")
        assert orjson.loads(followed.stdout) == orjson.loads(read.stdout)
        assert len(orjson.loads(read.stdout)["events"]) == expected
        # Nothing has the key of whom was produced without one.
        assert ("reading the topics" in followed.stderr) is (number == 3)
        assert f"records of {harness.topics.recipients} for the id" in followed.stderr
        assert "for the id" not in read.stderr


def _last(harness: Harness, partition: int) -> int:
    """Return the offset of the last input record of a partition."""
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    return end_offsets(admin, harness.topics.recipients)[partition] - 1


@pytest.mark.usefixtures("of_large_topics")
def test_a_claim_without_an_outcome_is_found(harness: Harness, operator: CommandRunner) -> None:
    harness.produce([harness.event(1)])
    assert harness.start_worker(crash_at="after_pin").wait() == -signal.SIGKILL
    result = operator.run("trace", operator.campaign, "--email", "user1@example.com")
    assert "found by the ledger alone" in result.stderr
    assert "unresolved: no result yet" in result.stdout


def test_records_outside_of_the_times_are_left_out(
    harness: Harness, operator: CommandRunner
) -> None:
    harness.produce([harness.event(1)])
    trace = ("trace", operator.campaign, "--recipient", "r-1")
    assert operator.answer(*trace, "--since", "1h")["events"]
    assert operator.answer(*trace, "--until", "0s")["events"]
    operator.run(*trace, "--until", "1h", code=1)
    operator.run(*trace, "--since", "2100-01-01T00:00:00Z", code=1)
