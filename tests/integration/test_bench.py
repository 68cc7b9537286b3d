"""The bench runs, and its counts add up. How fast anything was is no matter here."""

import subprocess
import sys

import orjson


def test_a_small_bench_adds_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--recipients", "500", "--rounds", "1", "--json"],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = orjson.loads(done.stdout)
    assert report["adds_up"] is True
    assert [run["name"] for run in report["runs"]] == [
        "worker-inline",
        "worker-campaign",
        "plain-loop",
        "loop-cached",
    ]
    for run in report["runs"]:
        assert run["ending"]["statuses"] == {"sent": 495, "skipped": 5}
        assert run["peak_rss_bytes"] > 0
    assert set(report["runs"][0]["steps"]) == {"suppression check", "pin", "send", "commit"}


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
