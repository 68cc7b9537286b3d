"""`topics create`: creating and checking topics."""

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streamer import topics
from tests.kit.operator import CommandRunner


def test_existing_topics_are_checked(operator: CommandRunner) -> None:
    first = operator.json("topics", "create", "--partitions", "2")
    again = operator.json("topics", "create", "--partitions", "2")
    assert isinstance(first, list)
    assert isinstance(again, list)
    assert [report["created"] for report in first] == [True] * 7
    assert [report["created"] for report in again] == [False] * 7
    assert [report["differences"] for report in again] == [[]] * 7
    assert ": ok" in operator.run("topics", "create", "--partitions", "1").stdout
    more = operator.run("topics", "create", "--partitions", "3", code=1).stdout
    assert "partitions is 2, should be 3 or more" in more
    assert f"--topic {operator.topics.recipients} --partitions 3" in more


def test_a_topic_that_would_lose_records_is_reported(operator: CommandRunner) -> None:
    admin = AdminClient({"bootstrap.servers": operator.bootstrap_servers})
    name = operator.topics.parked
    config = {"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "3000000"}
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result()
    reports = topics.ensure(admin, operator.topics, partitions=1)
    (report,) = [each for each in reports if not each.created]
    assert report.name == name
    assert {each.what for each in report.differences} == {"cleanup.policy", "retention.ms"}
    assert "--add-config retention.ms=-1" in " ".join(each.mend for each in report.differences)
    assert all(not each.differences for each in reports if each.created)


def test_too_many_replicas_are_reported(operator: CommandRunner) -> None:
    failure = operator.run("topics", "create", "--replication", "3", code=1).stderr
    assert operator.bootstrap_servers in failure
    assert len(failure.splitlines()) == 1
