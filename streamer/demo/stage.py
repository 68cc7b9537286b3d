"""Running one act, and watching its results."""

import time
from dataclasses import dataclass, field
from typing import Self, cast

import orjson
import urllib3
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from streamer.demo.acts import (
    ORGANIZATION,
    Act,
    address,
    definition,
    event,
    suppressed,
    unsubscribing,
)
from streamer.demo.histogram import Buckets, quantile
from streamer.demo.reports import ActReport, Resolutions, Source, report
from streamer.demo.screen import Screen
from streamer.demo.workers import UNSUBSCRIBE_SECRET, Workers
from streamer.errors import StreamerError
from streamer.kafka.properties import Properties
from streamer.ledger import campaigns, keys, suppression
from streamer.ledger.connection import connect
from streamer.ledger.mail_events import read_event_counts
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.wire import SOURCE_OFFSET, SOURCE_PARTITION
from streamer.sandbox import SandboxProcess
from streamer.settings import RedisSettings, TopicSettings
from streamer.stack import Stack

PARTITIONS = 8

_READY_S = 60.0
_ACT_S = 120.0
_FLUSH_S = 30.0
_KILL_AT = 0.4
_LOOK_S = 0.05
_LOOK_AT_SANDBOX_S = 0.25
_APPLIED_S = 60.0
_SILENCE_S = 1.0
"""Without running workers, no more results are expected after this long without one."""


class DemoError(StreamerError):
    """The demo could not be completed; the message says why."""


class DemoInterruptedError(Exception):
    """The demo was interrupted."""


@dataclass(slots=True)
class _Played:
    """An act and its results so far."""

    act: Act
    calls_before: int
    gone: set[str]
    checks: Buckets = field(default_factory=Buckets)
    inputs: set[Source] = field(default_factory=set)
    resolutions: Resolutions = field(default_factory=Resolutions)
    seconds: float = 0.0
    killed: int = 0
    calls_after: int = 0
    problems: list[str] = field(default_factory=list)


class Stage:
    """Runs acts, with clients of the stack and the sandbox."""

    def __init__(
        self,
        stack: Stack,
        sandbox: SandboxProcess,
        names: TopicSettings,
        screen: Screen,
        gateway_url: str,
    ) -> None:
        self._gateway_url = gateway_url
        self._sandbox = sandbox
        self._topics = names
        self._screen = screen
        self._played: list[_Played] = []
        self._redis = connect(RedisSettings(url=stack.redis_url))
        quiet: Properties = {"bootstrap.servers": stack.bootstrap_servers, "log_level": 0}
        self._producer = Producer({**quiet, "linger.ms": 10})
        self._consumer = Consumer(
            {
                **quiet,
                "group.id": "streamer-demo",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._consumer.assign(
            [
                TopicPartition(topic, partition, 0)
                for topic in (names.outcomes, names.dead_letters)
                for partition in range(PARTITIONS)
            ]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
        self._redis.close()

    def play(self, act: Act, workers: Workers) -> bool:
        """Produce the act's campaign, and wait until every record has a result.

        Returns:
            Whether all have one; if not, the act's report says so.

        Raises:
            DemoError: the records cannot be produced.
            DemoInterruptedError: the demo was interrupted.
        """
        campaigns.create(self._redis, definition(act))
        suppression.add(self._redis, ORGANIZATION, suppressed(act))
        gone = self._let_go(act.again) if act.again is not None else set()
        checks_before = workers.suppression_checks()
        played = _Played(act, self._sandbox.stats().calls, gone)
        self._played.append(played)
        self._screen.begin(act)
        started = time.monotonic()
        self._produce(played)
        all_ended = self._watch(played, workers, started)
        if played.killed and not workers.await_ready(_READY_S, lambda: self._screen.leaves):
            if self._screen.leaves:
                raise DemoInterruptedError
            played.problems.append("the killed worker was not restarted")
        played.checks = workers.suppression_checks()
        played.checks.subtract(checks_before)
        # Nothing is in flight now, unless there is a bug; later calls then count for this act.
        played.calls_after = self._sandbox.stats().calls
        if not all_ended:
            state = "are still running" if workers.alive else "have ended"
            played.problems.append(
                f"after {played.seconds:.0f} s the workers {state}; end of their log:\n"
                f"{workers.last_words()}"
            )
        return all_ended

    def _let_go(self, act: Act) -> set[str]:
        """Let readers of an earlier act unsubscribe by one click, and wait for what bounced.

        Returns:
            The addresses that must not be mailed again.

        Raises:
            DemoError: not all of that was applied in time.
        """
        links = UnsubscribeLinks(f"{self._gateway_url}/u", [UNSUBSCRIBE_SECRET.encode()])
        before = {*suppressed(act)}
        leaving = [each for each in unsubscribing(act) if each not in before]
        for each in leaving:
            url = links.url(ORGANIZATION, act.campaign_id, each)
            answer = urllib3.request("POST", url, body=b"List-Unsubscribe=One-Click", timeout=10.0)
            if answer.status != 200:
                raise DemoError(f"the gateway answers {answer.status}")
        mailed = act.recipients - len(before)
        deadline = time.monotonic() + _APPLIED_S
        while True:
            key = keys.event_counts(ORGANIZATION, act.campaign_id)
            fields = cast(dict[bytes, bytes], self._redis.hgetall(key))
            counts = read_event_counts([word for pair in fields.items() for word in pair])
            bounced = counts.get("bounced_permanent", 0)
            if counts.get("delivered", 0) + bounced >= mailed and counts.get(
                "unsubscribed", 0
            ) >= len(leaving):
                break
            if self._screen.leaves:
                raise DemoInterruptedError
            if time.monotonic() > deadline:
                raise DemoError(f"after {_APPLIED_S:.0f} s only {counts} are applied")
            time.sleep(_LOOK_S)
        self._screen.say(
            f"act {act.name}: {bounced} mails bounced, {len(leaving)} readers unsubscribe; the "
            f"next campaign leaves them out"
        )
        self._sandbox.send_webhooks(None)  # nothing follows from those of the last act
        readers = [address(act, number) for number in range(act.recipients)]
        is_in = suppression.check(self._redis, ORGANIZATION, readers)
        return {each for each, found in zip(readers, is_in, strict=True) if found} - before

    def reports(self) -> list[ActReport]:
        """Return a report for each act; call it after the workers have stopped."""
        silent_since = time.monotonic()
        while time.monotonic() - silent_since < _SILENCE_S:
            if self._read(self._played[-1]):
                silent_since = time.monotonic()
        acceptances = self._sandbox.acceptances()
        calls = self._sandbox.calls()
        return [
            report(
                each.act,
                each.resolutions,
                each.inputs,
                [one for one in acceptances if one.campaign == each.act.campaign_id],
                calls[each.calls_before : each.calls_after],
                each.seconds,
                quantile(each.checks, 0.99) * 1000,
                each.killed,
                each.problems,
                each.gone,
            )
            for each in self._played
        ]

    def _watch(self, played: _Played, workers: Workers, started: float) -> bool:
        act, resolutions = played.act, played.resolutions
        next_look = 0.0
        while True:
            self._read(played)
            now = time.monotonic()
            played.seconds = now - started
            all_ended = resolutions.sources.keys() >= played.inputs
            if all_ended or now >= next_look:
                next_look = now + _LOOK_AT_SANDBOX_S
                calls = self._sandbox.stats().calls - played.calls_before
                self._screen.see(act, played.seconds, resolutions, calls)
            if all_ended:
                return True
            if self._screen.leaves:
                raise DemoInterruptedError
            if act.kill and not played.killed and resolutions.ended >= act.recipients * _KILL_AT:
                pid = workers.kill_one()
                if pid is not None:
                    played.killed += 1
                    self._screen.say(
                        f"act {act.name}: kill -9 {pid} (one of the workers); "
                        f"the supervisor restarts it"
                    )
            if not workers.alive or played.seconds > _ACT_S:
                return False

    def _produce(self, played: _Played) -> None:
        act = played.act

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                played.inputs.add((message.partition() or 0, message.offset() or 0))

        for number in range(act.recipients):
            self._producer.produce(
                self._topics.recipients, event(act, number), f"r-{number}", on_delivery=delivered
            )
            self._producer.poll(0)
        self._producer.flush(_FLUSH_S)
        if len(played.inputs) != act.recipients:
            raise DemoError(
                f"only {len(played.inputs)} of {act.recipients} records could be produced"
            )

    def _read(self, current: _Played) -> bool:
        """Count newly committed results; return whether there were any.

        A late result of an earlier act counts for that act, where it is one too many. A result of
        an unknown record counts for the current act.
        """
        messages = self._consumer.consume(500, _LOOK_S)
        for message in messages:
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            if message.topic() == self._topics.outcomes:
                outcome = orjson.loads(message.value() or b"")
                source = (outcome["source"]["partition"], outcome["source"]["offset"])
                self._resolutions(source, current).outcome(
                    source, outcome["status"], outcome["email_id"]
                )
            else:
                headers = dict(message.headers() or [])
                source = (
                    int(headers[SOURCE_PARTITION] or b""),
                    int(headers[SOURCE_OFFSET] or b""),
                )
                self._resolutions(source, current).dead_letter(source)
        return bool(messages)

    def _resolutions(self, source: Source, current: _Played) -> Resolutions:
        owners = (played for played in self._played if source in played.inputs)
        return next(owners, current).resolutions
