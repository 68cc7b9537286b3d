"""The bench runs, and its counts add up. How fast anything was is no matter here."""

import subprocess
import sys

import orjson
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.timeout(320)
def test_a_small_bench_adds_up() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "--recipients",
            "2000",
            "--rounds",
            "1",
            "--steps",
            "--json",
        ],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = orjson.loads(done.stdout)
    assert report["adds_up"] is True
    assert [run["name"] for run in report["runs"]] == [
        "plain-loop",
        "worker-inline",
        "worker-campaign",
        "two-workers",
        "sampled",
    ]
    for run in report["runs"]:
        sent, skipped = run["recipients"] * 0.99, run["recipients"] * 0.01
        assert run["ending"]["statuses"] == {"sent": sent, "skipped": skipped}
        assert run["peak_rss_bytes"] > 0
    loop, inline, *_, two, sampled = report["runs"]
    assert set(inline["steps"]) == {"suppression check", "pin", "send", "commit"}
    assert two["recipients"] == 4 * loop["recipients"]
    assert sampled["sampled"]
    assert loop["sampled"] == inline["sampled"] == {}


def test_the_limiter_bench_counts_calls() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "limiter", "--workers", "1", "--seconds", "2", "--json"],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    report = orjson.loads(done.stdout)
    (run,) = report["runs"]
    assert (run["workers"], run["seconds"]) == (1, 2)
    assert run["calls"] == run["accepted"] + run["throttled"]
    assert bool(run["missed"]) is bool(done.returncode)


def test_the_durability_bench_compares_the_levels() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench",
            "durability",
            "--recipients",
            "2000",
            "--rounds",
            "1",
            "--json",
        ],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode in (0, 1), done.stderr.decode()
    runs = orjson.loads(done.stdout)["runs"]
    names = ["one Redis", "replicas = 1", "fsync, always", "fsync, everysec"]
    assert [run["name"] for run in runs] == names
    assert all(run["adds_up"] for run in runs)
    assert (runs[0]["cpu_ratio"], runs[0]["speed_ratio"]) == (1, 1)
    assert bool(done.returncode) is any(run["missed"] for run in runs)


def test_the_storage_bench_weighs_each_topic() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "storage", "--recipients", "1000", "--json"],
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = orjson.loads(done.stdout)
    assert {topic for topic, size in report["kafka"].items() if size > 0} == {
        "recipients",
        "outcomes",
        "progress",
        "events",
    }
    assert report["redis"]["ledger"] > 0
