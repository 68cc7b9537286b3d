"""The projector on real Kafka and Redis: counts that are those of the topics, whatever happens."""

import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from hypothesis import HealthCheck, example, given, settings
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError

from streamer.kafka.metadata import topic_id
from streamer.kafka.offsets import Partition, end_offsets
from streamer.kafka.shared import shared_consumer
from streamer.ledger import keys, lease
from streamer.ledger.connection import Client, connect
from streamer.ledger.input_offsets import InputOffsets
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.progress import CountDelta, named_campaign
from streamer.model.wire import REASON
from streamer.progress.completion import CompletionChecker
from streamer.progress.fold import Chunk, Share
from streamer.progress.projection import Projection
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
        name = named_campaign(message.value())
        if name is not None and name.campaign_id == campaign:
            counts[f"dead:{reason.decode()}"] += 1
    return counts


def in_redis(office: Office, campaign: str = "spring") -> Counter[str]:
    report = office.report(campaign)
    assert report is not None
    counts = report.counts
    assert counts.received == sum(counts.resolutions.values())
    return Counter({f"{s}:{r}": n for (s, r), n in counts.resolutions.items()})


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
    assert sum(wanted["spring"].values()) == 3008
    wait_until(lambda: all(in_redis(office, c) == wanted[c] for c in wanted), 30, str(wanted))
    assert office.progress()["received"] == 3008

    rebuilding = office.start("--rebuild")
    wait_until(lambda: "caught up" in office.log(3), 60, "the rebuild is through")
    for campaign, counts in wanted.items():
        assert in_redis(office, campaign) == counts
    for process in (second, third, rebuilding):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    for campaign, counts in wanted.items():
        assert in_redis(office, campaign) == counts


class CheckedCampaign:
    """A campaign whose records a test writes and counts by itself, and the check of completion."""

    def __init__(self, office: Office) -> None:
        topics = office.harness.topics
        self._office, self._store = office, office.store
        self.name = CampaignName(office.harness.organization, "spring")
        self.admin = AdminClient({"bootstrap.servers": office.harness.bootstrap_servers})
        self.group = InputOffsets(
            office.client, office.harness.name, topic_id(self.admin, topics.recipients)
        )
        self._checker = CompletionChecker(
            office.store,
            Reporter(office.client, office.store),
            Summaries(office.settings),
            lambda: self.admin,
            topics.recipients,
            self.group,
        )
        self._generation = office.store.open().generation
        self._positions = {(topics.progress, number): 0 for number in range(4)}

    def write(self, counts: dict[str, int]) -> None:
        """Write a progress record, which is not counted."""
        self._office.write(counts)

    def count(self, counts: dict[str, int]) -> None:
        """Count what was written last."""
        topic = self._office.harness.topics.progress
        ((number, end),) = [each for each in end_offsets(self.admin, topic).items() if each[1]]
        share = Share(end - 1, end, CountDelta(counts))
        self._store.apply(self._generation, [Update((topic, number), self.name, share)])
        self._positions[topic, number] = end

    def is_completed(self, *, counted: bool = True) -> bool:
        """Whether it is completed by a check that begins now.

        Args:
            counted: whether the check ends, as everything written is counted.
        """
        other = CampaignName(self.name.organization, "other")
        wait_until(lambda: self._step() is None, 10, "the check before is over")
        self._store.expect(other, 1)
        if counted:
            wait_until(lambda: self._step() is None and self._is_settled(other), 10, "a check")
        else:
            wait_until(lambda: self._step() is not None, 10, "it is known what is not counted")
            assert self._step() is not None
        report = self._office.report()
        return report is not None and report.state is CampaignState.COMPLETED

    def _is_settled(self, name: CampaignName) -> bool:
        return name not in {due.name for due in self._store.due()}

    def _step(self) -> object:
        """Do a step; returns the ends that are waited for, if they are known."""
        self._checker.step(self._generation, self._positions, lambda changed: None)
        return self._checker._ends and self._checker._ends._ends


def test_a_campaign_is_complete_when_all_was_passed_and_counted_and_none_is_parked(
    office: Office,
) -> None:
    harness, campaign = office.harness, CheckedCampaign(office)
    harness.produce([harness.event(0), harness.event(1)], partition=2)
    campaign.write({"sent": 1})
    campaign.count({"sent": 1})
    ends = end_offsets(campaign.admin, harness.topics.recipients)
    assert ends == {0: 0, 1: 0, 2: 2, 3: 0}
    office.store.close(campaign.name, ends, 2)
    campaign.group.keep({2: 1}, "epoch")
    assert not campaign.is_completed()
    campaign.group.keep({2: 2}, "epoch")
    campaign.write({"parked": 1})
    assert not campaign.is_completed(counted=False)
    campaign.count({"parked": 1})
    assert not campaign.is_completed()
    campaign.write({"parked": -1, "failed:rejected": 1})
    campaign.count({"parked": -1, "failed:rejected": 1})
    assert campaign.is_completed()
    (summary,) = office.summaries()
    assert (summary["sent"], summary["failed"], summary["total"]) == (1, 1, 2)
    office.store.close(campaign.name, {2: 3})  # more were produced
    assert not campaign.is_completed()
    campaign.group.keep({2: 3}, "epoch")
    assert campaign.is_completed()
    assert len(office.summaries()) == 1


def test_a_summary_is_not_replaced_by_one_of_fewer(office: Office) -> None:
    """The counts have expired, and a late record begins new ones."""
    campaign = CheckedCampaign(office)
    office.store.close(campaign.name, {})
    for counts in ({"sent": 5}, {"sent": 1}, {"sent": 5}):
        campaign.write(counts)
        campaign.count(counts)
        assert campaign.is_completed()
        if counts["sent"] == 5 and len(office.summaries()) == 1:
            office.client.delete(keys.progress(*campaign.name))
    assert [summary["total"] for summary in office.summaries()] == [5, 6]


def test_as_many_as_expected_close_a_campaign_where_the_input_ends_then(office: Office) -> None:
    """More came than expected: they may be some of the expected ones, repeated."""
    harness, campaign = office.harness, CheckedCampaign(office)
    harness.produce([harness.event(n) for n in range(3)], partition=1)
    office.store.expect(campaign.name, 2)
    campaign.group.keep({1: 2}, "epoch")
    campaign.write({"sent": 2})
    campaign.count({"sent": 2})
    assert not campaign.is_completed()
    assert not campaign.is_completed()
    report = office.report()
    assert report is not None
    assert report.is_closed
    campaign.group.keep({1: 3}, "epoch")
    assert campaign.is_completed()


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
    office.store.close(CampaignName(office.harness.organization, "spring"), {})
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
        threading.Thread(
            target=Projector(office.settings, shared_consumer(office.settings)).run, args=(stop,)
        )
        for stop in stops
    )
    first.start()
    wait_until(
        lambda: lease.is_held(office.client, keys.progress_lease(harness.name)),
        30,
        "the first has the lease",
    )
    second.start()
    office.write({"sent": 6, "parked": 1})
    wait_until(lambda: shown("recipients", status="received") == 7, 30, "it is shown")
    operator.run("campaign", "close", operator.campaign, "--expected", "9")
    wait_until(lambda: shown("expected") == 9, 30, "so is what is expected")
    stops[0].set()
    first.join(30)
    office.write({"sent": 2})
    wait_until(lambda: shown("recipients", status="sent") == 8, 30, "the second goes on")
    stops[1].set()
    second.join(30)
    assert not lease.is_held(office.client, keys.progress_lease(harness.name))
    assert "not being counted" in operator.run("progress", operator.campaign).stderr


def test_a_worker_shows_no_counts_after_another_took_over_while_redis_was_gone(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness, add, is_gone = office.harness, Projection.add, threading.Event()
    labels = {"organization": harness.organization, "campaign": "spring", "status": "parked"}

    def parked() -> float | None:
        return REGISTRY.get_sample_value("streamer_campaign_recipients", labels)

    def failing(self: Projection, chunks: Mapping[Partition, Chunk]) -> None:
        if is_gone.is_set():
            office.client.set(keys.progress_lease(harness.name), "another's")
            raise RedisConnectionError
        add(self, chunks)

    monkeypatch.setattr(Projection, "add", failing)
    office.write({"parked": 1})
    with office.projecting():
        wait_until(lambda: parked() == 1, 30, "it is shown")
        is_gone.set()
        wait_until(lambda: parked() is None, 30, "it is not shown any more")


def test_counts_of_finished_campaigns_expire(office: Office) -> None:
    harness, client, store = office.harness, office.client, office.store
    name = CampaignName(harness.organization, "spring")
    generation = store.open().generation
    place = (harness.topics.progress, 0)

    def count(offset: int) -> None:
        share = Share(offset, offset + 1, CountDelta({"sent": 1}))
        store.apply(generation, [Update(place, name, share)])

    def life() -> object:
        store.sweep(3600)
        return client.ttl(keys.progress(*name))

    count(0)
    assert life() == -1
    client.hset(keys.campaign(*name), "state", "completed")
    assert life() == 3600
    count(1)
    assert client.ttl(keys.progress(*name)) == -1  # it changed
    assert life() == 3600
    client.hset(keys.campaign(*name), "state", "paused")
    assert life() == -1
    client.delete(keys.progress(*name), keys.progress_due(harness.organization))
    assert life() == -2
    assert list(store.campaigns()) == []
    assert not client.exists(keys.progress_organizations(harness.name))


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
    for name, snapshot in zip(wanted, store.snapshots(wanted), strict=True):
        assert snapshot.generation == generation
        words = {f"{s}:{r}".strip(":"): n for (s, r), n in snapshot.counts.resolutions.items()}
        parked = max(0, wanted[name].pop("parked", 0))
        assert (words, snapshot.counts.parked) == (wanted[name], parked)
