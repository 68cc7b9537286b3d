"""Progress on real Kafka and Redis: counts that are those of the topics, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import orjson
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, example, given, settings
from prometheus_client import REGISTRY
from typer.testing import CliRunner, Result

from streamer.cli import app
from streamer.flow.gone import Gone
from streamer.kafka.metadata import topic_id
from streamer.ledger import keys, lease
from streamer.ledger.connection import Client, connect
from streamer.ledger.relayed import Relayed
from streamer.model.campaign import CampaignState
from streamer.model.record import Coordinates, Headers
from streamer.model.wire import PARKED_FOR, REASON, moved_headers, source_headers
from streamer.progress.fold import CampaignKey, Cursor, Place, Share
from streamer.progress.judge import Judge
from streamer.progress.projector import Projector
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store, Update
from streamer.progress.summaries import Summaries
from streamer.settings import Kafka as KafkaSettings
from streamer.settings import Redis as RedisSettings
from streamer.settings import Settings
from streamer.stack import Redis
from tests.kit.world import World, wait_until
from tests.unit.progress.happenings import (
    Happening,
    Written,
    counted,
    happenings,
    left_behind,
    play,
    topics,
)


class Office:
    """Where the progress of a world's campaigns is counted and asked for."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=world.bootstrap_servers, group_id=world.name),
            topics=world.topics,
            redis=RedisSettings(url=world.redis_url),
        )
        self.environment = {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": world.bootstrap_servers,
            "STREAMER_KAFKA__GROUP_ID": world.name,
            "STREAMER_TOPICS": world.topics.model_dump_json(),
            "STREAMER_REDIS__URL": world.redis_url,
            "STREAMER_METRICS__PORT": "0",
        }
        self.client: Client = connect(self.settings.redis)
        self.store = Store(self.client, world.name)
        self._folder = folder
        self._projectors: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: str | Path, code: int = 0) -> Result:
        """Run a command, which must end with the code."""
        result = CliRunner().invoke(app, [str(each) for each in arguments], env=self.environment)
        assert result.exit_code == code, result.output
        return result

    def progress(
        self, *arguments: str, campaign: str = "spring", code: int = 0
    ) -> dict[str, object]:
        """`progress --json` of a campaign."""
        name = f"{self.world.organization}/{campaign}"
        answer = orjson.loads(self.run("progress", name, "--json", *arguments, code=code).stdout)
        assert isinstance(answer, dict)
        return answer

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `streamer project`."""
        log = self._folder / f"project-{len(self._projectors)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "project", *arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        self._projectors.append(process)
        return process

    def report(self, campaign: str = "spring") -> Report | None:
        key = CampaignKey(self.world.organization, campaign)
        return Reporter(self.client, self.store).report(key)

    def ended(self, campaign: str = "spring") -> int:
        report = self.report(campaign)
        return report.ended if report else 0

    def position(self) -> int:
        """How many offsets were counted, of all partitions."""
        return sum(self.store.open().offsets.values())

    @contextmanager
    def projecting(self) -> Iterator[None]:
        """A projector in a thread, as in a worker."""
        stop = threading.Event()
        thread = threading.Thread(target=Projector(self.settings).run, args=(stop,))
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    def summaries(self) -> list[dict[str, object]]:
        """All records of the topic of results."""
        return [orjson.loads(m) for m in read_all(self.world, self.world.topics.results)]

    def close(self) -> None:
        for process in self._projectors:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        self.client.close()


def read_all(world: World, topic: str) -> list[bytes]:
    """The values of a topic's committed records."""
    consumer = Consumer(
        {
            "bootstrap.servers": world.bootstrap_servers,
            "group.id": f"{world.name}-test",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
        }
    )
    partitions = consumer.list_topics(topic, 10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    values, ended = [], 0
    while ended < len(partitions):
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                values.append(message.value() or b"")
            else:
                ended += 1
    consumer.close()
    return values


@pytest.fixture
def office(world: World, tmp_path: Path) -> Iterator[Office]:
    one = Office(world, tmp_path)
    yield one
    one.close()


def in_topics(office: Office, campaign: str = "spring") -> Counter[str]:
    """The counts of a campaign as the topics say, one record after the other."""
    world, counts = office.world, Counter[str]()
    for outcome in world.outcomes():
        if outcome["campaign_id"] == campaign:
            counts[f"{outcome['status']}:{outcome['reason'] or ''}"] += 1
    for message in world.dead_letters():
        headers = dict(message.headers() or [])
        reason = headers[REASON]
        assert isinstance(reason, bytes)
        if names(message.value(), campaign):
            counts[f"dead:{reason.decode()}"] += 1
    counts["received"] = sum(names(each.value, campaign) for each in world.inputs())
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
    found = Counter({f"{s}:{r}": n for (s, r), n in report.counts.endings.items()})
    found["received"] = report.counts.received
    return found


def mixed(world: World, count: int) -> list[dict[str, object] | bytes]:
    """Events of every kind of ending."""
    world.suppress("user1@example.com", "user2@example.com")
    values: list[dict[str, object] | bytes] = [world.event(n) for n in range(count)]
    values += [world.event(5000 + n, email="no address") for n in range(3)]
    values += [world.event(6000 + n, email="user7@example.com") for n in range(4)]
    values += [world.event(7000, recipient_id="no id"), b"no event"]
    values += [world.event(8000 + n, campaign_id="autumn") for n in range(20)]
    return values


def test_counts_are_those_of_the_topics(office: Office) -> None:
    """Killed and started again midway, then two at once, then all over again."""
    world = office.world
    values = mixed(world, 3000)
    with world.worker(STREAMER_PROGRESS__EMBEDDED="false"):
        first = office.start()
        world.produce(values[:1500])
        wait_until(lambda: office.ended() > 200, 60, "the projector counts")
        first.kill()
        first.wait(10)
        second, third = office.start(), office.start()
        world.produce(values[1500:])
        world.await_endings(len(values))
    wanted = {campaign: in_topics(office, campaign) for campaign in ("spring", "autumn")}
    assert sum(wanted["spring"].values()) == 2 * 3008
    wait_until(lambda: all(in_redis(office, c) == wanted[c] for c in wanted), 30, str(wanted))
    assert office.progress()["in_flight"] == 0

    rebuilding = office.start("--rebuild")
    wait_until(lambda: "caught up" in log_of(office, 3), 60, "the rebuild is through")
    for campaign, counts in wanted.items():
        assert in_redis(office, campaign) == counts
    for process in (second, third, rebuilding):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    for campaign, counts in wanted.items():
        assert in_redis(office, campaign) == counts


def log_of(office: Office, number: int) -> str:
    return (office._folder / f"project-{number}.log").read_text()


def test_a_completed_campaign_has_one_summary(office: Office, tmp_path: Path) -> None:
    world = office.world
    name = f"{world.organization}/spring"
    office.run(
        "campaign", "create", name, "--from", "a@b.cc", "--subject", "s", "--text", os.devnull
    )
    file = tmp_path / "r.csv"
    file.write_text("email\n" + "".join(f"user{n}@example.com\n" for n in range(300)))
    with world.worker(STREAMER_PROGRESS__EMBEDDED="false"), office.projecting():
        office.progress("--wait", "--timeout", "0", code=1)
        office.run("produce", name, file)
        office.run("produce", name, file, "--done")
        done = office.progress("--wait", "--timeout", "60")
        assert (done["state"], done["expected"], done["received"]) == ("completed", 300, 600)
        assert (done["sent"], done["reasons"]) == (300, {"duplicate": 300})
        assert done["finished_at"] is not None
        wait_until(office.summaries, 30, "the summary is there")

        late = world.event(1, email="late@example.com", message=None)
        world.produce([{k: v for k, v in late.items() if v is not None}])
        wait_until(lambda: len(office.summaries()) > 1, 30, "a late record corrects the summary")
        wait_until(lambda: not office.store.due(), 30, "everything is judged")
    # Counting again comes to the same, which is published already.
    office.store.open(anew=True)
    with office.projecting():
        wait_until(lambda: (r := office.report()) and r.counts.outcomes == 601, 30, "counted")
        wait_until(lambda: not office.store.due(), 30, "everything is judged")
    first, second = office.summaries()
    assert (first["expected"], first["total"], first["sent"], first["skipped"]) == (
        300,
        600,
        300,
        300,
    )
    assert (second["total"], second["sent"]) == (601, 301)
    assert office.run("progress", name).stdout.count("601") == 1


def test_a_campaign_is_closed(office: Office) -> None:
    world = office.world
    name = f"{world.organization}/spring"
    office.run("campaign", "close", name, code=1)
    with world.worker(STREAMER_PROGRESS__EMBEDDED="false"), office.projecting():
        world.produce([world.event(n) for n in range(50)])
        wait_until(lambda: office.ended() == 50, 60, "all are counted")
        assert office.progress()["state"] == "active"
        key = keys.campaign(world.organization, "spring")
        office.client.hset(key, "state", "paused")
        office.run("campaign", "close", name)
        wait_until(lambda: is_judged_again(office), 30, "it is judged while it is paused")
        assert office.progress()["state"] == "paused"
        assert office.summaries() == []
        office.client.hset(key, "state", "active")  # resumed
        done = office.progress("--wait", "--timeout", "30")
        assert (done["state"], done["expected"], done["sent"]) == ("completed", 50, 50)
        office.run("campaign", "pause", name)
        assert office.progress()["state"] == "paused"
        office.run("campaign", "resume", name)
        assert office.progress("--wait", "--timeout", "30")["state"] == "completed"
        lines = office.run("watch", name).stdout.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith(f"{name}: 50 of 50, sent 50")
        assert lines[0].endswith("complete")


def test_nobody_is_complete_before_everything_written_was_counted(office: Office) -> None:
    """Another has come that is not counted yet: the counts alone would say that all have ended."""
    world = office.world
    key = CampaignKey(world.organization, "spring")
    places = [Place(Cursor.RECIPIENTS, world.topics.recipients, p) for p in range(4)]
    world.produce([world.event(0), world.event(1)], partition=0)
    share = Share(0, 1, {"received": 1, "sent:": 1})
    generation = office.store.open().generation
    office.store.apply(generation, [Update(places[0], key, share)])
    office.store.expect(key, 1)
    admin = AdminClient({"bootstrap.servers": world.bootstrap_servers})
    reporter = Reporter(office.client, office.store)
    judge = Judge(office.store, reporter, Summaries(office.settings), admin)
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
def test_a_summary_outlives_failures(
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
    office.store.expect(CampaignKey(office.world.organization, "spring"), 0)
    with office.projecting():
        wait_until(failed.is_set, 30, "it fails")
        wait_until(lambda: not office.store.due(), 30, "it is published after all")
    found = office.summaries()
    assert len(found) == published
    assert all(each == found[0] for each in found)


def test_one_of_many_projects_and_shows_the_counts(office: Office) -> None:
    world = office.world
    labels = {"organization": world.organization, "campaign": "spring"}

    def shown(name: str, **more: str) -> float | None:
        return REGISTRY.get_sample_value(f"streamer_campaign_{name}", {**labels, **more})

    stops = [threading.Event(), threading.Event()]
    first, second = (
        threading.Thread(target=Projector(office.settings).run, args=(stop,)) for stop in stops
    )
    first.start()
    wait_until(
        lambda: lease.is_held(office.client, keys.progress_lease(world.name)),
        30,
        "the first has the lease",
    )
    second.start()
    world.produce([world.event(n) for n in range(7)])
    wait_until(lambda: shown("recipients", status="received") == 7, 30, "it is shown")
    office.run("campaign", "close", f"{world.organization}/spring", "--expected", "9")
    wait_until(lambda: shown("expected") == 9, 30, "so is what is expected")
    stops[0].set()
    first.join(30)
    world.produce([world.event(n) for n in range(7, 9)])
    wait_until(lambda: shown("recipients", status="in_flight") == 9, 30, "the second goes on")
    stops[1].set()
    second.join(30)
    assert not lease.is_held(office.client, keys.progress_lease(world.name))
    assert "nobody counts" in office.run("progress", f"{world.organization}/spring").stderr


def test_a_campaign_that_is_over_is_dropped(office: Office) -> None:
    world, client = office.world, office.client
    name = f"{world.organization}/spring"
    office.run(
        "campaign", "create", name, "--from", "a@b.cc", "--subject", "s", "--text", os.devnull
    )
    office.run("campaign", "drop", name, code=2)  # nobody is there to be asked
    with world.worker(), office.projecting():
        world.produce([world.event(n) for n in range(20)])
        wait_until(lambda: office.ended() == 20, 30, "all are counted")
        office.run("campaign", "pause", name)
        world.produce([world.event(n) for n in range(20, 30)])
        wait_until(lambda: parked(office)[1] == 10, 30, "some are parked")
        assert "10 are parked" in office.run("campaign", "drop", name, "--yes", code=1).stderr
        office.run("campaign", "cancel", name)
        wait_until(lambda: office.ended() == 30, 30, "the others end")
        wait_until(lambda: parked(office) == (30, 0, 0), 30, "and are parked no more")
        wait_until(lambda: not office.store.due(), 30, "it is judged")
        office.run("campaign", "drop", name, "--yes")
        office.run("campaign", "drop", name, "--yes", code=1)
        found = cast(list[bytes], client.keys(f"{{{world.organization}}}:*"))
        left = {key.decode() for key in found if b":batch:" not in key}
        assert left == {keys.organization_epoch(world.organization)}
        assert not client.sismember(keys.ORGANIZATIONS, world.organization)
        assert not client.exists(keys.progress_organizations(world.name))
        # The projector meets the organization again all the same, and the campaign is a new one.
        world.produce([world.event(1)])
        wait_until(lambda: office.ended() == 1, 30, "it is counted")
        assert CampaignKey(world.organization, "spring") in office.store.campaigns()
    assert world.words() == {("sent", None): 21, ("skipped", "cancelled"): 10}


def test_counts_of_what_ended_end_some_day(office: Office) -> None:
    world, client, store = office.world, office.client, office.store
    key = CampaignKey(world.organization, "spring")
    generation = store.open().generation
    place = Place(Cursor.OUTCOMES, world.topics.outcomes, 0)

    def count(offset: int) -> None:
        store.apply(generation, [Update(place, key, Share(offset, offset + 1, {"sent:": 1}))])

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
    client.delete(keys.progress(*key), keys.progress_due(world.organization))
    assert life() == -2
    assert list(store.campaigns()) == []
    assert not client.exists(keys.progress_organizations(world.name))


def test_mistakes_are_named(office: Office) -> None:
    name = f"{office.world.organization}/spring"
    office.run("progress", name, "--timeout", "3", code=2)
    assert "is not defined" in office.run("progress", name, code=1).stderr
    assert "is not defined" in office.run("watch", name, code=1).stderr
    elsewhere = office.settings.topics.model_copy(update={"parked": "nowhere"})
    office.environment["STREAMER_TOPICS"] = elsewhere.model_dump_json()
    assert "do not exist: nowhere" in office.run("project", code=1).stderr
    office.environment["STREAMER_REDIS__URL"] = "redis://127.0.0.1:1/0"
    assert "Redis at 127.0.0.1:1" in office.run("progress", name, code=1).stderr


def test_a_topic_that_was_created_again_is_noticed(office: Office) -> None:
    place = Place(Cursor.OUTCOMES, office.world.topics.outcomes, 0)
    office.store.advance(office.store.open().generation, {place: 10})
    assert office.start().wait(30) == 1
    assert "project --rebuild" in log_of(office, 0)


def is_judged_again(office: Office) -> bool:
    """Whether everything that was due before was judged: of two, the other is settled."""
    other = CampaignKey(office.world.organization, "other")
    office.store.expect(other, 1)
    wait_until(lambda: other not in {due.key for due in office.store.due()}, 30, "it is settled")
    return True


def test_the_parked_are_those_that_the_relay_did_not_bring_back(office: Office) -> None:
    world, topic = office.world, office.world.topics
    producer = Producer(
        {
            "bootstrap.servers": world.bootstrap_servers,
            "transactional.id": world.name,
            "log_level": 0,
        }
    )
    wait_until(lambda: initialised(producer), 30, "the coordinator is there")
    world.produce([world.event(n) for n in range(30)])

    def write(name: str, numbers: Sequence[int], *, left: bool = False) -> None:
        for number in numbers:
            headers: Headers = [
                *source_headers(Coordinates(topic.recipients, 0, number)),
                (PARKED_FOR, b"x"),
            ]
            if left:
                headers = moved_headers(headers, 0, number, back=name == topic.recipients)
            value = orjson.dumps(world.event(number))
            producer.produce(name, value, partition=0, headers=headers)

    with office.projecting():
        producer.begin_transaction()
        write(topic.parked, range(30))
        producer.commit_transaction()
        wait_until(lambda: parked(office) == (30, 30, 0), 30, "they are parked")
        producer.begin_transaction()
        write(topic.recipients, range(15), left=True)  # they come back
        write(topic.parked, range(15, 20), left=True)  # and these are moved to the tail
        producer.flush(30)
        undecided = parked(office)
        producer.commit_transaction()
        assert undecided == (30, 30, 0)
        wait_until(lambda: parked(office) == (30, 15, 15), 30, "they left")
    # Counted anew from where the relay is: those before it are gone, and may be deleted.
    relayed = Relayed(office.client, world.name, topic_id(admin_of(world), topic.parked))
    relayed.keep({0: Gone(20)})
    office.store.open(anew=True)
    with office.projecting():
        wait_until(lambda: parked(office) == (30, 15, 15), 30, "it is counted again")
        producer.begin_transaction()
        write(topic.recipients, range(20, 30), left=True)
        producer.commit_transaction()
        wait_until(lambda: parked(office) == (30, 5, 25), 30, "those at the tail are parked still")


def admin_of(world: World) -> AdminClient:
    return AdminClient({"bootstrap.servers": world.bootstrap_servers})


def initialised(producer: Producer) -> bool:
    producer.init_transactions(30)
    return True


def parked(office: Office) -> tuple[int, int, int]:
    report = office.report()
    if report is None:
        return (0, 0, 0)
    return report.counts.received, report.counts.parked, report.counts.in_flight


@pytest.fixture(scope="module")
def empty_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    server = Redis(tmp_path_factory.mktemp("redis"))
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
    for key, look in zip(wanted, store.look(wanted), strict=True):
        assert look.generation == generation
        found = Counter({f"{s}:{r}": n for (s, r), n in look.counts.endings.items()})
        found["received"] = look.counts.received
        assert +found == wanted[key]
