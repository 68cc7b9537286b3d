"""A lane runs laps one after another: a harness, a worker behind proxies, and the checks."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from threading import Thread
from typing import NamedTuple, TypeVar

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer.kafka.headers import header_list
from streamer.ledger import campaigns, claim_reader
from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, parse
from streamer.model.record import RecordId
from streamer.progress.report import Reporter
from streamer.progress.store import Store
from streamer.sandbox import Faults, SandboxProcess
from streamer.stack import Stack
from tests.faults.counted import await_counts
from tests.faults.feedback import Courier, LapFeedback
from tests.faults.scenes import (
    CLOSED,
    CONFLICT,
    OWN,
    REJECTED,
    REJECTED_DOMAIN,
    SENT,
    TWIN,
    EventsFrom,
    Scene,
    Word,
    job,
    organizations,
)
from tests.kit import http_proxy, redis_proxy
from tests.kit.exactly_once import (
    Evidence,
    Input,
    ResolvedRecord,
    assert_exactly_once,
    read_dead_letter,
    read_outcome,
)
from tests.kit.harness import Harness, WorkerProcess
from tests.kit.http_proxy import HttpProxy
from tests.kit.kafka_faults import KafkaReferee
from tests.kit.points import Point, Script
from tests.kit.redis_proxy import FROZEN_S, RedisProxy

_SESSION_MS = 2_000
_LAP_S = 45.0
_PAUSED_S = 1.0
_LATE_POINTS_S = 10.0
_COUNTS_S = 20.0
_LAST_LINES = 14
_MARGIN_S = 0.1
_LOADING = "SCRIPT"
"""Scripts are loaded once in a server's life, so for its points they are forgotten first."""
_SETTINGS = {
    "STREAMER_BATCH__SIZE": "5",
    # Low enough that the exact time at which a call is sent matters.
    "STREAMER_ACCOUNTS__DEFAULT__REQUESTS_PER_SECOND": "90",
    "STREAMER_BATCH__LINGER_MS": "100",
    "STREAMER_DELIVERY__TIMEOUT_S": str(http_proxy.CLIENT_WAITS_S),
    "STREAMER_DELIVERY__HOLD_PROBE_S": "0.3",
    "STREAMER_DELIVERY__SET_ASIDE_S": "5",
    "STREAMER_DELIVERY__GIVE_UP_S": "120",
    "STREAMER_PROGRESS__EMBEDDED": "true",
    "STREAMER_KAFKA__PROPERTIES": orjson.dumps(
        {"session.timeout.ms": _SESSION_MS, "heartbeat.interval.ms": 300}
    ).decode(),
}

T = TypeVar("T")


class LapResult(NamedTuple):
    """The result of a lap.

    Attributes:
        reached: whether the fault's point was reached.
        broken: the violations; empty if every guarantee was kept.
        seen: the calls, in order.
    """

    reached: bool
    broken: str
    seen: list[Point]


class Broken(AssertionError):  # noqa: N818 - a finding, not an error of the test
    """A lap did not end as expected; the message says how."""


class _ProducedRecord(NamedTuple):
    """A record of a lap and its permitted results."""

    record: Input
    words: frozenset[Word]


class _Watcher:
    """Reads resolutions as they are committed."""

    def __init__(self, harness: Harness) -> None:
        self._outcomes = harness.topics.outcomes
        self.resolutions: list[ResolvedRecord] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": harness.bootstrap_servers,
                "group.id": "watcher",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [
                TopicPartition(name, partition, 0)
                for name in (harness.topics.outcomes, harness.topics.dead_letters)
                for partition in self._consumer.list_topics(name, 10).topics[name].partitions
            ]
        )

    def poll(self) -> None:
        """Read the resolutions that have arrived."""
        for message in self._consumer.consume(1000, 0.05):
            if message.error() is not None:
                continue
            if message.topic() == self._outcomes:
                self.resolutions.append(read_outcome(message.value() or b""))
            else:
                self.resolutions.append(read_dead_letter(header_list(message) or []))

    def close(self) -> None:
        self._consumer.close()


class Lane:
    """Runs laps in its own environment. Not thread-safe.

    Args:
        number: the lane's number, and that of the Redis database reserved for it.
        folder: the folder for logs.
        window_s: the safe window, after which no call may be sent.
        redis_waits_s: the worker's timeout for Redis replies.
    """

    def __init__(
        self,
        number: int,
        stack: Stack,
        folder: Path,
        window_s: int = 82_800,
        redis_waits_s: float = redis_proxy.CLIENT_WAITS_S,
    ) -> None:
        self._window_s = window_s
        self._redis_waits_s = redis_waits_s
        self._number = number
        self._stack = stack
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name=f"lane-{number}", daemon=True)
        self._thread.start()
        self._open()

    def _open(self) -> None:
        redis_url = f"{self._stack.redis_url.rpartition('/')[0]}/{self._number}"
        self._sandbox = SandboxProcess(
            limit=None,
            keep_mails=0,
            faults=Faults(reject_addresses=frozenset({f"@{REJECTED_DOMAIN}"})),
        )
        self._sandbox.start()
        self._harness = Harness(
            self._stack.bootstrap_servers, redis_url, self._sandbox, self._folder, partitions=2
        )
        self._harness.settings |= _SETTINGS
        self._harness.settings["STREAMER_DELIVERY__SAFE_WINDOW_S"] = str(self._window_s)
        self._arrivals: list[tuple[str, float]] = []
        """The idempotency key and arrival time, in Unix seconds, of each call."""
        self._script = Script()
        self._redis = RedisProxy(self._stack.redis.port, self._script)
        self._http = HttpProxy(
            int(self._sandbox.url.rpartition(":")[2]),
            self._script,
            lambda key: self._arrivals.append((key, time.time())),
        )
        self._referee = KafkaReferee(self._script)
        for proxy in (self._redis, self._http, self._referee):
            self._call(proxy.start())
        self._producer = Producer(
            {"bootstrap.servers": self._stack.bootstrap_servers, "linger.ms": 0, "log_level": 0}
        )
        self._watcher = _Watcher(self._harness)
        self._given: list[_ProducedRecord] = []
        self._labels: dict[str, str] = {}
        self._in_flight = 1
        self._worker: WorkerProcess | None = None
        self._standby: WorkerProcess | None = None
        self._ends: list[int] = []
        """The exit codes of this lap's ended workers."""
        self._feedback: list[LapFeedback] = []
        """Of all laps that had events."""
        self._courier: Courier | None = None

    def _call(self, work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def laps(self) -> int:
        """The number of laps since the lane was created or renewed."""
        return len(self._labels)

    def lap(self, scene: Scene, point: Point | None = None, fault: str = "") -> LapResult:
        """Run the scene's job with the fault at the point, and check the result.

        After a lap with wrong results the lane is renewed.
        """
        name = f"{self._harness.name}-{self.laps}"
        self._labels[name] = f"{scene.name}:{point} {fault}"
        armed = dict(scene.companions)
        if point is not None:
            armed[point] = fault
        self._ends = []
        self._arrivals.clear()
        try:
            self._prepare(scene)
            if point is not None and point.name == _LOADING:
                self._harness.redis.script_flush()
            self._script.begin(armed)
            given = self._give(name, scene, fault)
            self._give_events(name, scene, given)
            self._run(given, scene, name, point, fault)
            reached = point is None or self._script.fired(point)
            seen = self._script.seen()
            self._check(given, name)
            self._check_gateways(fault)
        except AssertionError as error:
            broken = f"{error}\n{self._last_words()}"
            self._close()
            self._open()
            return LapResult(True, broken, [])
        try:
            self._check_ends(fault)
            if fault.startswith("freeze"):
                # It may have frozen only when the lap was over, and could not end then; and it may
                # learn only now that it is fenced. Neither is a matter of the next lap.
                self._script.wake()
                self._stop_worker(may_be_fenced=True)
        except Broken as error:
            return LapResult(True, f"{error}\n{self._last_words()}", seen)
        return LapResult(reached, "", seen)

    def finish(self) -> str:
        """Check the harness as a whole and renew the lane.

        Covers effects of laps on each other, the progress counts, and the worker's clean exit.

        Returns:
            The violations, with the laps that they name; empty if there are none.
        """
        broken = ""
        try:
            if self._worker is not None:
                self._check_harness(self._worker)
        except AssertionError as error:
            laps = [
                f"{name}: {label}" for name, label in self._labels.items() if name in str(error)
            ]
            broken = "\n".join([str(error), *laps, self._last_words()])
        self._close()
        self._open()
        return broken

    def close(self) -> None:
        """Stop the worker, the sandbox, the proxies and the thread."""
        self._close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _close(self) -> None:
        if self._courier is not None:
            self._courier.close()
        self._watcher.close()
        self._harness.close()
        self._sandbox.stop()
        for proxy in (self._redis, self._http, self._referee):
            self._call(proxy.stop())

    # Running a lap

    def _prepare(self, scene: Scene) -> None:
        """Ensure a worker that has joined its group, or none if the lap starts it."""
        self._script.begin({})
        if scene.restarts:
            self._stop_worker()
            return
        if self._in_flight != scene.in_flight:
            self._stop_worker()
        self._in_flight = scene.in_flight
        if self._worker is None:
            self._worker = self._start_worker()
        self._await_joined(self._worker)
        self._script.pid = self._worker.process.pid  # after a lap with a gateway

    def _await_joined(self, worker: WorkerProcess) -> None:
        deadline = time.monotonic() + _LAP_S
        while "partitions assigned" not in worker.words():
            _insist(worker.alive, "the worker ended before it joined")
            _insist(time.monotonic() < deadline, "the worker does not join")
            time.sleep(0.05)

    def _stop_worker(self, *, may_be_fenced: bool = False) -> None:
        if self._worker is not None:
            code = self._worker.stop()
            self._worker = None
            before = [*self._labels.values()][-2:-1]
            words = f"the worker's end before the lap, after {before}: exit code {code}"
            # A replacement that is still starting has no signal handler yet.
            _insist(code in (0, -signal.SIGTERM, int(may_be_fenced)), words)

    def _start_worker(self) -> WorkerProcess:
        redis_url = f"redis://127.0.0.1:{self._redis.port}/{self._number}"
        worker = self._harness.start_worker(
            0,
            command=("-m", "tests.faults.worker", "0", str(self._referee.port)),
            STREAMER_REDIS__URL=f"{redis_url}?socket_timeout={self._redis_waits_s}",
            RESEND_API_URL=self._http.url,
            STREAMER_BATCH__MAX_IN_FLIGHT=str(self._in_flight),
        )
        self._script.pid = worker.process.pid
        return worker

    def _give(self, name: str, scene: Scene, fault: str) -> list[_ProducedRecord]:
        """Write the lap's records."""
        lap = job(name)
        first, second = organizations(name)
        campaigns.create(self._harness.redis, lap.definition)
        self._harness.redis.sadd(f"{{{first}}}:suppressed", *lap.suppressed)
        if scene.pauses:
            campaigns.pause(self._harness.redis, first, "defined")
        found: list[_ProducedRecord] = []
        for number, given in enumerate(lap.records):
            if isinstance(given.value, bytes):
                value, of_second = given.value, False
            else:
                value = orjson.dumps(given.value)
                of_second = given.value["organization_id"] == second
            words = given.words.union(*(self._more_words(word, fault) for word in given.words))

            def delivered(
                error: KafkaError | None, message: Message, words: frozenset[Word] = words
            ) -> None:
                if error is not None:
                    raise KafkaException(error)
                found.append(_ProducedRecord(Input(_record_id(message), message.value()), words))

            # Batching depends on record order: keep an organization's records in one partition.
            self._producer.produce(
                self._harness.topics.recipients,
                value,
                str(number),
                int(of_second),
                on_delivery=delivered,
            )
        self._producer.flush(30)
        _insist(len(found) == len(lap.records), "the records were not produced")
        self._given += found
        return found

    def _give_events(self, name: str, scene: Scene, given: list[_ProducedRecord]) -> None:
        """Write events of the lap's mails, or have them posted to a gateway."""
        self._courier = None
        if scene.events is None:
            return
        campaign = CampaignName(organizations(name)[0], OWN)
        source = next(each.record.record_id for each in given if _is_of(each, campaign))
        feedback = LapFeedback(name, campaign, source)
        self._feedback.append(feedback)
        if scene.events is EventsFrom.GATEWAY:
            environment = self._harness.environment()
            self._courier = Courier(environment, self._referee.port, self._script, feedback.given)
            return
        for each in feedback.given:
            event = each.event(self._harness.topics.recipients)
            self._producer.produce(self._harness.topics.events, event.value, event.key)
        _insist(self._producer.flush(30) == 0, "the events were not produced")

    def _run(
        self, given: list[_ProducedRecord], scene: Scene, name: str, point: Point | None, fault: str
    ) -> None:
        """Run until all records are resolved, the point was reached, and no worker is frozen."""
        left = {each.record.record_id for each in given}
        began = time.monotonic()
        ended_at: float | None = None
        is_paused = scene.pauses
        while True:
            self._tend()
            self._watcher.poll()
            now = time.monotonic()
            left -= {resolution.source for resolution in self._watcher.resolutions}
            if is_paused and now > began + _PAUSED_S:
                campaigns.resume(self._harness.redis, organizations(name)[0], "defined")
                is_paused = False
            is_dying = fault.startswith("death") and not self._ended()
            if not left and self._is_quiet() and not self._missing_events():
                ended_at = ended_at or now
                fired = point is None or self._script.fired(point)
                if (fired and not is_dying) or now > ended_at + _LATE_POINTS_S:
                    break
            late = f"{len(left)} have no ending after {_LAP_S:.0f} s; {self._missing_events()}"
            _insist(now < began + _LAP_S, late)
        if self._standby is not None:
            standby, self._standby = self._standby, None
            code = standby.stop()
            # A standby that is still starting has no signal handler yet.
            _insist(code in (0, -signal.SIGTERM), f"the standby's end: exit code {code}")

    def _missing_events(self) -> str:
        """Return which events of the last lap that had some have not been applied; empty if all."""
        if self._courier is not None and not self._courier.is_done:
            return f"not all events are acknowledged: {self._courier.statuses}"
        return self._feedback[-1].missing(self._harness.redis) if self._feedback else ""

    def _ended(self) -> list[int]:
        return self._ends if self._courier is None else self._courier.ends

    def _is_quiet(self) -> bool:
        lives = self._worker is not None and self._worker.alive
        return lives and self._script.frozen_at is None

    def _tend(self) -> None:
        """Replace a dead worker, and wake one that has been frozen for `FROZEN_S`."""
        frozen_at = self._script.frozen_at
        if self._courier is not None:
            self._courier.tend()
        elif frozen_at is not None:
            if self._standby is None:
                command = ("-m", "tests.faults.worker", "1", "0")
                self._standby = self._harness.start_worker(1, command=command)
            if time.monotonic() >= frozen_at + FROZEN_S:
                self._script.wake()
        elif self._worker is None or not self._worker.alive:
            if self._worker is not None:
                self._ends.append(self._worker.process.returncode)
            self._worker = self._start_worker()

    # Checking

    def _check(self, given: list[_ProducedRecord], name: str) -> None:
        sources = {each.record.record_id for each in given}
        resolutions = [
            resolution for resolution in self._watcher.resolutions if resolution.source in sources
        ]
        mine = organizations(name)
        assert_exactly_once(
            Evidence(
                [each.record for each in given],
                resolutions,
                [a for a in self._sandbox.acceptances() if a.organization in mine],
                self._sandbox.stats(),
                {},
                frozenset({(mine[0], f"s0@{name}.test")}),
            )
        )
        by_source = {ending.source: ending for ending in resolutions}
        for record, words in given:
            ending = by_source[record.record_id]
            _insist((ending.status, ending.reason) in words, f"should be {[*words]}: {ending}")
        twins = [e for e in resolutions if e.address == f"{TWIN}@{name}.test"]
        first = any(ending.reason != "duplicate" for ending in twins)
        _insist(first, f"each is the duplicate of the other: {twins}")

        self._check_window(mine)

    def _check_window(self, mine: tuple[str, str]) -> None:
        """Assert that no call was sent after its batch's safe window."""
        for key, arrived in self._arrivals:
            batch_id = key.partition(".")[0]
            for organization in mine:
                batch = claim_reader.find_batch(self._harness.redis, organization, batch_id)
                if batch is not None and batch.pinned_at is not None:
                    age_s = arrived - batch.pinned_at.timestamp()
                    late = f"{key} was called {age_s:.2f} s after its pin"
                    _insist(age_s <= self._window_s + _MARGIN_S, late)

    def _more_words(self, word: Word, fault: str) -> set[Word]:
        """Return further permitted results, given the fault's response and the safe window."""
        if word not in (SENT, REJECTED):
            return set()
        canned = http_proxy.ANSWERS.get(fault)
        more = {CLOSED} if self._window_s < _LAP_S else set()
        if canned is not None and canned.may_fail:
            more.add(REJECTED)
        if canned is not None and canned.is_conflict:
            more.add(CONFLICT)
        return more

    def _check_ends(self, fault: str) -> None:
        """Assert that workers only ended if killed, or fenced after having been frozen."""
        allowed = {-int(signal.SIGKILL)} if fault.startswith("death") else set()
        if fault.startswith("freeze"):
            allowed.add(1)
        wrong = [code for code in self._ends if code not in allowed]
        _insist(not wrong, f"the worker ended by itself: exit codes {wrong}")

    def _check_gateways(self, fault: str) -> None:
        """Assert that gateways only ended if killed, or when they were stopped."""
        if self._courier is None:
            return
        self._courier.close()
        allowed = {0, -int(signal.SIGKILL)} if fault.startswith("death") else {0}
        wrong = [code for code in self._courier.ends if code not in allowed]
        _insist(not wrong, f"the gateway ended by itself: exit codes {wrong}")

    def _check_harness(self, worker: WorkerProcess) -> None:
        self._script.begin({})
        self._await_joined(worker)  # or a stop may come before it can be in good order
        reporter = Reporter(self._harness.redis, Store(self._harness.redis, self._harness.name))
        inputs = [given.record for given in self._given]
        await_counts(reporter.report, inputs, self._watcher.resolutions, _COUNTS_S)
        for feedback in self._feedback:
            # Nothing was counted again since.
            _insist(
                not feedback.missing(self._harness.redis), feedback.missing(self._harness.redis)
            )
        code = worker.stop()
        _insist(code == 0, f"the worker's end: exit code {code}")
        self._harness.organizations = {o for lap in self._labels for o in organizations(lap)}
        self._harness.assert_exactly_once()

    def _last_words(self) -> str:
        """Return the last log lines of this lap's workers."""
        words = ""
        count = 1 + len(self._ends) + (self._standby is not None)
        latest = self._harness.workers[-count:]
        # It may have been started many laps ago.
        if self._worker is not None and self._worker not in latest:
            latest = [self._worker, *latest]
        for worker in latest:
            lines = worker.words().splitlines()[-_LAST_LINES:]
            words += f"  {worker.log.name}\n" + "".join(f"    {line[:300]}\n" for line in lines)
        return words


def _insist(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Broken(otherwise)


def _is_of(given: _ProducedRecord, name: CampaignName) -> bool:
    try:
        event = parse(given.record.value)
    except DeadEventError:
        return False
    return (event.organization_id, event.campaign_id) == name


def _record_id(message: Message) -> RecordId:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return RecordId(topic, partition, offset)
