"""`dlq`: looking at dead letters, replaying them, being done with them."""

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
from confluent_kafka import Producer

from streamer.cli.repair.fenced import WriteError
from streamer.cli.repair.letters import Wanted
from streamer.cli.repair.reading import topic_reader
from streamer.cli.repair.replay import Replayer
from streamer.model import marks
from streamer.model.record import Headers
from tests.kit.mender import Answer, Mender, words


def replayed(mender: Mender) -> Counter[str]:
    """How often each dead letter was replayed, by its source."""
    return Counter(words(message)[marks.REPLAY_OF] for message in mender.inputs(marks.REPLAY_OF))


def test_dlq_list_and_show(mender: Mender) -> None:
    world = mender.world
    nasty = '{"organization_id": "\u001b]0;owned\u0007", "x": "\u202e\u009b2J"}'.encode()
    values = [world.event(1, expires_at="soon"), nasty, b"\xff\x1b[2J", None]
    world.produce(values, partition=0)
    with world.worker():
        world.await_endings(4)
    mender.write(world.topics.dead_letters, b"no headers")

    assert "1 records of the topic are no dead letters" in mender.run("dlq", "list").stderr
    letters = mender.lines("dlq", "list")
    assert Counter(letter["reason"] for letter in letters) == {
        "invalid_event": 1,
        "undecodable": 3,
    }

    def places(*options: str) -> list[object]:
        return [letter["place"] for letter in mender.lines("dlq", "list", *options)]

    (place,) = places("--campaign", mender.campaign)
    assert places("--reason", "invalid_event") == [place]
    assert len(places("--since", "1h")) == len(places("--since", "2020-01-01T00:00:00Z")) == 4
    assert places("--until", "1h") == []
    assert places("--since", "2100-01-01T00:00:00Z") == []
    assert len(places("--until", "2100-01-01T00:00:00Z")) == 4
    mender.run("dlq", "list", "--since", "yesterday", code=2)

    shown = mender.json("dlq", "show", str(place))
    assert orjson.loads(str(shown["value"])) == values[0]
    assert "expires_at" in str(shown["detail"])
    for letter in letters:
        text = mender.run("dlq", "show", str(letter["place"])).stdout
        assert all(char.isprintable() or char == "\n" for char in text)
    assert "no dead letter at 0/99" in mender.run("dlq", "show", "0/99", code=1).stderr
    mender.run("dlq", "show", "x", code=2)


def test_a_replayed_dead_letter_is_mended_and_sent(mender: Mender, tmp_path: Path) -> None:
    world = mender.world
    world.produce([world.event(number, campaign_id="a b") for number in range(3)])
    world.produce([b"[broken"])
    with world.worker():
        world.await_endings(4)

        planned = mender.json("dlq", "replay", "--dry-run")
        assert (planned["selected"], planned["replayed"], planned["still_dead"]) == (4, 4, 4)
        assert len(cast(list[Answer], planned["planned"])) == 4
        assert not replayed(mender)

        fix = '{"campaign_id": "spring"}'
        done = mender.json("dlq", "replay", "--fix", fix, code=1)
        assert (done["replayed"], done["unpatchable"], done["still_dead"]) == (3, 1, 0)
        world.await_endings(7)
        file = tmp_path / "fix.json"
        file.write_text(fix)
        again = mender.json("dlq", "replay", "--reason", "invalid_event", "--fix", file)
        assert (again["replayed"], again["already"]) == (0, 3)

        # One that dies again is a new dead letter, which may be replayed in its turn.
        assert mender.json("dlq", "replay")["still_dead"] == 1
        world.await_endings(8)
        assert mender.json("dlq", "replay")["replayed"] == 1
        world.await_endings(9)
    assert world.words() == {
        ("sent", None): 3,
        ("dead", "invalid_event"): 3,
        ("dead", "undecodable"): 3,
    }
    assert set(replayed(mender).values()) == {1}
    mender.run("dlq", "replay", "--fix", "[]", code=2)
    mender.run("dlq", "replay", "--fix", "{", code=2)


def test_a_replayed_record_keeps_its_key_and_its_own_headers(mender: Mender) -> None:
    own: Headers = [("trace", b"x"), (marks.ATTEMPT, b"2"), (marks.RETRY_OF, b"t/0/1")]
    mender.write(mender.world.topics.recipients, b"{}")
    mender.bury(b"value", 0, own)
    mender.run("dlq", "replay")
    (message,) = mender.inputs(marks.REPLAY_OF)
    assert (message.key(), message.value(), message.partition()) == (b"key", b"value", 0)
    assert words(message) == {
        "trace": "x",
        marks.ATTEMPT: "2",
        marks.REPLAY_OF: f"{mender.world.topics.recipients}/0/0",
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
    mender: Mender, checkpoint: str, nth: int, written: int
) -> None:
    world = mender.world
    count = 1200
    world.produce(world.event(number, campaign_id="a b") for number in range(count))
    with world.worker():
        world.await_endings(count)
    process = subprocess.run(
        [sys.executable, "-m", "tests.integration.commands.replayer", checkpoint, str(nth)],
        env={**os.environ, **mender.environment},
        timeout=60,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL
    done = mender.json("dlq", "replay")
    assert (done["already"], done["replayed"]) == (written, count - written)
    assert len(replayed(mender)) == count
    assert set(replayed(mender).values()) == {1}


def test_a_second_replay_fences_the_first(mender: Mender) -> None:
    for offset in range(3):
        mender.write(mender.world.topics.recipients, b"{}")
        mender.bury(b"value", offset)

    def second(checkpoint: str) -> None:
        if checkpoint == "inside_transaction":
            assert mender.json("dlq", "replay")["replayed"] == 3

    with topic_reader(mender.settings) as reader:
        first = Replayer(mender.settings, reader, Wanted())
        with pytest.raises(WriteError, match="another command of this kind"):
            first.run(second)
    assert list(replayed(mender).values()) == [1, 1, 1]


def test_a_replay_that_stands_behind_an_open_transaction_is_known(mender: Mender) -> None:
    topic = mender.world.topics.recipients
    mender.write(topic, b"{}")
    mender.bury(b"value", 0)
    other = Producer(
        {
            "bootstrap.servers": mender.world.bootstrap_servers,
            "transactional.id": f"{mender.world.name}.other",
            "log_level": 0,
        }
    )
    other.init_transactions(30)

    def open_another(checkpoint: str) -> None:
        if checkpoint == "before_transaction":
            other.begin_transaction()
            other.produce(topic, b"{}", partition=0)
            other.flush(30)

    with topic_reader(mender.settings) as reader:
        Replayer(mender.settings, reader, Wanted()).run(open_another)
    assert not replayed(mender)  # nobody can see it yet
    ending = threading.Timer(1, other.abort_transaction, [30])
    ending.start()
    assert mender.json("dlq", "replay")["already"] == 1
    ending.join()
    assert list(replayed(mender).values()) == [1]


def test_of_dead_letters_older_than_the_input_nobody_can_tell(mender: Mender) -> None:
    topics = mender.world.topics
    for offset in range(2):
        mender.write(topics.recipients, b"{}")
        mender.bury(b"value", offset)
    mender.forget(topics.recipients)
    mender.write(topics.recipients, b"{}")
    mender.bury(b"value", 2)
    done = mender.json("dlq", "replay", code=1)
    # Behind the second source nothing was deleted yet.
    assert (done["replayed"], done["unknown"]) == (2, 1)
    assert mender.json("dlq", "replay", "--may-mail-twice")["replayed"] == 1
    assert set(replayed(mender).values()) == {1}


def test_a_dead_letter_that_is_too_large_does_not_hold_up_the_others(mender: Mender) -> None:
    for offset in range(3):
        mender.write(mender.world.topics.recipients, b"{}")
        mender.bury(os.urandom(1_100_000) if offset == 1 else b"value", offset)
    done = mender.json("dlq", "replay", code=1)
    assert (done["replayed"], done["too_large"]) == (2, 1)
    assert len(replayed(mender)) == 2
    assert mender.json("dlq", "replay", code=1)["already"] == 2


def test_dlq_purge(mender: Mender) -> None:
    for offset in range(3):
        mender.bury(b"value", offset)
    assert "without --yes" in mender.run("dlq", "purge", code=2).stderr
    refused = mender.run("dlq", "purge", "--yes", "--reason", "undecodable", code=2)
    assert "the beginning of a topic only" in refused.stderr
    assert mender.json("dlq", "purge", "--yes", "--until", "1h")["offsets_deleted"] == 0
    assert len(mender.lines("dlq", "list")) == 3
    assert mender.json("dlq", "purge", "--yes", "--until", "0s")["offsets_deleted"] == 3
    assert mender.lines("dlq", "list") == []
    mender.bury(b"value", 3)
    assert mender.json("dlq", "purge", "--yes")["offsets_deleted"] == 1
    assert mender.lines("dlq", "list") == []
