"""`dlq`: listing, replaying and deleting dead letters."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import cast

import orjson
import pytest
from confluent_kafka import Producer

from streamer.cli.reading import topic_reader
from streamer.kafka.writing import WriteError
from streamer.model import record_headers
from streamer.model.record import Headers
from streamer.recovery.dead_letters import DeadLetterFilter
from streamer.recovery.replay import Replayer
from tests.kit.harness import Harness
from tests.kit.operator import NOWHERE, Answer, CommandRunner
from tests.kit.records import Records, decode_headers
from tests.kit.settings import settings_of


def test_dlq_list_and_show(harness: Harness, operator: CommandRunner, records: Records) -> None:
    nasty = '{"organization_id": "\u001b]0;owned\u0007", "x": "\u202e\u009b2J"}'.encode()
    values = [harness.event(1, expires_at="soon"), nasty, b"\xff\x1b[2J", None]
    harness.produce(values, partition=0)
    with harness.worker():
        harness.await_resolutions(4)
    records.write(harness.topics.dead_letters, b"no headers")

    assert "1 record of the topic skipped" in operator.run("dlq", "list").stderr
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

    shown = operator.answer("dlq", "show", str(place))
    assert orjson.loads(str(shown["value"])) == values[0]
    assert "expires_at" in str(shown["detail"])
    for letter in letters:
        text = operator.run("dlq", "show", str(letter["place"])).stdout
        assert all(char.isprintable() or char == "\n" for char in text)
    assert "no dead letter at 0/99" in operator.run("dlq", "show", "0/99", code=1).stderr
    operator.run("dlq", "show", "x", code=2)


def test_a_fixed_dead_letter_is_replayed_and_sent(
    harness: Harness, operator: CommandRunner, records: Records, tmp_path: Path
) -> None:
    harness.produce([harness.event(number, campaign_id="a b") for number in range(3)])
    harness.produce([b"[broken"])
    with harness.worker():
        harness.await_resolutions(4)

        planned = operator.answer("dlq", "replay", "--dry-run")
        assert (planned["selected"], planned["replayed"], planned["still_dead"]) == (4, 4, 4)
        assert len(cast(list[Answer], planned["records"])) == 4
        assert not records.replays()

        fix = '{"campaign_id": "spring"}'
        done = operator.answer("dlq", "replay", "--fix", fix, code=1)
        assert (done["replayed"], done["unpatchable"], done["still_dead"]) == (3, 1, 0)
        harness.await_resolutions(7)
        file = tmp_path / "fix.json"
        file.write_text(fix)
        again = operator.answer("dlq", "replay", "--reason", "invalid_event", "--fix", file)
        assert (again["replayed"], again["already"]) == (0, 3)

        # A record that fails again is a new dead letter, which can be replayed, too.
        assert operator.answer("dlq", "replay")["still_dead"] == 1
        harness.await_resolutions(8)
        assert operator.answer("dlq", "replay")["replayed"] == 1
        harness.await_resolutions(9)
    assert harness.status_counts() == {
        ("sent", None): 3,
        ("dead", "invalid_event"): 3,
        ("dead", "undecodable"): 3,
    }
    assert set(records.replays().values()) == {1}
    operator.run("dlq", "replay", "--fix", "[]", code=2)
    operator.run("dlq", "replay", "--fix", "{", code=2)


def test_a_replay_lists_what_becomes_of_each(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    new, broken = f"{operator.organization}/new", b"[broken"
    values = [orjson.dumps(harness.event(1, message=None, campaign_id="new")), broken]
    for offset, value in enumerate(values):
        records.write(harness.topics.recipients, b"{}")
        records.bury(value, offset)

    def listed(*options: str, code: int = 0) -> list[str]:
        text = operator.run("dlq", "replay", *options, code=code).stdout
        return [re.split(r"  +", line)[2] for line in text.splitlines()[:-1]]

    head, unknown, dead = listed("--dry-run")
    assert head == "WHAT WOULD HAPPEN"
    assert unknown == f"would be replayed, to fail again: unknown_campaign: {new} is not defined"
    assert dead.startswith("would be replayed, to fail again: undecodable: ")
    without = {"STREAMER_REDIS__URL": f"redis://{NOWHERE}"}
    checked = operator.run("dlq", "replay", "--dry-run", "--campaign", new, env=without)
    assert "not checked whether the campaigns are defined" in checked.stderr
    assert "fail again" not in checked.stdout

    content = ("--from", "a@b.cc", "--subject", "s", "--text", "-")
    operator.run("campaign", "create", new, *content, stdin=b"Hi")
    assert listed("--dry-run", "--campaign", new)[1] == "would be replayed"
    assert listed("--dry-run", "--organization", "acme") == []
    replayed = operator.answer("dlq", "replay", "--organization", operator.organization)
    assert replayed["records"] == [
        {
            "place": "0/0",
            "source": {"topic": harness.topics.recipients, "partition": 0, "offset": 0},
            "result": "replayed",
            "fault": None,
        }
    ]
    assert listed("--dry-run")[1:] == ["skipped: replayed before", dead]
    assert listed("--fix", "{}", code=1) == [
        "WHAT HAPPENED",
        "skipped: not JSON, so --fix cannot be applied",
    ]


def test_a_replay_keeps_key_and_user_headers(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    own: Headers = [
        ("trace", b"x"),
        (record_headers.ATTEMPT, b"2"),
        (record_headers.RETRY_OF, b"t/0/1"),
    ]
    records.write(harness.topics.recipients, b"{}")
    records.bury(b"value", 0, own)
    operator.run("dlq", "replay")
    (message,) = records.copies(record_headers.REPLAY_OF)
    assert (message.key(), message.value(), message.partition()) == (b"key", b"value", 0)
    assert decode_headers(message) == {
        "trace": "x",
        record_headers.ATTEMPT: "2",
        record_headers.REPLAY_OF: f"{harness.topics.recipients}/0/0",
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
def test_a_killed_replay_is_safe_to_repeat(
    harness: Harness,
    operator: CommandRunner,
    records: Records,
    checkpoint: str,
    nth: int,
    written: int,
) -> None:
    count = 1200
    harness.produce(harness.event(number, campaign_id="a b") for number in range(count))
    with harness.worker():
        harness.await_resolutions(count)
    process = subprocess.run(
        [sys.executable, "-m", "tests.kit.replayer", checkpoint, str(nth)],
        env={**os.environ, **operator.environment},
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    done = operator.answer("dlq", "replay")
    assert (done["already"], done["replayed"]) == (written, count - written)
    assert len(records.replays()) == count
    assert set(records.replays().values()) == {1}


def test_a_second_replay_fences_the_first(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    for offset in range(3):
        records.write(harness.topics.recipients, b"{}")
        records.bury(b"value", offset)

    def second(checkpoint: str) -> None:
        if checkpoint == "inside_transaction":
            assert operator.answer("dlq", "replay")["replayed"] == 3

    with topic_reader(settings_of(harness)) as reader:
        first = Replayer(settings_of(harness), reader, DeadLetterFilter())
        with pytest.raises(WriteError, match="another command of this kind"):
            first.run(second)
    assert list(records.replays().values()) == [1, 1, 1]


def test_a_replay_behind_an_open_transaction_is_recognised(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    topic = harness.topics.recipients
    records.write(topic, b"{}")
    records.bury(b"value", 0)
    other = Producer(
        {
            "bootstrap.servers": harness.bootstrap_servers,
            "transactional.id": f"{harness.name}.other",
            "log_level": 0,
        }
    )
    other.init_transactions(30)

    def open_another(checkpoint: str) -> None:
        if checkpoint == "before_transaction":
            other.begin_transaction()
            other.produce(topic, b"{}", partition=0)
            other.flush(30)

    with topic_reader(settings_of(harness)) as reader:
        Replayer(settings_of(harness), reader, DeadLetterFilter()).run(open_another)
    assert not records.replays()  # not visible yet
    resolution = threading.Timer(1, other.abort_transaction, [30])
    resolution.start()
    assert operator.answer("dlq", "replay")["already"] == 1
    resolution.join()
    assert list(records.replays().values()) == [1]


def test_dead_letters_older_than_the_input_are_unknown(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    topics = harness.topics
    for offset in range(2):
        records.write(topics.recipients, b"{}")
        records.bury(b"value", offset)
    records.delete(topics.recipients)
    records.write(topics.recipients, b"{}")
    records.bury(b"value", 2)
    done = operator.answer("dlq", "replay", code=1)
    # Only the first two sources precede the deleted range.
    assert (done["replayed"], done["unknown"]) == (2, 1)
    refused = operator.run("dlq", "replay", "--may-mail-twice", code=2)
    assert "1 dead letter may have been replayed before" in refused.stderr
    assert operator.answer("dlq", "replay", "--may-mail-twice", "--yes")["replayed"] == 1
    assert set(records.replays().values()) == {1}


def test_dead_letters_of_a_topic_that_was_created_anew_are_unknown(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    records.write(harness.topics.recipients, b"{}")
    records.bury(b"past the end", 40)
    records.bury(b"old", 0)
    records.bury(b"new", 0)  # the same coordinates as of the older record
    done = operator.answer("dlq", "replay", code=1)
    assert (done["selected"], done["replayed"], done["unknown"]) == (3, 1, 2)
    twice = operator.answer("dlq", "replay", "--may-mail-twice", "--yes", code=1)
    assert (twice["replayed"], twice["already"], twice["unknown"]) == (1, 1, 1)
    assert operator.answer("dlq", "replay", "--may-mail-twice", "--yes", code=1)["replayed"] == 0
    assert set(records.replays().values()) == {1}


def test_a_too_large_dead_letter_does_not_block_others(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    for offset in range(3):
        records.write(harness.topics.recipients, b"{}")
        records.bury(os.urandom(1_100_000) if offset == 1 else b"value", offset)
    done = operator.answer("dlq", "replay", code=1)
    assert (done["replayed"], done["too_large"]) == (2, 1)
    assert len(records.replays()) == 2
    assert operator.answer("dlq", "replay", code=1)["already"] == 2


def test_dlq_purge(operator: CommandRunner, records: Records) -> None:
    for offset in range(3):
        records.bury(b"value", offset)
    assert "--yes is required" in operator.run("dlq", "purge", code=2).stderr
    refused = operator.run("dlq", "purge", "--yes", "--reason", "undecodable", code=2)
    assert "only from the beginning of a topic" in refused.stderr
    assert operator.answer("dlq", "purge", "--yes", "--until", "1h")["offsets_deleted"] == 0
    assert len(operator.lines("dlq", "list")) == 3
    assert operator.answer("dlq", "purge", "--yes", "--until", "0s")["offsets_deleted"] == 3
    assert operator.lines("dlq", "list") == []
    records.bury(b"value", 3)
    assert operator.answer("dlq", "purge", "--yes")["offsets_deleted"] == 1
    assert operator.lines("dlq", "list") == []
