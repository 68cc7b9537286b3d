"""What every command says when it cannot reach anything, or cannot use its settings."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.kit.operator import NOWHERE, Operator


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
def test_redis_that_is_not_there(operator: Operator, arguments: Sequence[str]) -> None:
    url = f"redis://:hidden@{NOWHERE}/0"
    failure = operator.run(*arguments, code=1, env={"STREAMER_REDIS__URL": url})
    assert NOWHERE in failure.stderr
    assert "hidden" not in failure.output
    assert len(failure.stderr.splitlines()) == 1


def test_redis_that_is_no_cluster(operator: Operator) -> None:
    failure = operator.run("campaign", "list", code=1, env={"STREAMER_REDIS__CLUSTER": "true"})
    assert "redis.cluster" in failure.stderr
    assert len(failure.stderr.splitlines()) == 1


def test_kafka_that_is_not_there(operator: Operator, tmp_path: Path) -> None:
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
def test_settings_that_cannot_be_used(operator: Operator, arguments: Sequence[str]) -> None:
    failure = operator.run(*arguments, code=2, env={"STREAMER_BATCH__SIZE": "1000"})
    assert re.search(r"batch\.size: .*STREAMER_BATCH__SIZE", failure.stderr)
    assert operator.run(*arguments, "--config", "/not-there.toml", code=2).stderr


def test_topics_that_are_not_there(operator: Operator) -> None:
    for arguments in (("outcomes", operator.campaign), ("dlq", "list"), ("dlq", "replay")):
        failure = operator.run(*arguments, code=1)
        assert "does not exist; create it: streamer topics create" in failure.stderr
