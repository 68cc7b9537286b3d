"""What doctor and watch say of the workers."""

import pytest

from streamer.doctor.check_result import Level
from streamer.doctor.workers import judge_workers
from streamer.ledger.heartbeats import Heartbeat, Sighting

NOW = 1_800_000_000_000


def seen(
    worker: str = "w-0", instance: str = "a", ago_s: float = 1, since_s: float = 100, **said: object
) -> Sighting:
    at = NOW - round(ago_s * 1000)
    heartbeat = Heartbeat.model_validate(
        {
            "worker": worker,
            "instance": instance,
            "host": "h",
            "pid": 7,
            "clock": at / 1000,
            "since": NOW - round(since_s * 1000),
            "partitions": 4,
            **said,
        }
    )
    return Sighting(heartbeat, at, ago_s)


def found(*sightings: Sighting, waiting: int | None = 0) -> list[tuple[Level, str]]:
    return [(each.level, each.text) for each in judge_workers(sightings, waiting)]


def test_workers_that_run_are_listed() -> None:
    ((level, text),) = found(seen(), seen("w-1"))
    assert level is Level.OK
    assert text.startswith("2 running: w-0 (4 partitions, 0% of a core, 0 MB), w-1 (4")


@pytest.mark.parametrize(
    ("waiting", "level", "text"),
    [
        (3, Level.FAILED, "no worker is running, and 3 records wait"),
        (0, Level.OK, "no worker is running; no record waits"),
        (None, Level.OK, "no worker is running; whether records wait is unknown"),
    ],
)
def test_no_worker_is_a_fault_while_records_wait(
    waiting: int | None, level: Level, text: str
) -> None:
    assert found(waiting=waiting) == [(level, text)]


def test_a_worker_that_ended_without_a_word_is_named() -> None:
    stale = found(seen(ago_s=40), waiting=5)
    assert stale[0] == (Level.FAILED, "no worker is running, and 5 records wait")
    assert stale[1][0] is Level.WARNING
    assert "not heard of for 40 s" in stale[1][1]
    assert len(found(seen(ago_s=40, since_s=100), seen(instance="b", since_s=30))) == 1


def test_a_worker_that_does_not_get_on_is_a_fault() -> None:
    assert len(found(seen(stalled_s=59.0))) == 1
    level, text = found(seen(stalled_s=61.0, waiting=1_200))[1]
    assert level is Level.FAILED
    assert text == "has committed nothing for 61 s, and 1,200 records wait"


@pytest.mark.parametrize(("ahead", "words"), [(9, "9 s ahead of"), (-9, "9 s behind")])
def test_a_clock_that_differs_is_named(ahead: int, words: str) -> None:
    level, text = found(seen(clock=NOW / 1000 - 1 + ahead))[1]
    assert level is Level.WARNING
    assert words in text


def test_two_workers_with_one_id_are_a_fault() -> None:
    both = found(seen(), seen(instance="b", since_s=20))
    assert both[-1][0] is Level.FAILED
    assert "two workers use this id" in both[-1][1]
    fenced = found(seen(ago_s=200, fenced=True), seen(instance="b", since_s=199))
    assert [level for level, _ in fenced] == [Level.OK, Level.FAILED]


def test_a_worker_that_is_started_again_shares_no_id() -> None:
    # The one before may have spoken while the new one started.
    again = found(seen(ago_s=18, since_s=300), seen(instance="b", since_s=20))
    assert [level for level, _ in again] == [Level.OK]
