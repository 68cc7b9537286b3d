"""The operator's commands against real Kafka and Redis."""

import os
import re
import resource
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import cast

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from typer.testing import CliRunner, Result

from streamer import topics
from streamer.cli import app
from streamer.ledger import campaigns, keys, suppression
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.connection import Client, connect
from streamer.model.campaign import CampaignState, Definition
from streamer.model.event import RecipientEvent, parse
from streamer.sandbox import DEFAULT_KEY, Faults, SandboxProcess
from streamer.settings import Redis as RedisSettings
from streamer.settings import Topics
from streamer.stack import Redis, Stack

NOWHERE = "127.0.0.1:1"
NO_CHANGE: Mapping[str, str] = {}


class Operator:
    """Somebody at a terminal, with an organization and topics of their own."""

    def __init__(self, stack: Stack) -> None:
        name = secrets.token_hex(4)
        self.organization = f"org-{name}"
        self.campaign = f"{self.organization}/spring-26"
        self.topics = Topics(**{setting: f"{name}.{setting}" for setting in Topics.model_fields})
        self.bootstrap_servers = stack.bootstrap_servers
        self.environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": stack.bootstrap_servers,
            "STREAMER_REDIS__URL": stack.redis_url,
            **{
                f"STREAMER_TOPICS__{setting.upper()}": str(topic)
                for setting, topic in self.topics.model_dump().items()
            },
        }

    def run(
        self,
        *arguments: str | Path,
        code: int = 0,
        stdin: bytes = b"",
        env: Mapping[str, str] = NO_CHANGE,
    ) -> Result:
        """Run a command, which must end with the code."""
        result = CliRunner().invoke(
            app, [str(each) for each in arguments], stdin, env={**self.environment, **env}
        )
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str | Path, code: int = 0, stdin: bytes = b"") -> object:
        """Run a command and read its answer."""
        answer: object = orjson.loads(self.run(*arguments, "--json", code=code, stdin=stdin).stdout)
        return answer

    def start(self, *arguments: str | Path) -> subprocess.Popen[bytes]:
        """Start a command as a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "streamer", *map(str, arguments)],
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Whoever runs the tests in the background ignores it, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def ready(self) -> "Operator":
        """Topics are there, and the campaign is defined."""
        self.run("topics", "create", "--partitions", "2")
        self.run(
            "campaign",
            "create",
            self.campaign,
            "--from",
            "a@b.cc",
            "--subject",
            "s",
            "--text",
            os.devnull,
        )
        return self

    def produced(self) -> list[tuple[bytes | None, RecipientEvent]]:
        """All records of the recipients' topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap_servers,
                "group.id": "-",
                "enable.auto.commit": False,
            }
        )
        topic = self.topics.recipients
        found = []
        for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            where = TopicPartition(topic, partition, 0)
            _, end = consumer.get_watermark_offsets(where, timeout=10)
            consumer.assign([where])
            for _ in range(end):
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append((message.key(), parse(message.value())))
        consumer.close()
        return found


@pytest.fixture
def operator(stack: Stack) -> Operator:
    return Operator(stack)


@pytest.fixture
def client(stack: Stack) -> Iterable[Client]:
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()


# Campaigns


def definition(operator: Operator, **changes: object) -> Definition:
    return Definition.model_validate(
        {
            "organization_id": operator.organization,
            "campaign_id": "spring-26",
            "from": "Acme <news@acme.test>",
            "subject": "Hello {{ first_name }}",
            "html": "<p>Hello</p>",
            "template": None,
            **changes,
        }
    )


def test_a_campaign_is_defined_once(operator: Operator, client: Client) -> None:
    wanted = definition(operator)
    assert campaigns.create(client, wanted)
    assert not campaigns.create(client, definition(operator))
    with pytest.raises(campaigns.CampaignExistsError, match="another from, subject;"):
        campaigns.create(client, definition(operator, subject="x", **{"from": "b@c.dd"}))
    found = campaigns.load(client, operator.organization, "spring-26")
    assert found is not None
    assert (found.definition, found.state) == (wanted, CampaignState.ACTIVE)
    assert campaigns.load_message(client, operator.organization, "spring-26") == (
        found.version,
        wanted,
    )
    assert campaigns.ids(client, operator.organization) == ["spring-26"]
    assert operator.organization in campaigns.organizations(client)


def test_what_a_worker_asks_before_each_batch(operator: Operator, client: Client) -> None:
    def probe(campaign_id: str) -> CampaignProbe:
        key = keys.campaign(operator.organization, campaign_id)
        values = cast(list[bytes | None], client.hmget(key, campaigns.PROBE_FIELDS))
        return campaigns.read_probe(values)

    assert probe("spring-26") == (None, None)
    campaigns.create(client, definition(operator))
    campaigns.create(client, definition(operator, campaign_id="other", subject="x"))
    state, version = probe("spring-26")
    assert state is CampaignState.ACTIVE
    assert version is not None
    assert probe("other").version not in (None, version)
    client.hset(keys.campaign(operator.organization, "spring-26"), "state", "from the future")
    assert probe("spring-26") == (CampaignState.PAUSED, version)


def test_a_campaign_that_was_paused_before_it_was_defined_stays_so(
    operator: Operator, client: Client
) -> None:
    client.hset(keys.campaign(operator.organization, "spring-26"), "state", "paused")
    assert campaigns.load(client, operator.organization, "spring-26") is None
    campaigns.create(client, definition(operator))
    found = campaigns.load(client, operator.organization, "spring-26")
    assert found is not None
    assert found.state is CampaignState.PAUSED


def test_campaign_create_show_and_list(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "definition.json"
    file.write_text(definition(operator).model_dump_json(by_alias=True))
    assert "created" in operator.run("campaign", "create", file).stdout
    assert "the same" in operator.run("campaign", "create", "-", stdin=file.read_bytes()).stdout

    shown = operator.json("campaign", "show", operator.campaign)
    assert isinstance(shown, dict)
    assert shown["state"] == "active"
    progress = shown.pop("progress")
    assert isinstance(progress, dict)
    assert progress["received"] == 0
    again = operator.run("campaign", "create", "-", stdin=orjson.dumps(shown["definition"]))
    assert "the same" in again.stdout
    assert operator.json("campaign", "list", operator.organization) == [shown]
    assert operator.campaign in operator.run("campaign", "list").stdout
    assert "Hello {{ first_name }}" in operator.run("campaign", "show", operator.campaign).stdout


def test_campaign_create_by_options(operator: Operator, tmp_path: Path) -> None:
    html = tmp_path / "mail.html"
    html.write_text("<p>{{ x }}</p>")
    options = ("--from", "a@b.cc", "--subject", "s", "--html", html, "--reply-to", "r@b.cc")
    operator.run("campaign", "create", operator.campaign, *options, "--expected-recipients", "5")
    shown = operator.json("campaign", "show", operator.campaign)
    assert isinstance(shown, dict)
    assert shown["definition"]["expected_recipients"] == 5
    assert shown["definition"]["reply_to"] == ["r@b.cc"]
    html.write_text("{{ x")
    failure = operator.run("campaign", "create", operator.campaign, *options, code=2)
    assert "html: syntax error" in failure.stderr


def test_campaigns_that_cannot_be_had(operator: Operator, tmp_path: Path) -> None:
    assert "is not defined" in operator.run("campaign", "show", operator.campaign, code=1).stderr
    assert "No such file" in operator.run("campaign", "create", tmp_path / "x", code=1).stderr
    operator.run("campaign", "show", "acme", code=2)
    assert operator.json("campaign", "list", operator.organization) == []


# Suppression


def test_suppression_of_many(operator: Operator, client: Client) -> None:
    organization = operator.organization
    addresses = [f"user{number}@example.com" for number in range(2500)]
    assert suppression.add(client, organization, iter(addresses)) == 2500
    assert suppression.add(client, organization, addresses[:10]) == 0
    assert suppression.count(client, organization) == 2500
    asked = ["nobody@example.com", *addresses, "noone@example.com"]
    assert suppression.check(client, organization, asked) == [False, *[True] * 2500, False]
    assert suppression.check(client, organization, []) == []
    assert set(suppression.export(client, organization)) == set(addresses)
    assert suppression.remove(client, organization, [*addresses, "x@y.zz"]) == 2500


def test_suppress_commands(operator: Operator, tmp_path: Path) -> None:
    organization = operator.organization
    added = operator.run("suppress", "add", organization, "Ann@Example.com", "bad", code=1)
    assert "1 added" in added.stdout
    assert "argument 2: 'bad' is no address" in added.stderr
    file = tmp_path / "list.csv"
    file.write_text("id,email\n1,ann@example.com\n2,Bob@example.com\n3,\n")
    imported = operator.json("suppress", "import", organization, file, code=1)
    assert isinstance(imported, dict)
    assert (imported["added"], imported["present"], imported["bad"]) == (1, 1, 1)
    assert imported["first_bad"][0]["place"] == "line 4"
    assert operator.json("suppress", "check", organization, "BOB@example.com", "x@y.zz") == {
        "addresses": [
            {"address": "bob@example.com", "suppressed": True},
            {"address": "x@y.zz", "suppressed": False},
        ],
        "bad": 0,
        "first_bad": [],
    }
    exported = tmp_path / "out"
    operator.run("suppress", "export", organization, exported)
    assert sorted(exported.read_text().split()) == ["ann@example.com", "bob@example.com"]
    assert "1 removed" in operator.run("suppress", "remove", organization, "ann@example.com").stdout
    assert operator.json("suppress", "export", organization) == ["bob@example.com"]
    operator.run("suppress", "import", organization, "-", stdin=exported.read_bytes())
    assert len(operator.run("suppress", "export", organization).stdout.split()) == 2


# Topics


def test_topics_are_created_once_and_compared(operator: Operator) -> None:
    first = operator.json("topics", "create", "--partitions", "2")
    again = operator.json("topics", "create", "--partitions", "2")
    assert isinstance(first, list)
    assert isinstance(again, list)
    assert [report["created"] for report in first] == [True] * 5
    assert [report["created"] for report in again] == [False] * 5
    assert [report["differences"] for report in again] == [[]] * 5
    assert "as it should be" in operator.run("topics", "create", "--partitions", "1").stdout
    more = operator.run("topics", "create", "--partitions", "3", code=1).stdout
    assert "partitions is 2, should be 3 or more" in more
    assert f"--topic {operator.topics.recipients} --partitions 3" in more


def test_a_topic_that_would_lose_records_is_named(operator: Operator) -> None:
    admin = AdminClient({"bootstrap.servers": operator.bootstrap_servers})
    name = operator.topics.parked
    config = {"cleanup.policy": "compact", "retention.ms": "1000", "max.message.bytes": "3000000"}
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result()
    reports = topics.ensure(admin, operator.topics, partitions=1)
    (report,) = [each for each in reports if not each.created]
    assert report.name == name
    assert {each.what for each in report.differences} == {"cleanup.policy", "retention.ms"}
    assert "--add-config retention.ms=-1" in " ".join(each.mend for each in report.differences)
    assert all(not each.differences for each in reports if each.created)


def test_more_copies_than_brokers(operator: Operator) -> None:
    failure = operator.run("topics", "create", "--replication", "3", code=1).stderr
    assert operator.bootstrap_servers in failure
    assert len(failure.splitlines()) == 1


# Producing


def test_produce_csv_twice_gives_the_same_recipients(operator: Operator, tmp_path: Path) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_text("email,first_name\nAnn@Example.com,Ann\nnobody,Bob\nann@example.com,Ann\n")
    result = operator.run("produce", operator.campaign, file)
    assert "3 recipients produced" in result.stdout
    assert "1 have no valid address" in result.stderr
    operator.run("produce", operator.campaign, file)
    found = operator.produced()
    assert all(key == event.recipient_id.encode() for key, event in found)
    assert sorted(Counter(event.recipient_id for _, event in found).values()) == [2, 4]
    assert {event.campaign_id for _, event in found} == {"spring-26"}
    assert {str(event.variables["first_name"]) for _, event in found} == {"Ann", "Bob"}


BAD_CSV = b"email,n\na@b.cc,1\n,2\nb@b.cc,3,3\nc@b.cc,4\n"


def test_a_bad_row_in_a_file_stops_before_anything_is_produced(
    operator: Operator, tmp_path: Path
) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_bytes(BAD_CSV)
    failure = operator.run("produce", operator.campaign, file, code=1).stderr
    assert "line 3: no email" in failure
    assert "line 4: 3 cells, the header has 2" in failure
    assert "nothing was produced" in failure
    assert operator.produced() == []


def test_bad_rows_are_set_aside(operator: Operator, tmp_path: Path) -> None:
    operator.ready()
    file, aside = tmp_path / "list.csv", tmp_path / "aside.csv"
    file.write_bytes(BAD_CSV)
    answer = operator.json("produce", operator.campaign, file, "--bad-rows", aside)
    assert isinstance(answer, dict)
    assert (answer["produced"], answer["bad_rows"], answer["complete"]) == (2, 2, True)
    assert [row["line"] for row in answer["first_bad_rows"]] == [3, 4]
    assert aside.read_bytes() == b"email,n\n,2\nb@b.cc,3,3\n"
    file.write_bytes(b"email\na@b.cc\n")
    operator.run("produce", operator.campaign, file, "--bad-rows", aside)
    assert not aside.exists()
    operator.run("produce", operator.campaign, file, "--bad-rows", file, code=2)
    assert file.read_bytes() == b"email\na@b.cc\n"


def test_standard_input_stops_at_the_bad_row(operator: Operator) -> None:
    operator.ready()
    options = ("produce", operator.campaign, "-", "--format", "csv")
    answer = operator.json(*options, stdin=BAD_CSV, code=1)
    assert isinstance(answer, dict)
    assert (answer["produced"], answer["complete"]) == (1, False)
    assert answer["stopped"] == "stopped at line 3, a bad row"
    assert [event.email for _, event in operator.produced()] == ["a@b.cc"]
    assert "--format" in operator.run("produce", operator.campaign, "-", code=2).stderr


def test_a_campaign_without_definition(operator: Operator, tmp_path: Path) -> None:
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


def test_a_paused_campaign_is_warned_of(operator: Operator, client: Client, tmp_path: Path) -> None:
    operator.ready()
    client.hset(keys.campaign(operator.organization, "spring-26"), "state", "paused")
    file = tmp_path / "list.csv"
    file.write_bytes(b"email\na@b.cc\n")
    assert "it is paused" in operator.run("produce", operator.campaign, file).stderr


def test_no_topic(operator: Operator, tmp_path: Path) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    file.write_bytes(b"email\na@b.cc\n")
    failure = operator.run(
        "produce", operator.campaign, file, code=1, env={"STREAMER_TOPICS__RECIPIENTS": "not-there"}
    )
    assert "streamer topics create" in failure.stderr


def test_what_kafka_refuses_is_counted(operator: Operator) -> None:
    operator.ready()
    large = secrets.token_hex(1_500_000)  # which no compression makes small enough
    lines = [
        orjson.dumps({"email": "a@b.cc"}),
        orjson.dumps({"email": "b@b.cc", "variables": {"large": large}}),
        orjson.dumps({"email": "c@b.cc"}),
    ]
    options = ("produce", operator.campaign, "-", "--format", "jsonl")
    answer = operator.json(*options, stdin=b"\n".join(lines), code=1)
    assert isinstance(answer, dict)
    assert (answer["produced"], answer["failed"], answer["complete"]) == (2, 1, False)
    (reason,) = answer["failures"]
    assert "large" in reason.lower()
    assert {event.email for _, event in operator.produced()} == {"a@b.cc", "c@b.cc"}


def write_rows(file: Path, count: int) -> None:
    with file.open("w") as stream:
        stream.write("email,first_name\n")
        stream.writelines(f"user{n}@example.com,Name {n}\n" for n in range(count))


def test_a_file_larger_than_the_queue_is_produced_whole(operator: Operator, tmp_path: Path) -> None:
    operator.ready()
    file = tmp_path / "list.csv"
    write_rows(file, 5_000)
    # The queue is full after 100 records: each further one has to wait for its place.
    small = orjson.dumps({"queue.buffering.max.messages": 100}).decode()
    operator.run("produce", operator.campaign, file, env={"STREAMER_KAFKA__PROPERTIES": small})
    assert len({event.email for _, event in operator.produced()}) == 5_000


def test_memory_does_not_grow_with_the_list(operator: Operator, tmp_path: Path) -> None:
    operator.ready()
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    write_rows(small, 100)
    write_rows(large, 300_000)
    assert large.stat().st_size > 9_000_000
    peaks = [_peak_bytes(operator.start("produce", operator.campaign, f)) for f in (small, large)]
    # The queue has 32 MB at most, beside what librdkafka keeps for each record in it.
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
def test_an_interrupt_tells_how_far_it_came(operator: Operator, number: signal.Signals) -> None:
    operator.ready()
    process = operator.start("produce", operator.campaign, "-", "--format", "csv", "--json")
    assert process.stdin is not None
    process.stdin.write(b"email\n" + b"".join(b"u%d@b.cc\n" % n for n in range(50)))
    process.stdin.flush()
    while len(operator.produced()) < 50:
        pass  # until all is in Kafka; pytest's own limit ends it otherwise
    process.send_signal(number)
    process.wait(30)  # before its input ends, which would end it as well
    stdout, stderr = process.communicate()
    answer = orjson.loads(stdout)
    assert process.returncode == 1
    assert (answer["produced"], answer["stopped"]) == (50, "interrupted")
    assert b"To repeat the command is safe" in stderr


# Doctor


def findings(
    operator: Operator, env: Mapping[str, str], code: int = 0
) -> dict[str, dict[str, str]]:
    result = operator.run("doctor", "--json", code=code, env=env)
    assert "hidden" not in result.output
    return {finding["subject"]: finding for finding in orjson.loads(result.stdout)}


@pytest.fixture
def good(operator: Operator, sandbox: SandboxProcess, client: Client) -> dict[str, str]:
    operator.run("topics", "create", "--partitions", "1")
    # What other tests left of the account that they share.
    of_account = (keys.account_health, keys.account_holds, keys.account_answers)
    client.delete(*(key("default") for key in of_account))
    return {
        "RESEND_API_URL": sandbox.url,
        "RESEND_API_KEY": DEFAULT_KEY,
        "STREAMER_UNSUBSCRIBE__BASE_URL": "https://acme.test/u",
        "STREAMER_UNSUBSCRIBE__SECRET": "hidden-0123456789",
    }


def test_doctor_when_all_is_well(operator: Operator, good: dict[str, str]) -> None:
    found = findings(operator, good)
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert {"kafka", "transactions", "redis", "redis clock", "account default"} <= found.keys()
    text = operator.run("doctor", env=good).stdout
    assert len(text.splitlines()) == len(found)


def test_doctor_names_what_is_missing(
    operator: Operator, good: dict[str, str], sandbox: SandboxProcess
) -> None:
    found = findings(
        operator,
        good
        | {
            "STREAMER_UNSUBSCRIBE__SECRET": "",
            "STREAMER_TOPICS__PARKED": "not-there",
            "RESEND_API_KEY": "re_hidden",
            "STREAMER_MAIL__MAX_BYTES": "9000000",
            "STREAMER_DELIVERY__SAFE_WINDOW_S": "86300",
        },
        1,
    )
    levels = {subject: finding["level"] for subject, finding in found.items()}
    assert levels["unsubscribe"] == "failed"
    assert levels["topic not-there"] == "failed"
    assert found["topic not-there"]["mend"] == "streamer topics create"
    assert levels["account default"] == "failed"
    assert levels["sizes"] == "failed"
    assert levels["delivery.safe_window_s"] == "warning"


def test_doctor_takes_a_key_that_may_only_send(
    operator: Operator, good: dict[str, str], sandbox: SandboxProcess
) -> None:
    sandbox.order(Faults(refuse_key="restricted_api_key"))
    assert findings(operator, good)["account default"]["level"] == "ok"


def test_doctor_and_two_accounts_of_one_organization(
    operator: Operator, good: dict[str, str]
) -> None:
    account = {"api_key_env": "RESEND_API_KEY", "organizations": ["acme"]}
    accounts = orjson.dumps({"one": account, "two": account}).decode()
    found = findings(operator, good | {"STREAMER_ACCOUNTS": accounts}, 1)
    assert "acme is in the accounts one and two" in found["accounts"]["text"]


def test_doctor_when_nobody_answers(operator: Operator, good: dict[str, str]) -> None:
    url = f"redis://:hidden@{NOWHERE}/0"
    found = findings(
        operator,
        good
        | {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": NOWHERE,
            "STREAMER_REDIS__URL": url,
            "RESEND_API_URL": f"http://{NOWHERE}",
        },
        1,
    )
    for subject in ("kafka", "redis", "account default"):
        assert found[subject]["level"] == "failed"
        assert NOWHERE in found[subject]["text"]


def test_doctor_and_a_redis_that_forgets(
    operator: Operator, good: dict[str, str], make_redis: Callable[[], Redis]
) -> None:
    own = make_redis()
    client = connect(RedisSettings(url=own.url))
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    client.close()
    found = findings(operator, good | {"STREAMER_REDIS__URL": own.url}, 1)
    assert found["redis eviction"]["level"] == "failed"
    assert found["redis durability"]["level"] == "warning"


# What goes wrong everywhere


@pytest.mark.parametrize(
    "arguments",
    [
        ("campaign", "list"),
        ("campaign", "show", "acme/x"),
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
