"""Error messages of commands with unreachable services or invalid settings."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit.operator import NOWHERE, CommandRunner


@pytest.mark.parametrize(
    "arguments",
    [
        ("campaign", "list"),
        ("campaign", "show", "acme/x"),
        ("progress", "acme/x"),
        ("suppress", "export", "acme"),
        ("suppress", "add", "acme", "a@b.cc"),
        ("produce", "acme/x", os.devnull, "--format", "csv"),
    ],
)
def test_unreachable_redis_is_reported(operator: CommandRunner, arguments: Sequence[str]) -> None:
    url = f"redis://:hidden@{NOWHERE}/0"
    failure = operator.run(*arguments, code=1, env={"STREAMER_REDIS__URL": url})
    assert NOWHERE in failure.stderr
    assert "hidden" not in failure.output
    assert len(failure.stderr.splitlines()) == 1


def test_redis_without_cluster_mode_is_reported(operator: CommandRunner) -> None:
    failure = operator.run("campaign", "list", code=1, env={"STREAMER_REDIS__CLUSTER": "true"})
    assert "redis.cluster" in failure.stderr
    assert len(failure.stderr.splitlines()) == 1


def test_unreachable_kafka_is_reported(operator: CommandRunner, tmp_path: Path) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_bytes(b"email\na@b.cc\n")
    for arguments in (("topics", "create"), ("produce", operator.campaign, file)):
        failure = operator.run(
            *arguments, code=1, env={"STREAMER_KAFKA__BOOTSTRAP_SERVERS": NOWHERE}
        )
        assert NOWHERE in failure.stderr
        assert len(failure.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("campaign", "list"),
        ("suppress", "export", "acme"),
        ("topics", "create"),
        ("doctor",),
        ("produce", "acme/x", os.devnull, "--format", "csv"),
    ],
)
def test_invalid_settings_are_reported(operator: CommandRunner, arguments: Sequence[str]) -> None:
    failure = operator.run(*arguments, code=2, env={"STREAMER_BATCH__SIZE": "1000"})
    assert re.search(r"batch\.size: .*STREAMER_BATCH__SIZE", failure.stderr)
    assert operator.run(*arguments, "--config", "/not-there.toml", code=2).stderr


def test_missing_topics_are_reported(operator: CommandRunner) -> None:
    for arguments in (("outcomes", operator.campaign), ("dlq", "list"), ("dlq", "replay")):
        failure = operator.run(*arguments, code=1)
        assert "does not exist; create it with: streamer topics create" in failure.stderr
