"""The examples of docs/integrating.md, run as they are but for names."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from tests.kit.documents import examples
from tests.kit.harness import Harness
from tests.kit.npm import PATIENCE_S, install
from tests.kit.operator import CommandRunner

_PAGE = "integrating.md"
_KAFKAJS = "kafkajs@2.2.4"


def _adapted(example: str, harness: Harness) -> str:
    """Return an example with the names of the harness."""
    names = {
        "localhost:9092": harness.bootstrap_servers,
        "campaign.recipients": harness.topics.recipients,
        "campaign.outcomes": harness.topics.outcomes,
        '"acme"': f'"{harness.organization}"',
        '"spring-26"': '"spring"',
        '"crm"': f'"{harness.name}.crm"',
    }
    for name, own in names.items():
        example = example.replace(name, own)
    return example


def test_recipients_are_written_and_outcomes_read(
    harness: Harness, operator: CommandRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read = (_adapted(each, harness) for each in examples(_PAGE, "python"))
    operator.define()
    for _ in range(2):  # a repeated event is harmless
        subprocess.run([sys.executable, "-c", write], check=True, timeout=60)
    with harness.worker():
        harness.await_resolutions(2)
    reader = subprocess.Popen([sys.executable, "-c", read], stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout is not None
        told = {reader.stdout.readline() for _ in range(2)}
    finally:
        reader.kill()
        reader.communicate()
    assert told == {"r-1001 sent None\n", "r-1001 skipped duplicate\n"}

    for options in ((), ("--with-events",)):
        written = operator.run("outcomes", operator.campaign, "--format", "parquet", *options)
        (tmp_path / "outcomes.parquet").write_bytes(written.stdout_bytes)
    monkeypatch.chdir(tmp_path)
    (query,) = examples(_PAGE, "sql")
    database = duckdb.connect()
    (row,) = database.execute(query).fetchall()
    (outcome,) = (each for each in harness.outcomes() if each["status"] == "sent")
    assert row[:4] == ("example.com", 1, 1, 0)
    assert row[4].astimezone(UTC) == datetime.fromisoformat(str(outcome["occurred_at"]))
    found = database.execute(
        "SELECT attempts, source_offset, reason, event, typeof(attempts), typeof(source_offset) "
        "FROM 'outcomes.parquet'"
    )
    assert found.fetchall() == [(1, 0, None, None, "INTEGER", "BIGINT")]


def test_parquet_needs_an_end(operator: CommandRunner) -> None:
    operator.run("outcomes", operator.campaign, "--format", "parquet", "--follow", code=2)


@pytest.mark.timeout(2 * PATIENCE_S)
def test_recipients_are_written_by_kafkajs(harness: Harness, tmp_path: Path) -> None:
    install(_KAFKAJS, tmp_path)
    (example,) = examples(_PAGE, "typescript")
    script = tmp_path / "write.mjs"  # it has no types, so that node takes it as it is
    script.write_text(_adapted(example, harness), encoding="utf-8")
    env = {**os.environ, "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    subprocess.run(["node", script], cwd=tmp_path, env=env, check=True, timeout=60)
    with harness.worker():
        harness.await_resolutions(1)
    assert harness.status_counts() == {("dead", "unknown_campaign"): 1}
