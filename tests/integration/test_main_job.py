"""The main job: from events on Kafka to mails and outcomes."""

from pathlib import Path

import orjson
import pytest
import urllib3
import yaml
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from streamer.kafka.offsets import GroupLag
from streamer.ledger import campaigns, keys
from streamer.model.campaign import Definition
from streamer.model.pulse import OffsetMetadata
from streamer.sandbox import Faults
from streamer.stack.ports import free_port
from tests.kit.harness import MESSAGE, Harness, wait_until
from tests.kit.raw import produce_raw
from tests.kit.settings import settings_of


def test_each_record_resolves_once_and_suppression_is_honoured(harness: Harness) -> None:
    harness.suppress("user3@example.com", "user77@example.com")
    harness.produce(harness.event(number) for number in range(250))
    with harness.worker():
        harness.await_resolutions(250)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 248, ("skipped", "suppressed"): 2}
    assert harness.committed() == {
        (harness.topics.recipients, p): sum(r.record_id.partition == p for r in harness.inputs())
        for p in range(4)
    }


def test_batches_are_filled_after_filtering(harness: Harness) -> None:
    harness.suppress(*(f"user{number}@example.com" for number in range(0, 400, 4)))
    harness.produce(harness.event(number) for number in range(400))
    with harness.worker():
        harness.await_resolutions(400)
    harness.assert_exactly_once()
    assert harness.sandbox.stats().calls == 3


def test_each_reason_occurs(harness: Harness) -> None:
    event = harness.event
    harness.suppress("user1@example.com")
    harness.sandbox.set_faults(Faults(refused=frozenset({"user2@example.com"})))
    broken = MESSAGE | {"html": "{{ nobody }}"}
    endless = MESSAGE | {
        "html": "{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}"
    }
    bare = event(10)
    del bare["message"]
    harness.produce(
        [
            event(0),
            event(1),
            event(2),
            event(3, email="not an address"),
            event(4, message=broken),
            event(5, message=endless),
            event(
                6,
                message=MESSAGE | {"subject": "Hi", "html": "{{ big }}" * 2},
                variables={"big": "x" * 600_000},
            ),
            event(7, expires_at="2020-01-01T00:00:00Z"),
            event(8, email=" USER0@Example.COM "),
            bare,
            event(11, organization_id="not allowed!"),
            None,
            b"",
            b"\xff\xfe",
            b"[1, 2",
            b"[]",
        ],
        partition=0,
    )
    produce_raw(
        harness.bootstrap_servers,
        harness.topics.recipients,
        orjson.dumps(event(12)),
        [(b"ours", b"1"), (b"\xff\xfe", b"2")],
    )
    with harness.worker():
        harness.await_resolutions(17)
    harness.assert_exactly_once()
    assert harness.status_counts() == {
        ("sent", None): 1,
        ("skipped", "suppressed"): 1,
        ("failed", "rejected"): 1,
        ("failed", "invalid_address"): 1,
        ("failed", "render_error"): 1,
        ("failed", "too_large"): 2,
        ("skipped", "expired"): 1,
        ("skipped", "duplicate"): 1,
        ("dead", "unknown_campaign"): 1,
        ("dead", "invalid_event"): 2,
        ("dead", "undecodable"): 5,
    }
    # What it holds is not looked at: it is there to be read by whoever mends its producer.
    assert orjson.dumps(event(12)) in [letter.value() for letter in harness.dead_letters()]
    by_recipient = {outcome["recipient_id"]: outcome for outcome in harness.outcomes()}
    assert "nobody" in str(by_recipient["r-4"]["detail"])
    assert by_recipient["r-3"]["email"] == "not an address"
    assert "Invalid `to` field" in str(by_recipient["r-2"]["detail"])


def test_a_dead_letter_keeps_key_value_and_headers(harness: Harness) -> None:
    harness.produce([harness.event(1, campaign_id="not allowed!")], partition=2)
    with harness.worker():
        harness.await_resolutions(1)
    (letter,) = harness.dead_letters()
    (record,) = harness.inputs()
    assert letter.value() == record.value
    assert letter.key() == b"r-1"
    headers = dict(letter.headers() or [])
    assert headers["streamer-reason"] == b"invalid_event"
    assert b"campaign_id" in (headers["streamer-detail"] or b"")
    assert headers["streamer-source-topic"] == harness.topics.recipients.encode()
    assert headers["streamer-source-partition"] == b"2"
    assert headers["streamer-source-offset"] == b"0"


def test_content_comes_from_the_definition(harness: Harness) -> None:
    campaigns.create(
        harness.redis,
        Definition.model_validate(
            {
                "organization_id": harness.organization,
                "campaign_id": "defined",
                "from": "Acme <news@acme.test>",
                "subject": "Hi",
                "text": "{{ unsubscribe_url }}",
            }
        ),
    )
    events = [harness.event(number, campaign_id="defined") for number in range(3)]
    for event in events:
        del event["message"]
    harness.produce(events)
    with harness.worker():
        harness.await_resolutions(3)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 3}


def test_one_address_in_many_records_is_mailed_once(harness: Harness) -> None:
    harness.produce(harness.event(number, email="same@example.com") for number in range(300))
    with harness.worker():
        harness.await_resolutions(300)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 1, ("skipped", "duplicate"): 299}


def test_a_batch_closes_before_it_is_too_large(harness: Harness) -> None:
    message = MESSAGE | {"text": "x" * 20_000}
    harness.produce((harness.event(n, message=message) for n in range(20)), partition=0)
    with harness.worker(STREAMER_BATCH__MAX_BYTES="100000"):
        harness.await_resolutions(20)
    harness.assert_exactly_once()
    assert harness.sandbox.stats().calls == 5


def test_one_rejected_recipient_fails_alone(harness: Harness) -> None:
    harness.sandbox.set_faults(Faults(reject_addresses=frozenset({"user42@example.com"})))
    harness.produce(harness.event(number) for number in range(100))
    with harness.worker(STREAMER_BATCH__LINGER_MS="1000"):
        harness.await_resolutions(100)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 99, ("failed", "rejected"): 1}
    assert harness.sandbox.stats().calls <= 15


def test_network_faults_lose_no_mail(harness: Harness) -> None:
    harness.sandbox.set_faults(
        Faults(
            error_before_percent=10,
            error_after_percent=10,
            cut_before_percent=10,
            cut_after_percent=10,
            half_body_percent=5,
        )
    )
    harness.produce(harness.event(number) for number in range(2000))
    with harness.worker():
        harness.await_resolutions(2000)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 2000}


def test_two_workers_do_not_exceed_the_limit(harness: Harness) -> None:
    harness.sandbox.set_limit(10)
    harness.produce(harness.event(number) for number in range(3000))
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "10"
    with harness.worker(0), harness.worker(1):
        harness.await_resolutions(3000)
    harness.assert_exactly_once()
    answers = harness.sandbox.stats().answers
    # A call that opens its connection arrives late, and a second of the sandbox's may then see
    # one call more than a second of ours had.
    assert answers.get("429:rate_limit_exceeded", 0) <= 2
    assert answers["200"] >= 30  # more where a rebalance or the end of the queue left a batch short


def test_a_second_run_sends_nothing_and_uses_no_slots(harness: Harness) -> None:
    harness.produce(harness.event(number) for number in range(220))
    with harness.worker():
        harness.await_resolutions(220)
    harness.produce(harness.event(number) for number in range(220))
    # Were a slot taken for each batch of them, the second would wait for it for minutes.
    with harness.worker(STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND="0.005"):
        harness.await_resolutions(440)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 220, ("skipped", "duplicate"): 220}


def test_a_mailed_address_is_a_duplicate_whatever_changed_since(harness: Harness) -> None:
    names = ("cancelled", "paused", "running")
    harness.produce(harness.event(n, campaign_id=c) for n in range(2) for c in names)
    with harness.worker():
        harness.await_resolutions(6)
    harness.suppress("user1@example.com", checked=False)
    for campaign, state in (("cancelled", "cancelled"), ("paused", "paused")):
        harness.redis.hset(keys.campaign(harness.organization, campaign), "state", state)
    broken = MESSAGE | {"html": "{{ nobody }}"}
    harness.produce(harness.event(n, campaign_id=c) for n in range(2) for c in names)
    harness.produce(harness.event(0, campaign_id="running", message=broken) for _ in range(2))
    harness.produce([harness.event(0, campaign_id="running", expires_at="2020-01-01T00:00:00Z")])
    with harness.worker():
        harness.await_resolutions(15)
    harness.assert_exactly_once()
    assert harness.status_counts() == {("sent", None): 6, ("skipped", "duplicate"): 9}


def test_the_consumer_group_protocol_works(harness: Harness) -> None:
    harness.group_protocol = "consumer"
    harness.suppress("user3@example.com")
    harness.sandbox.set_limit(2)  # so slow that there is work for both
    harness.settings["STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND"] = "20"
    harness.produce(harness.event(number) for number in range(1200))
    harness.produce([harness.event(1200, email="user7@example.com")])
    with harness.worker(0), harness.worker(1) as second:
        wait_until(lambda: "partitions assigned" in second.words(), 30, "the second joins")
        harness.sandbox.set_limit(20)
        harness.await_resolutions(1201)
    harness.assert_exactly_once()
    assert harness.status_counts() == {
        ("sent", None): 1199,
        ("skipped", "suppressed"): 1,
        ("skipped", "duplicate"): 1,
    }


def _produce_in_a_transaction(harness: Harness, numbers: range) -> None:
    """Behind the records of a transaction stands its marker, which is no record."""
    producer = Producer(
        {
            "bootstrap.servers": harness.bootstrap_servers,
            "transactional.id": f"{harness.name}-producer",
            "log_level": 0,
        }
    )
    producer.init_transactions(20)
    producer.begin_transaction()
    for number in numbers:
        value = orjson.dumps(harness.event(number))
        producer.produce(harness.topics.recipients, value, partition=number % 4)
    producer.commit_transaction(20)


@pytest.fixture
def lag(harness: Harness) -> GroupLag:
    """Of the workers' group, as commands measure it."""
    settings = settings_of(harness)
    return GroupLag(settings, AdminClient({"bootstrap.servers": harness.bootstrap_servers}))


def test_an_idle_group_has_no_lag(harness: Harness, lag: GroupLag) -> None:
    _produce_in_a_transaction(harness, range(8))
    port = free_port()

    def shown() -> list[float]:
        url = f"http://127.0.0.1:{port}/metrics"
        text = urllib3.request("GET", url, retries=False).data.decode()
        return [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == "streamer_consumer_lag"
        ]

    with harness.worker(STREAMER_METRICS__PORT=str(port)):
        wait_until(lambda: lag.measure() == 0, 20, "there is no lag")
        wait_until(lambda: shown() == [0.0] * 4, 10, "no lag is shown")
    harness.await_resolutions(8)
    known = {OffsetMetadata.parse(place.metadata) for place in harness.committed_offsets()}
    assert {each.epoch.encode() for each in known} == {harness.redis.get(keys.EPOCH)}
    # The work before the worker became idle is covered too.
    pulse = harness.redis.get(keys.pulse(harness.name))
    assert str(max(each.pulse for each in known)).encode() == pulse
    # Without any lag the alerts about it cannot fire, whatever the rest of their expressions is.
    rules = yaml.safe_load(Path("config/alerts.yml").read_text())["groups"][0]["rules"]
    about_lag = [rule["expr"] for rule in rules if "streamer_consumer_lag" in rule["expr"]]
    assert len(about_lag) == 2
    for expression in about_lag:
        first, _, rest = expression.partition(" and ")
        assert first == "sum(streamer_consumer_lag) > 0"
        assert " or " not in rest.replace("or vector(0)", "")


def test_a_stopped_group_has_no_lag(harness: Harness, lag: GroupLag) -> None:
    """Also where it stops just when its last records have ended."""
    for first in (0, 8, 16):
        with harness.worker(0):
            _produce_in_a_transaction(harness, range(first, first + 8))
            harness.await_resolutions(first + 8)
        assert lag.measure() == 0
