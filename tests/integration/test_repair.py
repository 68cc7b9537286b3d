"""What became of each recipient, and mending it, against real Kafka and Redis."""

import csv
import io
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import cast

import orjson
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner, Result

from streamer.cli import app
from streamer.cli.repair.fenced import WriteError
from streamer.cli.repair.reading import topic_reader
from streamer.model import marks
from streamer.model.record import Coordinates, Headers
from streamer.model.wire import DETAIL, PARKED_FOR, REASON, source_headers
from streamer.recovery.dead_letters import Wanted
from streamer.recovery.replay import Replayer
from streamer.sandbox import Faults
from streamer.settings import Settings
from tests.kit.world import World

Answer = dict[str, object]


class Operator:
    """Somebody at a terminal, in a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.campaign = f"{world.organization}/spring"
        self.environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": world.bootstrap_servers,
            "STREAMER_KAFKA__GROUP_ID": world.name,
            "STREAMER_REDIS__URL": world.redis_url,
            "STREAMER_TOPICS": world.topics.model_dump_json(),
        }
        self.settings = Settings.model_validate(
            {
                "kafka": {"bootstrap_servers": world.bootstrap_servers, "group_id": world.name},
                "topics": world.topics,
            }
        )
        self._producer = Producer(
            {
                "bootstrap.servers": world.bootstrap_servers,
                "message.max.bytes": 10_000_000,
                "log_level": 0,
            }
        )

    def run(self, *arguments: str | Path, code: int = 0) -> Result:
        """Run a command, which must end with the code."""
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=self.environment)
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str | Path, code: int = 0) -> Answer:
        """Run a command and read its answer."""
        return cast(Answer, orjson.loads(self.run(*arguments, "--json", code=code).stdout))

    def lines(self, *arguments: str | Path) -> list[Answer]:
        """Run a command and read its answer, in JSON lines."""
        return [orjson.loads(x) for x in self.run(*arguments, "--json").stdout.splitlines()]

    def write(
        self, topic: str, value: bytes | None, headers: Headers | None = None, partition: int = 0
    ) -> None:
        """Write a record as somebody else might."""
        self._producer.produce(topic, value, b"key", partition, headers=headers or [])
        assert self._producer.flush(30) == 0

    def bury(self, value: bytes | None, offset: int, own: Headers | None = None) -> None:
        """Write a dead letter of a record that stood at the offset of partition 0."""
        where = Coordinates(self.world.topics.recipients, 0, offset)
        headers: Headers = [
            *(own or []),
            (REASON, b"unknown_campaign"),
            (DETAIL, b"nobody knows it"),
            *source_headers(where),
        ]
        self.write(self.world.topics.dead_letters, value, headers)

    def forget(self, topic: str) -> None:
        """Have Kafka delete the records of partition 0, as retention does."""
        admin = AdminClient({"bootstrap.servers": self.world.bootstrap_servers})
        for future in admin.delete_records([TopicPartition(topic, 0, -1)]).values():
            future.result()

    def inputs(self, mark: str) -> list[Message]:
        """The input records with a header of that name."""
        found = self.world._read(self.world.topics.recipients)
        return [message for message in found if mark in words(message)]


@pytest.fixture
def operator(world: World) -> Operator:
    return Operator(world)


def words(message: Message) -> dict[str, str]:
    headers = message.headers() or []
    return marks.words(headers.items() if isinstance(headers, dict) else headers)


def _recipient(outcome: Answer) -> str:
    return str(outcome["recipient_id"])


def replayed(operator: Operator) -> Counter[str]:
    """How often each dead letter was replayed, by its source."""
    return Counter(words(message)[marks.REPLAY_OF] for message in operator.inputs(marks.REPLAY_OF))


# Outcomes


def test_outcomes_are_filtered_and_printed_in_each_format(operator: Operator) -> None:
    world = operator.world
    world.suppress("user1@example.com")
    world.produce(
        [
            *(world.event(number) for number in range(4)),
            world.event(4, email='no "address", at all'),
            world.event(5, campaign_id="other"),
        ]
    )
    with world.worker():
        world.await_endings(6)
    expected = [o for o in world.outcomes() if o["campaign_id"] == "spring"]
    operator.write(world.topics.outcomes, b"{}")
    operator.write(world.topics.outcomes, None)

    result = operator.run("outcomes", operator.campaign, "--json")
    assert "2 records" in result.stderr
    told = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert sorted(told, key=_recipient) == sorted(expected, key=_recipient)
    assert len(told) == 5

    def ids(*options: str) -> set[object]:
        return {o["recipient_id"] for o in operator.lines("outcomes", operator.campaign, *options)}

    assert ids("--status", "sent") == {"r-0", "r-2", "r-3"}
    assert ids("--reason", "suppressed", "--reason", "invalid_address") == {"r-1", "r-4"}
    assert ids("--email", " USER2@Example.com") == {"r-2"}
    assert ids("--email", 'no "address", at all') == {"r-4"}
    assert ids("--recipient", "r-3", "--status", "failed") == set()

    text = operator.run("outcomes", operator.campaign, "--format", "csv").stdout
    rows = {row["recipient_id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 5
    assert rows["r-4"]["email"] == 'no "address", at all'
    assert rows["r-1"]["reason"] == "suppressed"
    assert rows["r-0"]["source_topic"] == world.topics.recipients
    assert rows["r-0"]["email_id"]
    assert "user2@example.com" in operator.run("outcomes", operator.campaign).stdout


def test_without_topics_a_command_says_what_to_do(operator: Operator) -> None:
    operator.environment["STREAMER_TOPICS"] = "{}"  # the default names, which nobody created
    for arguments in (("outcomes", operator.campaign), ("dlq", "list"), ("dlq", "replay")):
        failure = operator.run(*arguments, code=1)
        assert "does not exist; create it: streamer topics create" in failure.stderr


# Trace


def test_trace_tells_the_whole_story(operator: Operator) -> None:
    world = operator.world
    world.produce([world.event(1), world.event(2)], partition=1)
    with world.worker():
        world.await_endings(2)
    (sent,) = (o for o in world.outcomes() if o["recipient_id"] == "r-1")

    by_id = operator.json("trace", operator.campaign, "--recipient", "r-1")
    assert by_id == operator.json("trace", operator.campaign, "--email", "User1@example.com")
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

    text = operator.run("trace", operator.campaign, "--recipient", "r-1").stdout
    assert f"email id: {sent['email_id']}" in text
    assert "user2" not in text
    unknown = operator.run("trace", operator.campaign, "--recipient", "r-9", code=1)
    assert "nothing is known of r-9" in unknown.stderr
    operator.run("trace", operator.campaign, code=2)


def test_trace_shows_a_batch_that_is_open(operator: Operator) -> None:
    world = operator.world
    world.produce([world.event(1)])
    assert world.start_worker(crash_at="after_pin").wait() == -signal.SIGKILL
    text = operator.run("trace", operator.campaign, "--recipient", "r-1").stdout
    assert "as item 0 of batch" in text
    assert "still open: no result yet" in text


def test_trace_tells_a_parked_copy_that_waits_from_one_that_came_back(operator: Operator) -> None:
    world, topics = operator.world, operator.world.topics
    value = orjson.dumps(world.event(1))
    operator.write(topics.recipients, value)
    source = source_headers(Coordinates(topics.recipients, 0, 0))
    waits = (PARKED_FOR, f"campaign {operator.campaign}".encode())
    operator.write(topics.parked, value, [*source, waits])
    operator.write(topics.parked, value, [*source, waits])
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    relayed = [TopicPartition(topics.parked, 0, 1)]
    (future,) = admin.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions(f"{world.name}.relay", relayed)]
    ).values()
    future.result()
    operator.write(topics.recipients, value, source)

    story = operator.json("trace", operator.campaign, "--email", "user1@example.com")
    events = cast(list[Answer], story["events"])
    assert [e["kind"] for e in events] == ["input", "parked", "parked", "returned"]
    assert [e["is_waiting"] for e in events if e["kind"] == "parked"] == [False, True]
    assert {orjson.dumps(e["source"]) for e in events} == {orjson.dumps(events[0]["stands_at"])}


# Dead letters: looking at them


def test_dlq_list_and_show(operator: Operator) -> None:
    world = operator.world
    nasty = '{"organization_id": "\u001b]0;owned\u0007", "x": "\u202e\u009b2J"}'.encode()
    values = [world.event(1, expires_at="soon"), nasty, b"\xff\x1b[2J", None]
    world.produce(values, partition=0)
    with world.worker():
        world.await_endings(4)
    operator.write(world.topics.dead_letters, b"no headers")

    assert "1 records of the topic are no dead letters" in operator.run("dlq", "list").stderr
    letters = operator.lines("dlq", "list")
    assert Counter(letter["reason"] for letter in letters) == {
        "invalid_event": 1,
        "undecodable": 3,
    }

    def places(*options: str) -> list[object]:
        return [letter["place"] for letter in operator.lines("dlq", "list", *options)]

    (place,) = places("--campaign", operator.campaign)
    assert places("--reason", "invalid_event") == [place]
    assert len(places("--since", "1h")) == len(places("--since", "2020-01-01T00:00:00Z")) == 4
    assert places("--until", "1h") == []
    assert places("--since", "2100-01-01T00:00:00Z") == []
    assert len(places("--until", "2100-01-01T00:00:00Z")) == 4
    operator.run("dlq", "list", "--since", "yesterday", code=2)

    shown = operator.json("dlq", "show", str(place))
    assert orjson.loads(str(shown["value"])) == values[0]
    assert "expires_at" in str(shown["detail"])
    for letter in letters:
        text = operator.run("dlq", "show", str(letter["place"])).stdout
        assert all(char.isprintable() or char == "\n" for char in text)
    assert "no dead letter at 0/99" in operator.run("dlq", "show", "0/99", code=1).stderr
    operator.run("dlq", "show", "x", code=2)


# Dead letters: replaying them


def test_a_replayed_dead_letter_is_mended_and_sent(operator: Operator, tmp_path: Path) -> None:
    world = operator.world
    world.produce([world.event(number, campaign_id="a b") for number in range(3)])
    world.produce([b"[broken"])
    with world.worker():
        world.await_endings(4)

        planned = operator.json("dlq", "replay", "--dry-run")
        assert (planned["selected"], planned["replayed"], planned["still_dead"]) == (4, 4, 4)
        assert len(cast(list[Answer], planned["planned"])) == 4
        assert not replayed(operator)

        fix = '{"campaign_id": "spring"}'
        done = operator.json("dlq", "replay", "--fix", fix, code=1)
        assert (done["replayed"], done["unpatchable"], done["still_dead"]) == (3, 1, 0)
        world.await_endings(7)
        file = tmp_path / "fix.json"
        file.write_text(fix)
        again = operator.json("dlq", "replay", "--reason", "invalid_event", "--fix", file)
        assert (again["replayed"], again["already"]) == (0, 3)

        # One that dies again is a new dead letter, which may be replayed in its turn.
        assert operator.json("dlq", "replay")["still_dead"] == 1
        world.await_endings(8)
        assert operator.json("dlq", "replay")["replayed"] == 1
        world.await_endings(9)
    assert world.words() == {
        ("sent", None): 3,
        ("dead", "invalid_event"): 3,
        ("dead", "undecodable"): 3,
    }
    assert set(replayed(operator).values()) == {1}
    operator.run("dlq", "replay", "--fix", "[]", code=2)
    operator.run("dlq", "replay", "--fix", "{", code=2)


def test_a_replayed_record_keeps_its_key_and_its_own_headers(operator: Operator) -> None:
    own: Headers = [("trace", b"x"), (marks.ATTEMPT, b"2"), (marks.RETRY_OF, b"t/0/1")]
    operator.write(operator.world.topics.recipients, b"{}")
    operator.bury(b"value", 0, own)
    operator.run("dlq", "replay")
    (message,) = operator.inputs(marks.REPLAY_OF)
    assert (message.key(), message.value(), message.partition()) == (b"key", b"value", 0)
    assert words(message) == {
        "trace": "x",
        marks.ATTEMPT: "2",
        marks.REPLAY_OF: f"{operator.world.topics.recipients}/0/0",
    }


@pytest.mark.parametrize(
    ("checkpoint", "nth", "written"),
    [
        ("after_fence", 1, 0),
        ("after_look_back", 1, 0),
        ("inside_transaction", 2, 500),
        ("after_transaction", 2, 1000),
    ],
)
def test_a_replay_is_killed_and_repeated(
    operator: Operator, checkpoint: str, nth: int, written: int
) -> None:
    world = operator.world
    count = 1200
    world.produce(world.event(number, campaign_id="a b") for number in range(count))
    with world.worker():
        world.await_endings(count)
    process = subprocess.run(
        [sys.executable, "-m", "tests.integration.replayer", checkpoint, str(nth)],
        env={**os.environ, **operator.environment},
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    done = operator.json("dlq", "replay")
    assert (done["already"], done["replayed"]) == (written, count - written)
    assert len(replayed(operator)) == count
    assert set(replayed(operator).values()) == {1}


def test_a_second_replay_fences_the_first(operator: Operator) -> None:
    for offset in range(3):
        operator.write(operator.world.topics.recipients, b"{}")
        operator.bury(b"value", offset)

    def second(checkpoint: str) -> None:
        if checkpoint == "inside_transaction":
            assert operator.json("dlq", "replay")["replayed"] == 3

    with topic_reader(operator.settings) as reader:
        first = Replayer(operator.settings, reader, Wanted())
        with pytest.raises(WriteError, match="another command of this kind"):
            first.run(second)
    assert list(replayed(operator).values()) == [1, 1, 1]


def test_a_replay_that_stands_behind_an_open_transaction_is_known(operator: Operator) -> None:
    topic = operator.world.topics.recipients
    operator.write(topic, b"{}")
    operator.bury(b"value", 0)
    other = Producer(
        {
            "bootstrap.servers": operator.world.bootstrap_servers,
            "transactional.id": f"{operator.world.name}.other",
            "log_level": 0,
        }
    )
    other.init_transactions(30)

    def open_another(checkpoint: str) -> None:
        if checkpoint == "before_transaction":
            other.begin_transaction()
            other.produce(topic, b"{}", partition=0)
            other.flush(30)

    with topic_reader(operator.settings) as reader:
        Replayer(operator.settings, reader, Wanted()).run(open_another)
    assert not replayed(operator)  # nobody can see it yet
    ending = threading.Timer(1, other.abort_transaction, [30])
    ending.start()
    assert operator.json("dlq", "replay")["already"] == 1
    ending.join()
    assert list(replayed(operator).values()) == [1]


def test_of_dead_letters_older_than_the_input_nobody_can_tell(operator: Operator) -> None:
    topics = operator.world.topics
    for offset in range(2):
        operator.write(topics.recipients, b"{}")
        operator.bury(b"value", offset)
    operator.forget(topics.recipients)
    operator.write(topics.recipients, b"{}")
    operator.bury(b"value", 2)
    done = operator.json("dlq", "replay", code=1)
    # Behind the second source nothing was deleted yet.
    assert (done["replayed"], done["unknown"]) == (2, 1)
    assert operator.json("dlq", "replay", "--may-mail-twice")["replayed"] == 1
    assert set(replayed(operator).values()) == {1}


def test_a_dead_letter_that_is_too_large_does_not_hold_up_the_others(operator: Operator) -> None:
    for offset in range(3):
        operator.write(operator.world.topics.recipients, b"{}")
        operator.bury(os.urandom(1_100_000) if offset == 1 else b"value", offset)
    done = operator.json("dlq", "replay", code=1)
    assert (done["replayed"], done["too_large"]) == (2, 1)
    assert len(replayed(operator)) == 2
    assert operator.json("dlq", "replay", code=1)["already"] == 2


# Dead letters: done with


def test_dlq_purge(operator: Operator) -> None:
    for offset in range(3):
        operator.bury(b"value", offset)
    assert "without --yes" in operator.run("dlq", "purge", code=2).stderr
    refused = operator.run("dlq", "purge", "--yes", "--reason", "undecodable", code=2)
    assert "the beginning of a topic only" in refused.stderr
    assert operator.json("dlq", "purge", "--yes", "--until", "1h")["offsets_deleted"] == 0
    assert len(operator.lines("dlq", "list")) == 3
    assert operator.json("dlq", "purge", "--yes", "--until", "0s")["offsets_deleted"] == 3
    assert operator.lines("dlq", "list") == []
    operator.bury(b"value", 3)
    assert operator.json("dlq", "purge", "--yes")["offsets_deleted"] == 1
    assert operator.lines("dlq", "list") == []


# Trying again


def retried(operator: Operator) -> list[dict[str, str]]:
    return [words(message) for message in operator.inputs(marks.RETRY_OF)]


def test_who_failed_is_tried_again_once_an_outcome(operator: Operator) -> None:
    world = operator.world
    world.sandbox.order(Faults(refused=frozenset({"user1@example.com"})))
    world.produce(
        [
            *(world.event(number) for number in range(3)),
            world.event(3, email="nobody"),
            world.event(4, email="nobody", campaign_id="other"),
        ]
    )
    with world.worker():
        world.await_endings(5)
        # The same address again: a duplicate, which says nothing of how the first one ended.
        world.produce([world.event(1)])
        world.await_endings(6)
        world.sandbox.calm()

        planned = operator.json("retry", operator.campaign, "--status", "failed", "--dry-run")
        assert (planned["selected"], planned["retried"]) == (2, 2)
        assert not retried(operator)
        only = ("--status", "failed", "--reason", "invalid_address")
        assert operator.json("retry", operator.campaign, *only)["retried"] == 1
        world.await_endings(7)
        everyone = operator.json("retry", operator.campaign, "--status", "failed")
        assert (everyone["retried"], everyone["already"]) == (2, 0)  # r-3 failed anew
        world.await_endings(9)
    fates = [o["status"] for o in world.outcomes() if o["email"] == "user1@example.com"]
    assert fates.count("sent") == 1
    world.judge()
    marked = retried(operator)
    assert Counter(each[marks.ATTEMPT] for each in marked) == {"1": 2, "2": 1}
    assert len({each[marks.RETRY_OF] for each in marked}) == 3
    events = {m.key(): m.value() for m in operator.inputs(marks.RETRY_OF)}
    assert orjson.loads(events[b"r-1"] or b"") == world.event(1)


def test_nobody_is_tried_again_twice_or_after_sent(operator: Operator) -> None:
    world = operator.world
    for offset, (email, status, reason) in enumerate(
        [
            ("a@example.com", "failed", "render_error"),
            ("a@example.com", "sent", None),
            ("b@example.com", "failed", "rejected"),
            ("b@example.com", "skipped", "duplicate"),
            ("c@example.com", "failed", "too_large"),
            ("c@example.com", "failed", "rejected"),
            ("d@example.com", "indeterminate", "window_closed"),
        ]
    ):
        operator.write(world.topics.recipients, orjson.dumps(world.event(offset, email=email)))
        outcome = {
            "organization_id": world.organization,
            "campaign_id": "spring",
            "recipient_id": f"r-{offset}",
            "email": email,
            "status": status,
            "reason": reason,
            "detail": None,
            "email_id": "an id" if status == "sent" else None,
            "batch_id": None,
            "attempts": 1,
            "occurred_at": f"2026-11-24T00:00:0{offset}.000Z",
            "source": {"topic": world.topics.recipients, "partition": 0, "offset": offset},
        }
        operator.write(world.topics.outcomes, orjson.dumps(outcome), partition=offset % 4)
    done = operator.json("retry", operator.campaign, "--status", "failed")
    assert (done["selected"], done["retried"]) == (2, 2)
    again = operator.json("retry", operator.campaign, "--status", "failed")
    assert (again["retried"], again["already"]) == (0, 2)

    unsure = ("retry", operator.campaign, "--status", "indeterminate")
    assert "--may-mail-twice" in operator.run(*unsure, code=2).stderr
    assert operator.json(*unsure, "--may-mail-twice")["retried"] == 1
    topic = world.topics.recipients
    assert sorted(each[marks.RETRY_OF] for each in retried(operator)) == [
        f"{topic}/0/{offset}" for offset in (2, 5, 6)
    ]
    operator.run("retry", operator.campaign, "--status", "sent", code=2)
    operator.run("retry", operator.campaign, "--status", "failed", "--reason", "expired", code=2)


def test_who_has_no_record_any_more_is_counted(operator: Operator) -> None:
    world = operator.world
    world.produce([world.event(1, email="nobody")], partition=0)
    with world.worker():
        world.await_endings(1)
    operator.forget(world.topics.recipients)
    failure = operator.run("retry", operator.campaign, "--status", "failed", code=1)
    assert "1 cannot be tried again" in failure.stderr
    assert not retried(operator)
