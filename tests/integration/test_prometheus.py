"""A real Prometheus watches three workers, well and in trouble: what its panels and alerts say."""

import json
import math
import random
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest
import urllib3
import yaml
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]  # public, yet not re-exported

from streamer.model.campaign import CampaignName
from streamer.model.feedback import flag_of
from streamer.progress.store import Store
from streamer.sandbox import DEFAULT_WEBHOOK_SECRET, AccountSpec, Faults, SandboxProcess
from streamer.stack import RedisServer, Stack
from streamer.stack.ports import free_port
from tests.integration.gateway.test_gateway import environment, events
from tests.kit.gateway import GatewayProcess
from tests.kit.harness import MESSAGE, SESSION_TIMEOUT_MS, Harness, WorkerProcess, wait_until
from tests.kit.operator import CommandRunner
from tests.kit.prometheus import PrometheusServer, Series
from tools.docs import ROOT

_ALERTS = yaml.safe_load((ROOT / "config" / "alerts.yml").read_text(encoding="utf-8"))
_NAMES = {rule["alert"] for rule in _ALERTS["groups"][0]["rules"]}
_DASHBOARDS = ROOT / "config" / "grafana" / "dashboards"
_WINDOW_S = 10
_LOOKS_S = 2
"""In this time Prometheus looks at each worker."""
_PATIENCE_S = 150.0
"""An outcome waits for those of the records before it in its partition, and there the slow account
has more and more."""
_SLOW_CALLS = 2

_CLEAN, _RETURNED = 1_200, 1_200
"""Recipients of the campaign that is all well, and of the one that comes back."""
_EXPECTED = 100_000
"""Recipients that the slow campaign never has, so that it is always under way."""
_BATCH = 10
_MISSED = 20
_SPRING = "spring"
_TIMES = {
    "CPU time of an iteration",
    "Finishing before a revoke",
    "Kafka transaction",
    "Redis: suppression check",
    "Redis: pin",
    "Call to Resend",
    "Kafka's acknowledgement",
}


class Panel(NamedTuple):
    """A panel as Grafana has it."""

    dashboard: str
    title: str
    queries: list[str]


def panels() -> Iterator[Panel]:
    """The panels of the committed dashboards."""
    for path in sorted(_DASHBOARDS.iterdir()):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            if panel["type"] != "row":
                queries = [target["expr"] for target in panel["targets"]]
                yield Panel(path.stem, panel["title"], queries)


@dataclass
class WatchedWorkers:
    """Workers, a gateway and Prometheus, and what was done to them at which times."""

    harness: Harness
    sandbox: SandboxProcess
    redis: RedisServer
    prometheus: PrometheusServer
    ports: list[int]
    workers: list[WorkerProcess] = field(default_factory=list)
    began: float = 0.0
    trouble: float = 0.0
    outage: float = 0.0
    stopped: float = 0.0

    @property
    def slow(self) -> str:
        """The organization whose account allows few calls."""
        return f"{self.harness.organization}-slow"

    @property
    def quota(self) -> str:
        """The organization whose account runs out of its quota."""
        return f"{self.harness.organization}-quota"

    def start_worker(self, number: int) -> None:
        """Start a worker, or start it again."""
        worker = self.harness.start_worker(
            number,
            STREAMER_METRICS__HOST="127.0.0.1",
            STREAMER_METRICS__PORT=str(self.ports[number] - number),
        )
        self.workers[number : number + 1] = [worker]

    def is_ready(self, number: int) -> bool:
        """Whether a worker works."""
        url = f"http://127.0.0.1:{self.ports[number]}/readyz"
        try:
            return urllib3.request("GET", url, retries=False, timeout=5.0).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def fired(self) -> set[str]:
        """The names of the alerts that fired so far."""
        return {name for name, *_ in self.prometheus.firing(self.began, time.time())}

    def await_alerts(self, *names: str) -> None:
        """Wait until these alerts fired."""
        wanted = set(names)
        deadline = time.monotonic() + _PATIENCE_S
        while missing := wanted - self.fired():
            assert time.monotonic() < deadline, f"silent: {missing}\n{self.words()}"
            time.sleep(0.5)

    def await_scrape(self, number: int) -> None:
        """Wait until Prometheus has just read what a worker has counted."""
        up = f'up{{instance="127.0.0.1:{self.ports[number]}"}}'
        scraped = f"timestamp({up}) > {time.time()} and {up} == 1"
        wait_until(
            lambda: self.prometheus.between(scraped, time.time(), time.time()),
            _PATIENCE_S,
            "Prometheus has scraped it",
        )

    def await_parked(self, number: int) -> None:
        """Wait until a worker has parked nothing for longer than a panel looks back: a rate shows
        less of what was counted shortly before its counter ends."""
        instance = f'instance="127.0.0.1:{self.ports[number]}"'
        still = f"sum(increase(streamer_parked_total{{{instance}}}[{_WINDOW_S}s])) == 0"
        wait_until(
            lambda: self.prometheus.between(still, time.time(), time.time()),
            _PATIENCE_S,
            "it has parked what it parks",
        )

    def words(self) -> str:
        """The ends of the workers' logs."""
        return "\n".join(worker.words()[-3_000:] for worker in self.workers)

    def asked(self, query: str, start: float, end: float) -> list[Series]:
        """Evaluate a panel's query as Grafana does.

        Its range begins before the first count: what was counted before the first look of a range
        is not in its increase.
        """
        given = {
            "$__rate_interval": f"{_WINDOW_S}s",
            "$__range": f"{math.ceil(end - self.began) + _LOOKS_S}s",
            "$organization": ".+",
            "$campaign": ".+",
        }
        for name, value in given.items():
            query = query.replace(name, value)
        return self.prometheus.between(query, start, end)


@pytest.fixture
def watched(
    stack: Stack, make_redis: Callable[[], RedisServer], tmp_path: Path
) -> Iterator[WatchedWorkers]:
    if not PrometheusServer.is_there():
        warnings.warn("prometheus is absent: the dashboards are not tested", stacklevel=1)
        pytest.skip("prometheus is absent (Debian: prometheus)")
    accounts = [
        AccountSpec(name="default", keys=("re_sandbox",), limit=None),
        AccountSpec(name="slow", keys=("re_slow",), limit=_SLOW_CALLS),
        AccountSpec(name="quota", keys=("re_quota",), limit=None),
    ]
    redis = make_redis()
    with ExitStack() as running:
        # Sooner than Resend, which waits for minutes after a second refusal, as of a busy machine.
        sandbox = running.enter_context(
            SandboxProcess(accounts=accounts, webhook_retries_s=[1.0] * 60)
        )
        harness = Harness(stack.bootstrap_servers, redis.url, sandbox, tmp_path)
        running.callback(harness.close)
        # Enough that all workers give one up to another member of their group.
        admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
        more = NewPartitions(harness.topics.recipients, 12)
        admin.create_partitions([more])[harness.topics.recipients].result(20)
        harness.settings |= {
            "STREAMER_PROGRESS__EMBEDDED": "true",
            "STREAMER_BATCH__SIZE": str(_BATCH),
            "STREAMER_BREAKER__CAMPAIGN_MAILS": "100",
            "STREAMER_BREAKER__COMPLAINT_SHARE": "1",
            "STREAMER_BREAKER__BOUNCE_SHARE": "1",
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_DELIVERY__SET_ASIDE_S": "2",
            "STREAMER_DELIVERY__GIVE_UP_S": "16",
        }
        for name in ("slow", "quota"):
            organization = f"{harness.organization}-{name}"
            harness.organizations.add(organization)
            harness.settings |= {
                f"STREAMER_ACCOUNTS__{name.upper()}__API_KEY_ENV": f"KEY_{name.upper()}",
                f"STREAMER_ACCOUNTS__{name.upper()}__ORGANIZATIONS": json.dumps([organization]),
                f"STREAMER_ACCOUNTS__{name.upper()}__REQUESTS_PER_SECOND": "1000",
                f"KEY_{name.upper()}": f"re_{name}",
            }
        gateway = running.enter_context(
            GatewayProcess(environment(harness, WEBHOOK_SECRET=DEFAULT_WEBHOOK_SECRET))
        )
        sandbox.send_webhooks(f"{gateway.url}/webhooks/default")
        ports = [free_port() for _ in range(3)]
        targets = {"streamer": ports, "streamer-gateway": [gateway.port]}
        prometheus = PrometheusServer(tmp_path / "prometheus", targets)
        running.callback(prometheus.stop)
        yield WatchedWorkers(harness, sandbox, redis, prometheus, ports)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_panels_and_alerts_say_what_is(watched: WatchedWorkers) -> None:
    _run_well(watched)
    assert watched.fired() == set()
    _run_into_trouble(watched)
    _lose_redis(watched)
    _recover(watched)
    settled = time.time()
    _stop(watched)
    watched.harness.assert_exactly_once(suppressed_too=False)
    _check_panels(watched, settled)
    _miss_records(watched)
    _check_alerts(watched)
    print(_table(watched))


def _run_well(watched: WatchedWorkers) -> None:
    """A campaign, to its end and that of its mails."""
    harness = watched.harness
    for number in range(3):
        watched.start_worker(number)
    wait_until(lambda: all(map(watched.is_ready, range(3))), _PATIENCE_S, "the workers are ready")
    watched.prometheus.start()
    # Before it reached them, none was up.
    everything = "min(up) == 1 and count(up) == 4 unless on () ALERTS"
    wait_until(
        lambda: watched.prometheus.between(everything, time.time() - 1, time.time()),
        _PATIENCE_S,
        "Prometheus reaches all",
    )
    watched.began = time.time()
    harness.produce(harness.event(n) for n in range(_CLEAN))
    _expect(harness, harness.organization, _CLEAN)
    harness.await_resolutions(_CLEAN)
    _await_agreement(watched)
    now, spring = time.time(), f"{_SPRING}/{harness.organization}"
    assert _at(watched, "Progress", now) == {spring: 1}
    assert _at(watched, "Recipients left", now) == {spring: 0}
    assert _at(watched, "Lag", now) == {"": 0}


def _run_into_trouble(watched: WatchedWorkers) -> None:
    """All that can go wrong at once, except for Redis."""
    harness, sandbox = watched.harness, watched.sandbox
    harness.limit_messages(harness.topics.outcomes, 150_000)
    sandbox.set_faults(
        Faults(
            bounced_percent=6,
            complained_percent=2,
            opened_percent=10,
            fail_addresses=frozenset({"poison@example.com"}),
        )
    )
    sandbox.set_faults(Faults(quota="daily"), account="quota")
    watched.trouble = time.time()
    harness.produce([b"no event", harness.event(1, campaign_id="unknown", message=None)])
    harness.produce(
        [harness.event(1, campaign_id="odd", email=random.Random(0).randbytes(100_000).hex())]
    )
    broken = {**MESSAGE, "subject": "{{ nobody }}"}
    harness.produce(harness.event(n, campaign_id="broken", message=broken) for n in range(400))
    harness.produce(harness.event(n, organization_id=watched.quota) for n in range(50))
    harness.produce(
        harness.event(n, campaign_id="poisoned", email=f"{'poison' if n == 5 else n}@example.com")
        for n in range(_BATCH)
    )
    harness.produce(harness.event(n, campaign_id="returned") for n in range(_RETURNED))
    _expect(harness, watched.slow, _EXPECTED)
    with _more_and_more(watched):
        with _coming_and_going(harness):
            watched.await_alerts("StreamerAccountHeld")
            sandbox.set_faults(Faults(quota="none"), account="quota")
            watched.await_parked(2)
            watched.await_scrape(2)  # what it counts later is lost
            watched.workers[2].kill()
            wait_until(
                lambda: watched.prometheus.between("min(up) == 0", time.time() - 2, time.time()),
                _PATIENCE_S,
                "Prometheus misses the worker",
            )
            watched.start_worker(2)
            wait_until(lambda: watched.is_ready(2), _PATIENCE_S, "it is back")
            watched.await_alerts("StreamerRebalances")
        watched.await_alerts("StreamerIndeterminate")
        sandbox.set_faults(Faults(hang_s=30), account="default")
        watched.await_alerts("StreamerOldestBatchAge")
        sandbox.set_faults(Faults(hang_s=0), account="default")
        watched.await_alerts(
            *_NAMES - {"StreamerNoWorkerUp", "StreamerLagNotShrinking", "StreamerRecordsMissed"}
        )


def _expect(harness: Harness, organization: str, recipients: int) -> None:
    store = Store(harness.redis, harness.name)
    store.expect(CampaignName(organization, _SPRING), recipients)


@contextmanager
def _more_and_more(watched: WatchedWorkers) -> Iterator[None]:
    """Twice as many recipients of the slow account as it can send to."""
    stop = threading.Event()
    harness = watched.harness

    def produce() -> None:
        number = 0
        while not stop.wait(0.25):
            more = range(number, number := number + _SLOW_CALLS * _BATCH // 2)
            harness.produce(harness.event(n, organization_id=watched.slow) for n in more)
            # What goes through tells a batch that fails alone from an outage.
            harness.produce(harness.event(n, campaign_id="steady") for n in more)

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@contextmanager
def _coming_and_going(harness: Harness) -> Iterator[None]:
    """A member of the workers' group that never stays, so that partitions move."""
    stop = threading.Event()
    properties = {
        "bootstrap.servers": harness.bootstrap_servers,
        "group.id": harness.name,
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": SESSION_TIMEOUT_MS,
        "heartbeat.interval.ms": 500,
        "enable.auto.commit": False,
        "log_level": 0,
    }

    def join() -> None:
        while not stop.is_set():
            with closing(Consumer(properties)) as member:
                member.subscribe([harness.topics.recipients])
                while not member.assignment() and not stop.is_set():
                    member.poll(0.1)
            stop.wait(1.0)  # until its partitions are the workers' again, who give them up again

    thread = threading.Thread(target=join)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def _lose_redis(watched: WatchedWorkers) -> None:
    watched.outage = time.time()
    watched.redis.kill()
    watched.await_alerts("StreamerLagNotShrinking")
    watched.redis.start()


def _recover(watched: WatchedWorkers) -> None:
    harness = watched.harness
    watched.sandbox.set_limit(1_000, account="slow")
    operator = CommandRunner.of_harness(harness)
    operator.run("campaign", "cancel", f"{harness.organization}/broken", "--yes")  # is paused
    harness.await_resolutions(len(harness.inputs()), 90)
    _await_agreement(watched)


def _stop(watched: WatchedWorkers) -> None:
    for worker in watched.workers:
        worker.process.terminate()
    watched.stopped = time.time()
    assert [worker.wait() for worker in watched.workers] == [0, 0, 0]
    watched.await_alerts("StreamerNoWorkerUp")


def _miss_records(watched: WatchedWorkers) -> None:
    """Kafka deletes records while no worker runs, and one begins behind them."""
    harness = watched.harness
    harness.produce((harness.event(n, campaign_id="missed") for n in range(_MISSED)), partition=0)
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    (deleted,) = admin.delete_records([TopicPartition(harness.topics.recipients, 0, -1)]).values()
    deleted.result(20)
    watched.start_worker(0)
    watched.await_alerts("StreamerRecordsMissed")
    (shown,) = _at(watched, "Records missed", time.time()).values()
    assert shown == _MISSED


# What the topics say


def _results(harness: Harness) -> dict[str, float]:
    """Each campaign's results by reason."""
    found = {}
    for name, counts in harness.progress().items():
        for word, count in counts.items():
            status, _, reason = word.partition(":")
            if status != "parked" and count:
                words = (name.campaign_id, name.organization, reason, status)
                found["/".join(filter(None, words))] = float(count)
    return found


def _recipients_by_event(harness: Harness) -> dict[str, float]:
    """Each campaign's recipients by what became of the mail."""
    recipients = {
        (f"{event.campaign_id}/{event.organization_id}/{word}", event.address)
        for event in events(harness)
        if (word := flag_of(event).word)
    }
    return {**Counter(key for key, _ in recipients)}


def _await_agreement(watched: WatchedWorkers) -> None:
    """Wait until panels say of campaigns what the topics say, to which nothing is added now."""
    wait_until(
        lambda: not watched.sandbox.stats().webhooks_pending, _PATIENCE_S, "webhooks are taken"
    )
    wanted = _results(watched.harness) | _recipients_by_event(watched.harness)
    deadline = time.monotonic() + _PATIENCE_S
    while differences := _differences(watched, wanted):
        assert time.monotonic() < deadline, differences
        time.sleep(0.5)
    while any((parked := _at(watched, "Parked", time.time())).values()):
        assert time.monotonic() < deadline, parked
        time.sleep(0.5)


def _differences(
    watched: WatchedWorkers, wanted: Mapping[str, float]
) -> dict[str, tuple[float | None, float | None]]:
    now = time.time()
    shown = _at(watched, "Results by reason", now) | _at(watched, "Recipients by event", now)
    # A worker that begins to count does not show campaigns that are complete.
    complete = f"{_SPRING}/{watched.harness.organization}/"
    return {
        key: (shown.get(key), wanted.get(key))
        for key in shown.keys() | wanted.keys()
        if shown.get(key, 0) != wanted.get(key, 0)
        and not (key.startswith(complete) and key not in shown and watched.trouble)
    }


# What the panels say


def _at(watched: WatchedWorkers, title: str, at: float) -> dict[str, float]:
    """The values of a panel's first query at a time, by its labels' values."""
    return {_key(series): [*series.values.values()][-1] for series in _of(watched, title, at, at)}


def _of(
    watched: WatchedWorkers, title: str, start: float, end: float, query: int = 0
) -> list[Series]:
    (panel,) = (each for each in panels() if each.title == title)
    return watched.asked(panel.queries[query], start, end)


def _key(series: Series) -> str:
    return "/".join(value for _, value in sorted(series.labels.items()))


def _causes(watched: WatchedWorkers) -> dict[str, float]:
    """When that began which each alert is for."""
    return dict.fromkeys(_NAMES, watched.trouble) | {
        "StreamerLagNotShrinking": watched.outage,
        "StreamerNoWorkerUp": watched.stopped,
        "StreamerRecordsMissed": watched.stopped,
    }


def _check_alerts(watched: WatchedWorkers) -> None:
    """Each alert fired after what it is for, and not before."""
    since = _causes(watched)
    labels: dict[str, list[Mapping[str, str]]] = {name: [] for name in _NAMES}
    for name, given, at in watched.prometheus.firing(watched.began, time.time()):
        assert at >= since[name] - 1, (name, at - since[name])
        labels[name].append(given)
    assert [name for name, given in labels.items() if not given] == []

    def told(alert: str, label: str) -> set[str]:
        return {given[label] for given in labels[alert]}

    assert told("StreamerAccountHeld", "account") == {"quota"}
    assert told("StreamerAccountHeld", "reason") == {"daily_quota_exceeded"}
    assert told("StreamerDeadLetters", "reason") == {"undecodable", "unknown_campaign"}
    assert told("StreamerIndeterminate", "reason") == {"provider_error"}
    assert told("StreamerEndingsRefused", "kind") == {"outcome"}
    assert told("StreamerThrottled", "account") >= {"slow"}
    assert told("StreamerCampaignStopped", "reason") == {"render_error"}
    assert told("StreamerComplaints", "campaign") >= {"returned"}
    assert told("StreamerBounces", "campaign") >= {"returned"}


def _check_panels(watched: WatchedWorkers, settled: float) -> None:
    """Where the topics tell what a panel has to show, it is right."""
    harness, end = watched.harness, time.time()
    statuses = harness.status_counts()
    sent = statuses["sent", None]
    calls = watched.sandbox.stats().calls
    taken = len(events(harness))

    def total(title: str, key: str | None = None, query: int = 0, per: float = 1) -> float:
        """What a panel of growth adds up to."""
        return sum(
            sum(v for v in series.values.values() if v == v) / per
            for series in _of(watched, title, watched.began, end, query)
            if key is None or _key(series) == key
        )

    def most(title: str, key: str = "") -> float:
        return max(
            value
            for series in _of(watched, title, watched.began, end)
            if key in _key(series)
            for value in series.values.values()
            if value == value  # not where nothing was measured
        )

    # What the killed worker counted last is lost.
    def roughly(count: float) -> object:
        return pytest.approx(count, rel=0.1, abs=1)

    assert _at(watched, "Workers up", settled) == {"": 3}
    assert _at(watched, "Workers up", end) == {"": 0}
    assert _at(watched, "Lag", settled) == {"": 0}
    assert _at(watched, "Sent", settled) == {"": roughly(sent)}
    assert _at(watched, "Indeterminate", settled) == {"": roughly(_BATCH)}
    assert _at(watched, "Dead letters", settled) == {"": roughly(2)}
    assert (most("Accounts held"), _at(watched, "Accounts held", settled)) == (1, {"": 0})
    assert most("Alerts") == 2

    assert total("Outcomes", "sent") == roughly(sent)
    assert total("Outcomes", "render_error/failed") == roughly(statuses["failed", "render_error"])
    assert total("Outcomes", "provider_error/indeterminate") == roughly(_BATCH)
    assert total("Calls and allowed calls") == roughly(calls)
    (allowed,) = (
        series
        for series in _of(watched, "Calls and allowed calls", watched.outage, watched.outage, 1)
        if series.labels["account"] == "slow"
    )
    assert [*allowed.values.values()] == [_SLOW_CALLS]
    assert total("Calls by result", "slow/accepted") > 0
    assert total("Calls by result", "quota/daily_quota_exceeded") > 0
    assert most("Waiting for the rate limit", "slow") > 1
    assert total("Records read") >= 0.9 * len(harness.inputs())
    assert 1 < most("Mails per call") <= _BATCH + 0.01
    assert most("Holds", "quota/daily_quota_exceeded") == 1
    parked = harness.ever_parked()
    assert total("Parked and returned") == roughly(parked)
    assert total("Parked and returned", query=1) == roughly(sum(harness.returned().values()))
    for reason in ("undecodable", "unknown_campaign"):
        assert total("Dead letters by reason", reason, per=_WINDOW_S) == roughly(1)
    assert total("Results rejected by Kafka", "outcome", per=_WINDOW_S) == roughly(1)
    assert total("Campaigns stopped", "render_error", per=_WINDOW_S) == roughly(1)
    assert most("Oldest batch") > 10
    assert most("State", "waiting_for_redis") == 1
    for panel in panels():
        if panel.title in _TIMES:
            assert 0 < most(panel.title) <= 30

    assert total("Requests to the gateway", "accepted/webhook") == roughly(taken)
    assert total("Events taken by the gateway", "delivered") > sent * 0.9
    assert total("Events applied") >= 0.9 * taken

    slow, returned = f"{_SPRING}/{watched.slow}", f"returned/{harness.organization}"
    ended = sum(count for key, count in _results(harness).items() if key.startswith(slow))
    assert _at(watched, "Progress", settled)[slow] == ended / _EXPECTED
    assert _at(watched, "Recipients left", settled)[slow] == _EXPECTED - ended
    assert total("Rate", slow) == pytest.approx(ended, rel=0.2)
    (left,) = (
        series
        for series in _of(watched, "Time left", watched.trouble, watched.outage)
        if _key(series) == slow
    )
    # At about 20 a second.
    assert 1_000 < [*left.values.values()][-1] < 20_000
    assert _at(watched, "Received and expected", settled)[slow] == ended
    assert 0 < most("Parked", f"{_SPRING}/{watched.quota}") <= 50
    assert set(_at(watched, "Parked", settled).values()) == {0}
    came_back = {
        key.rpartition("/")[2]: count
        for key, count in _recipients_by_event(harness).items()
        if key.startswith(returned)
    }
    arrived = came_back["delivered"] + came_back["bounced_permanent"]
    assert _at(watched, "Complaints", settled)[returned] == came_back["complained"] / arrived
    assert _at(watched, "Bounces", settled)[returned] == came_back["bounced_permanent"] / arrived


def _table(watched: WatchedWorkers) -> str:
    """What each panel had, which is something, and how long after its cause each alert fired."""
    lines, end = [], time.time()
    for panel in panels():
        for query in panel.queries:
            found = watched.asked(query, watched.began, end)
            values = [v for series in found for v in series.values.values() if v == v]
            assert values, f"{panel.title} is empty: {query}"
            lines.append(
                f"{panel.dashboard:9} {panel.title:28} {len(found):3} series  "
                f"{min(values):.4g} to {max(values):.4g}"
            )
    first: dict[str, float] = {}
    for name, _, at in watched.prometheus.firing(watched.began, end):
        first[name] = min(at, first.get(name, at))
    causes = _causes(watched)
    lines += [f"alert     {name:28} after {first[name] - causes[name]:.0f} s" for name in first]
    return "\n".join(["", *lines])
