"""Applying the events: suppression, counts, and the pause of campaigns that do harm."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streamer import metrics
from streamer.errors import StreamerError
from streamer.feedback.campaigns import CampaignFinder, events_properties
from streamer.feedback.guard import excess
from streamer.feedback.troubles import account_trouble
from streamer.kafka.error_log import cause_of
from streamer.kafka.on_demand import OnDemand
from streamer.kafka.reading import PartitionReader, ReadError, is_permanent
from streamer.kafka.shared import WAIT_S, SharedConsumer
from streamer.ledger import campaigns, keys
from streamer.ledger.connection import REDIS_ERRORS, Client, connect
from streamer.ledger.holds import By, Hold, Holds
from streamer.ledger.lease import Lease
from streamer.ledger.mail_events import MailEvents, SuppressingEvent
from streamer.logs import LastingProblem, client_logger
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import Feedback, why_of
from streamer.model.mail_event import UnreadableEventError, read_event
from streamer.model.published import PublishedMailEvent
from streamer.settings import Settings

logger = logging.getLogger(__name__)

_PORTION = 500
_LOOK_FOR_PARTITIONS_EVERY_S = 60.0
_LEASE_WAIT_S = 2.0
_RETRY_S = 2.0
_HOPELESS_RETRY_S = 60.0
_TIMEOUT_S = 10.0
_DAY_S = 86_400


class EventsError(StreamerError):
    """The topic of events cannot be read; the message says why and how to fix it."""


class AppliedEvent(NamedTuple):
    """An event of a campaign that is known, to a valid address."""

    name: CampaignName
    address: str
    event: PublishedMailEvent


class Application:
    """Applies events. To apply one again changes nothing."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._breaker = settings.breaker
        self._client = client
        self._effects = MailEvents(client, round(settings.progress.keep_days * _DAY_S))
        self._finder = CampaignFinder(settings, client)
        self._holds = Holds(client)

    def apply(self, values: Iterable[bytes | None]) -> None:
        """Apply events, given as the values of their records.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used; apply them again.
            ReadError, KafkaException: Kafka cannot be used; apply them again.
        """
        found = [applied for value in values if (applied := self._read(value)) is not None]
        self._suppress(found)
        self._hold(found)
        self._count(found)

    def _read(self, value: bytes | None) -> AppliedEvent | None:
        try:
            event = read_event(value)
        except UnreadableEventError:
            metrics.EVENTS_READ.labels("unreadable").inc()
            return None
        name = self._finder.find(event)
        try:
            address = normalise(event.address or "")
        except InvalidAddressError:
            name = None
        if name is None:
            metrics.EVENTS_READ.labels("unknown").inc()
            return None
        metrics.EVENTS_READ.labels("applied").inc()
        return AppliedEvent(name, address, event)

    def _suppress(self, found: Sequence[AppliedEvent]) -> None:
        by_organization: defaultdict[str, list[SuppressingEvent]] = defaultdict(list)
        for name, address, event in found:
            why = why_of(event)
            if why is not None:
                by_organization[name.organization].append(
                    SuppressingEvent(address, why, event.occurred_at, name.campaign_id)
                )
        for organization, events in by_organization.items():
            self._effects.suppress(organization, events)

    def _hold(self, found: Sequence[AppliedEvent]) -> None:
        """Hold accounts whose mails fail after they were accepted, as an answer would."""
        now = datetime.now(UTC)
        troubles = {}
        for _, _, event in found:
            trouble = account_trouble(event, now)
            if trouble is not None and event.origin.account is not None:
                troubles[event.origin.account, trouble.domain] = trouble
        for (account, domain), trouble in troubles.items():
            hold = Hold(
                by=By.EVENT,
                reason=trouble.reason,
                detail=trouble.detail,
                since=now,
                until=trouble.until,
            )
            placed = self._holds.put(account, domain, hold, (trouble.until - now).total_seconds())
            if placed.is_new:
                logger.error(
                    "held, as mails fail after Resend accepted them",
                    extra={"account": account, "domain": domain, "reason": trouble.reason},
                )

    def _count(self, found: Sequence[AppliedEvent]) -> None:
        by_campaign: defaultdict[CampaignName, defaultdict[str, Feedback]] = defaultdict(
            lambda: defaultdict(Feedback)
        )
        for name, address, event in found:
            by_campaign[name][address].add(event)
        for name, recipients in by_campaign.items():
            counted = {address: each for address, each in recipients.items() if each}
            if counted:
                self._guard(name, self._effects.count(name, counted))

    def _guard(self, name: CampaignName, counts: dict[str, int]) -> None:
        """Pause a campaign that does harm, once."""
        finding = excess(self._breaker, counts)
        if finding is None or self._effects.is_guarded(name):
            return
        state = campaigns.state(self._client, *name)
        if state in (None, CampaignState.ACTIVE):
            campaigns.pause(self._client, *name, why=finding.why)
            metrics.CAMPAIGNS_STOPPED.labels(finding.reason).inc()
            logger.error(
                "paused the campaign because of what became of its mails; its other recipients "
                "are parked",
                extra={
                    "campaign": str(name),
                    "cause": finding.why,
                    "next": f"find out who was on its list and why; then streamer campaign resume "
                    f"{name}, which goes on for good, or campaign cancel",
                },
            )
            self._effects.set_guarded(name)


class Applier:
    """Reads the topic of events and applies them, until stopped.

    Runs in one thread. Any number of processes may run one: the holder of a lease reads, and two
    that read at once would change nothing twice. The offsets are committed to the group
    `GROUP.events`, after what they stand for is done.
    """

    def __init__(self, settings: Settings, readers: SharedConsumer) -> None:
        self._settings = settings
        self._readers = readers
        self._client = connect(settings.redis, 2)
        self._application = Application(settings, self._client)
        self._lease = Lease(self._client, keys.events_lease(settings.kafka.group_id))
        self._problem = LastingProblem(logger, "events wait, retrying", "events are applied again")

    def run(self, stop: threading.Event) -> None:
        """Apply events while holding the lease.

        Errors are logged and retried, since sending does not depend on events.
        """
        while not stop.is_set():
            try:
                if self._lease.hold():
                    self._session(stop)
                else:
                    stop.wait(_LEASE_WAIT_S)
            except (*REDIS_ERRORS, KafkaException, ReadError) as error:
                self._problem.note(cause_of(error))
                stop.wait(_RETRY_S)
            except EventsError as error:
                logger.error("cannot apply events", extra={"cause": str(error)})
                stop.wait(_HOPELESS_RETRY_S)
        with suppress(*REDIS_ERRORS):
            self._lease.release()
        self._client.close()

    def _session(self, stop: threading.Event) -> None:
        """Apply events from the committed offsets, while the lease is held."""
        with ExitStack() as stack:
            reader = _EventReader(self._settings, self._readers)
            stack.callback(reader.close)
            while not stop.is_set() and self._lease.hold():
                values = reader.read()
                self._problem.end()
                if values:
                    self._application.apply(values)
                    reader.commit()


class _EventReader:
    """Reads the topic from the committed offsets."""

    def __init__(self, settings: Settings, readers: SharedConsumer) -> None:
        self._topic = settings.topics.events
        properties = events_properties(settings)
        self._offsets = OnDemand(
            lambda: Consumer(properties, logger=client_logger("events")), Consumer.close
        )
        """Reads and commits the group's offsets."""
        share = readers.open()
        self._share = share
        self._reader = PartitionReader(share, _PORTION, WAIT_S, _report)
        self._look_at = 0.0

    def read(self) -> list[bytes | None]:
        """Return the values that have come, waiting briefly if there are none."""
        if time.monotonic() >= self._look_at:
            self._look_for_partitions()
        self._offsets.rest()
        return [seen.message.value() for seen in self._reader.read() if seen.message is not None]

    def commit(self) -> None:
        """Commit what was read."""
        offsets = [TopicPartition(*place, at) for place, at in self._reader.positions.items()]
        self._offsets().commit(offsets=offsets, asynchronous=True)

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        self._offsets.drop()

    def _look_for_partitions(self) -> None:
        self._look_at = time.monotonic() + _LOOK_FOR_PARTITIONS_EVERY_S
        # Not by an admin client, which would have threads of its own.
        with self._share.alone() as consumer:
            found = consumer.list_topics(self._topic, timeout=_TIMEOUT_S)
        numbers = found.topics[self._topic].partitions
        if not numbers:
            raise EventsError(
                f"missing topic: {self._topic}; create it with: streamer topics create"
            )
        new = [
            TopicPartition(self._topic, number)
            for number in numbers
            if (self._topic, number) not in self._reader.positions
        ]
        committed = self._offsets().committed(new, timeout=_TIMEOUT_S) if new else []
        self._reader.start(
            {(self._topic, each.partition): max(0, each.offset) for each in committed}
        )


def _report(error: KafkaError) -> None:
    """Log an error returned in place of a record; most are transient.

    Raises:
        EventsError: the error is permanent.
    """
    if is_permanent(error):
        raise EventsError(f"the topic of events cannot be read: {error.str()}")
    logger.warning("Kafka reports an error", extra={"error": error.str()})
