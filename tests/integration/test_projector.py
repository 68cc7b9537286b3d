"""The projector on real Kafka and Redis: counts that are those of the topics, whatever happens."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, example, given, settings
from prometheus_client import REGISTRY

from streamer.flow.offsets import OffsetSet
from streamer.kafka.metadata import topic_id
from streamer.ledger import keys, lease
from streamer.ledger.connection import Client, connect
from streamer.ledger.relayed import Relayed
from streamer.model.campaign import CampaignState
from streamer.model.record import Headers, RecordId
from streamer.model.wire import PARKED_FOR, REASON, moved_headers, source_headers
from streamer.progress.completion import CompletionChecker
from streamer.progress.fold import CampaignKey, CountDelta, Cursor, Stream
from streamer.progress.projector import Projector
from streamer.progress.report import Reporter
from streamer.progress.store import Store, Update
from streamer.progress.summaries import Summaries
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.harness import Harness, wait_until
from tests.kit.office import Office
from tests.kit.operator import CommandRunner
from tests.unit.progress.happenings import (
    Happening,
    Written,
    counted,
    happenings,
    left_behind,
    play,
    topics,
)


def in_topics(office: Office, campaign: str = "spring") -> Counter[str]:
    """The counts of a campaign as the topics say, one record after the other."""
    harness, counts = office.harness, Counter[str]()
    for outcome in harness.outcomes():
        if outcome["campaign_id"] == campaign:
            counts[f"{outcome['status']}:{outcome['reason'] or ''}"] += 1
    for message in harness.dead_letters():
        headers = dict(message.headers() or [])
        reason = headers[REASON]
        assert isinstance(reason, bytes)
        if names(message.value(), campaign):
            counts[f"dead:{reason.decode()}"] += 1
    counts["received"] = sum(names(each.value, campaign) for each in harness.inputs())
    return counts


def names(value: bytes | None, campaign: str) -> bool:
    try:
        event = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return False
    return isinstance(event, dict) and event.get("campaign_id") == campaign


def in_redis(office: Office, campaign: str = "spring") -> Counter[str]:
    report = office.report(campaign)
    assert report is not None
    found = Counter({f"{s}:{r}": n for (s, r), n in report.counts.resolutions.items()})
    found["received"] = report.counts.received
    return found


def mixed(harness: Harness, count: int) -> list[dict[str, object] | bytes]:
    """Events of every kind of ending."""
    harness.suppress("user1@example.com", "user2@example.com")
    values: list[dict[str, object] | bytes] = [harness.event(n) for n in range(count)]
    values += [harness.event(5000 + n, email="no address") for n in range(3)]
    values += [harness.event(6000 + n, email="user7@example.com") for n in range(4)]
    values += [harness.event(7000, recipient_id="no id"), b"no event"]
    values += [harness.event(8000 + n, campaign_id="autumn") for n in range(20)]
    return values


def test_counts_match_the_topics(office: Office) -> None:
    """Killed and started again midway, then two at once, then all over again."""
    harness = office.harness
    values = mixed(harness, 3000)
    with harness.worker(STREAMER_PROGRESS__EMBEDDED="false"):
        first = office.start()
        harness.produce(values[:1500])
        wait_until(lambda: office.ended() > 200, 60, "the projector counts")
        first.kill()
        first.wait(10)
        second, third = office.start(), office.start()
        harness.produce(values[1500:])
        harness.await_resolutions(len(values))
    wanted = {campaign: in_topics(office, campaign) for campaign in ("spring", "autumn")}
    assert sum(wanted["spring"].values()) == 2 * 3008
    wait_until(lambda: all(in_redis(office, c) == wanted[c] for c in wanted), 30, str(wanted))
    assert office.progress()["in_flight"] == 0

    rebuilding = office.start("--rebuild")
    wait_until(lambda: "caught up" in office.log(3), 60, "the rebuild is through")
    for campaign, counts in wanted.items():
        assert in_redis(office, campaign) == counts
    for process in (second, third, rebuilding):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    for campaign, counts in wanted.items():
        assert in_redis(office, campaign) == counts


def test_campaigns_complete_only_after_everything_is_counted(office: Office) -> None:
    """Another has come that is not counted yet: the counts alone would say that all have ended."""
    harness = office.harness
    key = CampaignKey(harness.organization, "spring")
    places = [Cursor(Stream.RECIPIENTS, harness.topics.recipients, p) for p in range(4)]
    harness.produce([harness.event(0), harness.event(1)], partition=0)
    share = CountDelta(0, 1, {"received": 1, "sent:": 1})
    generation = office.store.open().generation
    office.store.apply(generation, [Update(places[0], key, share)])
    office.store.expect(key, 1)
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    reporter = Reporter(office.client, office.store)
    judge = CompletionChecker(office.store, reporter, Summaries(office.settings), admin)
    positions = dict.fromkeys(places, 0) | {places[0]: 1}

    def step() -> bool:
        judge.step(generation, positions, lambda changed: None)
        report = office.report()
        return report is not None and report.state is CampaignState.COMPLETED

    deadline = time.monotonic() + 3  # the answer about the ends takes a moment
    while time.monotonic() < deadline:
        assert not step()
        time.sleep(0.02)
    positions[places[0]] = 2
    wait_until(step, 10, "it is complete")
    assert len(office.summaries()) == 1


@pytest.mark.parametrize(("fails", "published"), [("before", 1), ("after", 2)])
def test_a_summary_is_published_despite_failures(
    office: Office, monkeypatch: pytest.MonkeyPatch, fails: str, published: int
) -> None:
    """What failed before is published once; what may have been published is published again."""
    publish, failed = Summaries.publish, threading.Event()

    def failing(self: Summaries, summaries: Mapping[str, bytes]) -> None:
        if fails == "after" or failed.is_set():
            publish(self, summaries)
        if not failed.is_set():
            failed.set()
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))

    monkeypatch.setattr(Summaries, "publish", failing)
    office.store.expect(CampaignKey(office.harness.organization, "spring"), 0)
    with office.projecting():
        wait_until(failed.is_set, 30, "it fails")
        wait_until(lambda: not office.store.due(), 30, "it is published after all")
    found = office.summaries()
    assert len(found) == published
    assert all(each == found[0] for each in found)


def test_one_of_many_workers_projects_and_exports_counts(
    office: Office, operator: CommandRunner
) -> None:
    harness = office.harness
    labels = {"organization": harness.organization, "campaign": "spring"}

    def shown(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(f"streamer_campaign_{name}", {**labels, **more})

    stops = [threading.Event(), threading.Event()]
    first, second = (
        threading.Thread(target=Projector(office.settings).run, args=(stop,)) for stop in stops
    )
    first.start()
    wait_until(
        lambda: lease.is_held(office.client, keys.progress_lease(harness.name)),
        30,
        "the first has the lease",
    )
    second.start()
    harness.produce([harness.event(n) for n in range(7)])
    wait_until(lambda: shown("recipients", status="received") == 7, 30, "it is shown")
    operator.run("campaign", "close", operator.campaign, "--expected", "9")
    wait_until(lambda: shown("expected") == 9, 30, "so is what is expected")
    stops[0].set()
    first.join(30)
    harness.produce([harness.event(n) for n in range(7, 9)])
    wait_until(lambda: shown("recipients", status="in_flight") == 9, 30, "the second goes on")
    stops[1].set()
    second.join(30)
    assert not lease.is_held(office.client, keys.progress_lease(harness.name))
    assert "not being counted" in operator.run("progress", operator.campaign).stderr


def test_counts_of_finished_campaigns_expire(office: Office) -> None:
    harness, client, store = office.harness, office.client, office.store
    key = CampaignKey(harness.organization, "spring")
    generation = store.open().generation
    place = Cursor(Stream.OUTCOMES, harness.topics.outcomes, 0)

    def count(offset: int) -> None:
        store.apply(generation, [Update(place, key, CountDelta(offset, offset + 1, {"sent:": 1}))])

    def life() -> object:
        store.sweep(3600)
        return client.ttl(keys.progress(*key))

    count(0)
    assert life() == -1
    client.hset(keys.campaign(*key), "state", "completed")
    assert life() == 3600
    count(1)
    assert client.ttl(keys.progress(*key)) == -1  # it changed
    assert life() == 3600
    client.hset(keys.campaign(*key), "state", "paused")
    assert life() == -1
    client.delete(keys.progress(*key), keys.progress_due(harness.organization))
    assert life() == -2
    assert list(store.campaigns()) == []
    assert not client.exists(keys.progress_organizations(harness.name))


def test_returned_records_are_not_counted_as_parked(office: Office) -> None:
    harness, topic = office.harness, office.harness.topics
    producer = Producer(
        {
            "bootstrap.servers": harness.bootstrap_servers,
            "transactional.id": harness.name,
            "log_level": 0,
        }
    )
    wait_until(lambda: initialised(producer), 30, "the coordinator is there")
    harness.produce([harness.event(n) for n in range(30)])

    def write(name: str, numbers: Sequence[int], *, left: bool = False) -> None:
        for number in numbers:
            headers: Headers = [
                *source_headers(RecordId(topic.recipients, 0, number)),
                (PARKED_FOR, b"x"),
            ]
            if left:
                headers = moved_headers(headers, 0, number, back=name == topic.recipients)
            value = orjson.dumps(harness.event(number))
            producer.produce(name, value, partition=0, headers=headers)

    with office.projecting():
        producer.begin_transaction()
        write(topic.parked, range(30))
        producer.commit_transaction()
        wait_until(lambda: office.parked() == (30, 30, 0), 30, "they are parked")
        producer.begin_transaction()
        write(topic.recipients, range(15), left=True)  # they come back
        write(topic.parked, range(15, 20), left=True)  # and these are moved to the tail
        producer.flush(30)
        undecided = office.parked()
        producer.commit_transaction()
        assert undecided == (30, 30, 0)
        wait_until(lambda: office.parked() == (30, 15, 15), 30, "they left")
    # Counted anew from where the relay is: those before it are gone, and may be deleted.
    relayed = Relayed(office.client, harness.name, topic_id(admin_of(harness), topic.parked))
    relayed.keep({0: OffsetSet(20)})
    office.store.open(anew=True)
    with office.projecting():
        wait_until(lambda: office.parked() == (30, 15, 15), 30, "it is counted again")
        producer.begin_transaction()
        write(topic.recipients, range(20, 30), left=True)
        producer.commit_transaction()
        wait_until(lambda: office.parked() == (30, 5, 25), 30, "those at the tail are parked still")


def admin_of(harness: Harness) -> AdminClient:
    return AdminClient({"bootstrap.servers": harness.bootstrap_servers})


def initialised(producer: Producer) -> bool:
    producer.init_transactions(30)
    return True


@pytest.fixture(scope="module")
def empty_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    client = connect(RedisSettings(url=server.url))
    yield client
    client.close()
    server.stop()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@example(*left_behind)
@given(topics, happenings)
def test_the_scripts_count_each_record_once(
    empty_redis: Client, written: Written, happened: list[Happening]
) -> None:
    empty_redis.flushall()
    store = Store(empty_redis, "g")
    play(store, written, happened)
    generation = store.open().generation
    wanted = counted(written)
    assert set(store.campaigns()) >= wanted.keys()
    for key, snapshot in zip(wanted, store.snapshots(wanted), strict=True):
        assert snapshot.generation == generation
        found = Counter({f"{s}:{r}": n for (s, r), n in snapshot.counts.resolutions.items()})
        found["received"] = snapshot.counts.received
        assert +found == wanted[key]
