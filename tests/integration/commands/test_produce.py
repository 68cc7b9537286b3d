"""`produce`: writing a list of recipients to Kafka."""

import os
import resource
import secrets
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest

from streamer.ledger import keys
from streamer.ledger.connection import Client
from tests.kit.operator import CommandRunner


def test_produce_csv_twice_gives_the_same_recipients(
    operator: CommandRunner, tmp_path: Path
) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_text("email,first_name\nAnn@Example.com,Ann\nnobody,Bob\nann@example.com,Ann\n")
    result = operator.run("produce", operator.campaign, file)
    assert "3 recipients produced" in result.stdout
    assert "1 invalid address, which" in result.stderr
    operator.run("produce", operator.campaign, file)
    found = operator.produced()
    assert all(key == event.recipient_id.encode() for key, event in found)
    assert sorted(Counter(event.recipient_id for _, event in found).values()) == [2, 4]
    assert {event.campaign_id for _, event in found} == {"spring-26"}
    assert {str(event.variables["first_name"]) for _, event in found} == {"Ann", "Bob"}


BAD_CSV = b"email,n\na@b.cc,1\n,2\nb@b.cc,3,3\nc@b.cc,4\n"


def test_a_bad_row_in_a_file_prevents_producing(operator: CommandRunner, tmp_path: Path) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_bytes(BAD_CSV)
    failure = operator.run("produce", operator.campaign, file, code=1).stderr
    assert "line 3: no email" in failure
    assert "line 4: 3 cells, the header has 2" in failure
    assert "nothing was produced" in failure
    assert operator.produced() == []


def test_bad_rows_are_written_to_a_file(operator: CommandRunner, tmp_path: Path) -> None:
    operator.ready()
    file, aside = tmp_path / "list.csv", tmp_path / "aside.csv"
    file.write_bytes(BAD_CSV)
    answer = operator.json("produce", operator.campaign, file, "--bad-rows", aside)
    assert isinstance(answer, dict)
    assert (answer["produced"], answer["bad_rows"], answer["complete"]) == (2, 2, True)
    assert [row["line"] for row in answer["first_bad_rows"]] == [3, 4]
    assert aside.read_bytes() == b"email,n\n,2\nb@b.cc,3,3\n"
    assert aside.stat().st_mode & 0o777 == 0o600
    refused = operator.run("produce", operator.campaign, file, "--bad-rows", aside, code=2)
    assert "aside.csv exists already" in refused.stderr
    assert aside.read_bytes() == b"email,n\n,2\nb@b.cc,3,3\n"
    aside.unlink()
    file.write_bytes(b"email\na@b.cc\n")
    operator.run("produce", operator.campaign, file, "--bad-rows", aside)
    assert not aside.exists()
    operator.run("produce", operator.campaign, file, "--bad-rows", file, code=2)
    assert file.read_bytes() == b"email\na@b.cc\n"


def test_standard_input_stops_at_the_bad_row(operator: CommandRunner) -> None:
    operator.ready()
    options = ("produce", operator.campaign, "-", "--format", "csv")
    answer = operator.json(*options, stdin=BAD_CSV, code=1)
    assert isinstance(answer, dict)
    assert (answer["produced"], answer["complete"]) == (1, False)
    assert answer["stopped"] == "stopped at line 3, a bad row"
    assert [event.email for _, event in operator.produced()] == ["a@b.cc"]
    assert "--format" in operator.run("produce", operator.campaign, "-", code=2).stderr


def test_an_undefined_campaign_needs_inline_messages(
    operator: CommandRunner, tmp_path: Path
) -> None:
    operator.run("topics", "create", "--partitions", "1")
    file = tmp_path / "list.csv"
    file.write_bytes(b"email\na@b.cc\n")
    failure = operator.run("produce", operator.campaign, file, code=1).stderr
    assert "is not defined" in failure
    assert "streamer campaign create" in failure
    event = {"email": "a@b.cc", "message": {"from": "a@b.cc", "subject": "s", "text": "t"}}
    jsonl = tmp_path / "list.jsonl"
    jsonl.write_bytes(orjson.dumps(event))
    operator.run("produce", operator.campaign, jsonl)
    ((_, found),) = operator.produced()
    assert found.message is not None


def test_produce_says_for_what_recipients_will_wait(
    operator: CommandRunner, client: Client, tmp_path: Path
) -> None:
    operator.ready()
    key = keys.campaign(operator.organization, "spring-26")
    client.hset(key, "state", "paused")
    file = tmp_path / "list.csv"
    file.write_bytes(b"email\na@b.cc\n")
    warned = operator.run("produce", operator.campaign, file).stderr
    assert "is paused by operator: its recipients wait until it is resumed" in warned
    client.hset(key, mapping={"state": "active", "start_at": "4102444800"})
    warned = operator.run("produce", operator.campaign, file).stderr
    assert "is scheduled for 2100-01-01 00:00 UTC" in warned
    assert "its recipients wait until then" in warned


def test_a_missing_topic_is_reported(operator: CommandRunner, tmp_path: Path) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_bytes(b"email\na@b.cc\n")
    failure = operator.run(
        "produce", operator.campaign, file, code=1, env={"STREAMER_TOPICS__RECIPIENTS": "not-there"}
    )
    assert "streamer topics create" in failure.stderr


def test_undelivered_records_are_counted_and_kept(operator: CommandRunner, tmp_path: Path) -> None:
    operator.ready()
    aside = tmp_path / "aside.jsonl"
    large = secrets.token_hex(1_500_000)  # too random to be compressed enough
    lines = [
        orjson.dumps({"email": "a@b.cc"}),
        orjson.dumps({"email": "b@b.cc", "variables": {"large": large}}),
        orjson.dumps({"email": "c@b.cc"}),
    ]
    options = ("produce", operator.campaign, "-", "--format", "jsonl", "--bad-rows", aside)
    answer = operator.json(*options, stdin=b"\n".join(lines), code=1)
    assert isinstance(answer, dict)
    assert (answer["produced"], answer["failed"], answer["complete"]) == (2, 1, False)
    assert [row["line"] for row in answer["first_failed"]] == [2]
    assert aside.read_bytes() == lines[1] + b"\n"
    (reason,) = answer["failures"]
    assert "large" in reason.lower()
    assert {event.email for _, event in operator.produced()} == {"a@b.cc", "c@b.cc"}


def write_rows(file: Path, count: int) -> None:
    with file.open("w") as stream:
        stream.write("email,first_name\n")
        stream.writelines(f"user{n}@example.com,Name {n}\n" for n in range(count))


def test_a_file_larger_than_the_queue_is_produced_whole(
    operator: CommandRunner, tmp_path: Path
) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    write_rows(file, 5_000)
    # The queue is full after 100 records: each further record must wait.
    small = orjson.dumps({"queue.buffering.max.messages": 100}).decode()
    operator.run("produce", operator.campaign, file, env={"STREAMER_KAFKA__PROPERTIES": small})
    assert len({event.email for _, event in operator.produced()}) == 5_000


@pytest.mark.slow
def test_memory_does_not_grow_with_the_list(operator: CommandRunner, tmp_path: Path) -> None:
    operator.ready()
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    write_rows(small, 100)
    write_rows(large, 300_000)
    assert large.stat().st_size > 9_000_000
    peaks = [_peak_bytes(operator.start("produce", operator.campaign, f)) for f in (small, large)]
    # The queue holds at most 32 MB, plus librdkafka's overhead for each record in it.
    assert peaks[1] - peaks[0] < 64 * 1024 * 1024


def _peak_bytes(process: subprocess.Popen[bytes]) -> int:
    assert process.stdin is not None
    process.stdin.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()
    assert process.returncode == 0
    unit = 1 if sys.platform == "darwin" else 1024
    assert isinstance(usage, resource.struct_rusage)
    return usage.ru_maxrss * unit


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_reports_progress(operator: CommandRunner, number: signal.Signals) -> None:
    operator.ready()
    process = operator.start("produce", operator.campaign, "-", "--format", "csv", "--json")
    assert process.stdin is not None
    process.stdin.write(b"email\n" + b"".join(b"u%d@b.cc\n" % n for n in range(50)))
    process.stdin.flush()
    while len(operator.produced()) < 50:
        pass  # until everything is in Kafka, or pytest's timeout
    process.send_signal(number)
    process.wait(30)  # before closing its input, which would also end it
    stdout, stderr = process.communicate()
    answer = orjson.loads(stdout)
    assert process.returncode == 128 + number
    assert (answer["produced"], answer["stopped"]) == (50, "interrupted")
    assert b"The command is safe to repeat" in stderr


def define(operator: CommandRunner, text: bytes) -> None:
    operator.run("topics", "create", "--partitions", "1")
    content = ("--from", "a@b.cc", "--subject", "Hi {{ first_name }}", "--text", "-")
    operator.run("campaign", "create", operator.campaign, *content, stdin=text)


def test_the_first_mails_are_rendered_before_anything_is_written(
    operator: CommandRunner, tmp_path: Path
) -> None:
    define(operator, b"{{ city|default('here') }} {{ unsubscribe_url }}")
    file = tmp_path / "list.csv"
    file.write_text("E-Mail,Id,First_Name,shoe_size\na@b.cc,r-1,Ann,38\n")
    produce = ("produce", operator.campaign, file)
    assert "--email-column 'E-Mail'" in operator.run(*produce, code=1).stderr
    wrong = operator.run(*produce, "--email-column", "EMail", code=1).stderr
    assert "header without column 'EMail' (--email-column); did you mean E-Mail?" in wrong
    columns = ("--email-column", "E-Mail", "--id-column", "Id")
    for options, stdin in (
        (produce, b""),
        (("produce", operator.campaign, "-"), file.read_bytes()),
    ):
        given = (*options, *columns, "--format", "csv")
        refused = operator.run(*given, code=1, stdin=stdin).stderr
        assert "first_name is undefined; did you mean First_Name?" in refused
        assert "columns that no template uses: First_Name, shoe_size" in refused
        assert "nothing was produced" in refused
    assert operator.produced() == []
    operator.run(*produce, *columns, "--allow-missing")
    ((_, found),) = operator.produced()
    assert (found.email, found.recipient_id) == ("a@b.cc", "r-1")
    file.write_text("email,first_name\na@b.cc,Ann\n")
    assert operator.run("produce", operator.campaign, file).stderr == ""


def test_mails_that_all_fail_are_not_produced(operator: CommandRunner, tmp_path: Path) -> None:
    define(operator, b"{{ n|round }}")
    file = tmp_path / "list.csv"
    file.write_text("email,first_name,n\na@b.cc,Ann,x\nb@b.cc,Bob,y\n")
    refused = operator.run("produce", operator.campaign, file, code=1).stderr
    assert "line 2: " in refused
    assert "no mail of the first rows can be rendered" in refused
    assert operator.produced() == []
