"""`run`: what it says of what it works with, and of what it lacks."""

from pathlib import Path

import orjson
import pytest

from tests.kit.harness import Harness, wait_until
from tests.kit.operator import CommandRunner


@pytest.mark.parametrize("form", ["human", "json"])
def test_run_begins_with_what_it_works_with(harness: Harness, tmp_path: Path, form: str) -> None:
    harness.settings["STREAMER_LOG__FORMAT"] = form
    worker = harness.start_worker(command=("-m", "streamer", "run"))
    told = "streamer 0.1.0" if form == "human" else '"message":"streamer starts"'
    wait_until(lambda: told in worker.words(), 60, "it says what it works with")
    wait_until(lambda: "partitions assigned" in worker.words(), 60, "it has joined the group")
    assert worker.stop() == 0
    words = worker.words()
    expected = {
        "kafka": f"{harness.bootstrap_servers}, group {harness.name}, "
        f"{harness.topics.recipients} with 4 partitions",
        "resend": harness.sandbox.url,
        "account default": "organizations: all others; 1000 calls/s; key set",
        "metrics": "none",
        "workers": f"1, id {harness.name}-w",
    }
    if form == "human":
        for subject, text in expected.items():
            assert any(
                line.strip().startswith(subject) and line.endswith(f"  {text}")
                for line in words.splitlines()
            ), (subject, words)
    else:
        lines = map(orjson.loads, words.splitlines())
        fields = next(line for line in lines if line["message"] == "streamer starts")
        assert {name: fields[name.replace(" ", "_")] for name in expected} == expected


def test_run_names_missing_topics(operator: CommandRunner) -> None:
    variables = {"RESEND_API_KEY": "re_1", "STREAMER_UNSUBSCRIBE__REQUIRED": "false"}
    result = operator.run("run", code=1, env=variables)
    assert f"Kafka has no topic {operator.topics.recipients}" in result.stderr
    assert "streamer topics create" in result.stderr
