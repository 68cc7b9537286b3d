"""A worker's whole story: poll, admit, batch, deliver, commit; a rebalance; and the end.

The thread that calls `run` owns the consumer and the producer. It admits records to the windows
of their partitions and queues them for batches; the sender threads take batches to their ends;
and what is done, as far as no undone record lies before it, is committed here.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Event

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.flow.breaker import Breaker
from streamer.flow.places import Places
from streamer.flow.room import Intake, Room
from streamer.flow.verdicts import PRESSED_RECORDS
from streamer.ledger import campaigns
from streamer.ledger.claims import Claims
from streamer.ledger.connection import connect, warm
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import Holds
from streamer.ledger.limiter import Limiter
from streamer.ledger.probe import Probes
from streamer.mail.compose import Composer
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.event import DeadEventError, parse
from streamer.model.parking import Scope
from streamer.model.record import DeadLetter, Parked, Record
from streamer.provider.accounts import Accounts
from streamer.provider.client import ResendClient
from streamer.settings import Settings
from streamer.worker.batch import new_id
from streamer.worker.build import make_sending
from streamer.worker.committer import BreakerError, Committer, fencing_producer
from streamer.worker.delivery import Checkpoint, Delivery, with_spare
from streamer.worker.holding import Holding
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.scopes import Scopes
from streamer.worker.source import Source, Windows
from streamer.worker.waiting import StoppedError, Waiting

logger = logging.getLogger(__name__)

_COMMIT_EVERY_S = 0.2
_COMMIT_AT_RECORDS = 2_000
_MEASURE_EVERY_S = 1.0
_POLL_RECORDS = 200
_POLL_S = 0.02
_CROWD = 0.25
"""The part of the queue that an organization in trouble may fill."""
_REVOKE_DRAIN_S = 1.0
_REVOKE_COMMIT_S = 3.0
_RELAY_END_S = 5.0
_MOST_BYTES = 64_000_000
"""Of memory, for the records that are held; Python's own needs come on top."""
_COMMIT_AT_BYTES = 8_000_000
_LARGE_BYTES = 8_192


def no_checkpoint(name: str) -> None:
    """Production has none."""


class Pipeline:
    """One worker, from its first poll to its last commit.

    Args:
        waiting: how its threads wait.
        checkpoint: called at named points; tests of crashes kill the process there.
    """

    def __init__(
        self,
        settings: Settings,
        composer: Composer,
        accounts: Accounts,
        waiting: Waiting,
        checkpoint: Checkpoint = no_checkpoint,
    ) -> None:
        self._settings = settings
        self._stopping = Event()
        self._waiting = waiting
        self._accounts = accounts
        self._most_queued = 2 * settings.batch.size * settings.batch.max_in_flight
        self._room = Room(2 * settings.batch.max_in_flight, _MOST_BYTES)
        self._batcher = Batcher(settings.batch.size, settings.batch.linger_ms / 1000, accounts.of)
        self._deliveries: dict[Future[None], str] = {}
        """Batches under way, with their organizations."""
        self._places = Places(accounts.of, len(accounts.names()), settings.batch.max_in_flight)
        senders = self._places.all
        self._redis = connect(settings.redis, senders + 8)
        self._source = Source(settings, self._verify_epochs, self._finish_revoked)
        producer = fencing_producer(settings)
        # Nothing is trusted, or sent, before the ledger is known to be the one of the offsets.
        committed = self._source.committed_epochs()
        self._epoch = self._waiting.for_redis(lambda: Epoch.establish(self._redis, committed))
        self._waiting.for_redis(lambda: warm(self._redis, senders))
        claims = Claims(self._redis, self._epoch, settings.delivery.claims_ttl_s)
        limiter = Limiter(self._redis, self._epoch)
        probe_s = settings.delivery.hold_probe_s
        holding = Holding(Holds(self._redis), limiter, accounts, probe_s)
        self._waiting.for_redis(holding.refresh)
        sending = make_sending(
            settings.delivery,
            accounts,
            ResendClient(settings.api_url, settings.delivery.timeout_s, senders),
            claims,
            limiter,
            holding,
            self._waiting,
        )
        self._troubles = sending.troubles
        self._delivery = Delivery(
            settings,
            self._redis,
            Probes(self._redis, self._epoch),
            claims,
            composer,
            accounts,
            sending.slots,
            sending.sender,
            holding,
            self._batcher,
            self._waiting,
            checkpoint,
        )
        self._committer = Committer(
            producer,
            settings.topics,
            self._source.group_metadata,
            self._epoch.name,
            self._source.partitions_of(settings.topics.parked),
            Breaker(settings.breaker.records, settings.breaker.dead_share),
            checkpoint,
        )
        self._waiting.for_redis(self._name_organizations_without_account)
        self._prober = Prober(
            self._redis, holding, sending.slots, sending.sender, claims, self._waiting
        )
        scopes = Scopes(self._redis, accounts, holding)
        self._relay = Relay(settings, self._redis, scopes, self._waiting)
        self._senders = ThreadPoolExecutor(senders, thread_name_prefix="sender")
        self._verifier = ThreadPoolExecutor(1, thread_name_prefix="epoch")
        self._verified: Future[None] | None = None
        self._next_commit = self._next_measure = 0.0
        self.last_tick = time.monotonic()

    def _name_organizations_without_account(self) -> None:
        for organization in campaigns.organizations(self._redis):
            if self._accounts.of(organization) is None:
                logger.warning(
                    "no account serves the organization, its records will be parked: name it in "
                    "the `organizations` of one",
                    extra={"organization": organization},
                )

    def stop(self) -> None:
        """Ask for the end; callable from any thread and from a signal handler."""
        self._stopping.set()

    @property
    def committing(self) -> bool:
        """Whether the loop is at a transaction."""
        return self._committer.busy

    @property
    def joined(self) -> bool:
        """Whether the worker is a member of its group."""
        return self._source.joined

    def run(self) -> None:
        """Work until `stop` is called, then finish in good order.

        Raises:
            LedgerLostError: the ledger forgot: nothing is sent any more.
            KafkaException: this worker was fenced by another with its id, or Kafka is lost.
            SourceError: the input cannot be read.
            BreakerError: most records are dead letters.
        """
        try:
            self._source.start()
            self._prober.start()
            self._relay.start()
            self.last_tick = time.monotonic()
            while not self._stopping.is_set():
                self._tick()
            self._drain()
        finally:
            self._waiting.stop()
            self._senders.shutdown(wait=False, cancel_futures=True)
            self._verifier.shutdown(wait=False, cancel_futures=True)
            self._source.close()
            self._committer.close()
            self._relay.join(_RELAY_END_S)

    def _tick(self) -> None:
        now = self.last_tick = time.monotonic()
        polled = self._source.poll(_POLL_RECORDS, _POLL_S) if self._has_room(now) else []
        started = time.thread_time()
        self._admit(polled)
        self._start_deliveries(time.monotonic())
        metrics.TICK.observe(time.thread_time() - started)
        self._commit_if_due(time.monotonic())
        if now >= self._next_measure:
            self._next_measure = now + _MEASURE_EVERY_S
            self._measure(now)

    # Admitting

    def _admit(self, records: list[Record]) -> None:
        """Parse records; queue those that are recipients, end those that cannot be."""
        queued = []
        for record in records:
            try:
                event = parse(record.value)
            except DeadEventError as error:
                record.end(DeadLetter(error.reason, str(error)), time.time())
                continue
            record.take(event)
            try:
                record.address = normalise(event.email)
            except InvalidAddressError as error:
                record.address_fault = str(error)
            if len(record.value or b"") > _LARGE_BYTES or len(self._batcher) > self._most_queued:
                record.forget_event()  # it will not be needed soon, or takes much
            queued.append(record)
        self._batcher.add(queued)

    def _has_room(self, now: float) -> bool:
        """Whether the source is to be polled."""
        intake = self._room.intake(self._batcher.full_batches, self._held_bytes(), now)
        if intake is Intake.OPEN:
            self._source.resume()
        elif intake is Intake.PAUSE:
            self._source.pause()
        elif intake is Intake.WAIT:
            time.sleep(_POLL_S / 4)
        return intake is not Intake.WAIT

    def _held(self) -> int:
        """How many records are admitted and not yet committed."""
        return sum(map(len, self._source.windows.values()))

    def _held_bytes(self) -> int:
        return sum(window.bytes for window in self._source.windows.values())

    # Delivering

    def _start_deliveries(self, now: float) -> None:
        """Give batches to idle senders, and notice how the others ended."""
        for delivery in [delivery for delivery in self._deliveries if delivery.done()]:
            del self._deliveries[delivery]
            error = delivery.exception()
            if error is not None and not isinstance(error, StoppedError):
                raise error
        for organization in set(self._deliveries.values()):
            while self._makes_room(organization, now):
                self._set_aside(organization)
        most = with_spare(self._settings.batch.size)
        while (
            ready := self._batcher.take_ready(
                now, most, self._is_closed, lambda name: not self._has_place(name, now)
            )
        ) is not None:
            self._deliveries[self._senders.submit(self._delivery.run, *ready)] = ready[0]

    def _is_closed(self, account: str | None) -> bool:
        """Whether no batch of the account may be under way beside those that are."""
        return self._places.is_closed(account, self._deliveries.values())

    def _has_place(self, organization: str, now: float) -> bool:
        """Whether one more batch of the organization may be under way."""
        most_own = self._troubles.most_batches(organization, self._places.share, now)
        return self._places.has_one(organization, self._deliveries.values(), most_own)

    def _makes_room(self, organization: str, now: float) -> bool:
        """Whether what an organization in trouble has queued goes aside while it has no place."""
        queued = self._batcher.queued(organization)
        return (
            queued > 0
            and not self._has_place(organization, now)
            and self._troubles.sets_queue_aside(
                organization,
                self._places.share,
                now,
                is_much=queued > self._most_queued * _CROWD,
            )
        )

    def _set_aside(self, organization: str) -> None:
        """Park a batch of records as they are: those that were pinned, too, are tried when they
        are back."""
        now = time.time()
        # Not each at a time of its own: bringing some back moves all that are parked.
        period_s = self._settings.delivery.set_aside_s
        until_s = (now // period_s + 2) * period_s
        scope = Scope.of_batch(organization, new_id())
        for record in self._batcher.take(organization, self._settings.batch.size):
            record.end(Parked(scope, round(until_s * 1000), perhaps_pinned=True), now)

    # Committing

    def _commit_if_due(self, now: float) -> None:
        if now < self._next_commit and not self._much_is_done() and not self._committer.in_haste:
            return
        self._committer.commit(self._source.windows)
        self._next_commit = time.monotonic() + _COMMIT_EVERY_S

    def _much_is_done(self) -> bool:
        """Whether memory is better freed now than at the next due time."""
        in_flight = (len(self._deliveries) + 1) * self._settings.batch.size
        is_much = self._held() - in_flight - len(self._batcher) > _COMMIT_AT_RECORDS
        return is_much or self._held_bytes() - self._batcher.bytes > _COMMIT_AT_BYTES

    # Rebalances

    def _verify_epochs(self, committed: set[str]) -> None:
        self._epoch.verify(committed)

    def _finish_revoked(self, windows: Windows) -> None:
        """Before partitions go: drop what was not begun, finish and commit what is in flight."""
        undone = [record for window in windows.values() for record in window.undecided()]
        queued = self._batcher.discard(undone)
        begun = [record for record in undone if id(record) not in queued]
        with metrics.REVOKE_DRAIN.time():
            until = time.monotonic() + _REVOKE_DRAIN_S
            while time.monotonic() < until and any(r.ending is None for r in begun):
                time.sleep(0.005)
        with suppress(BreakerError):  # the next owner, or the next records, meet it again
            self._commit_until(windows, time.monotonic() + _REVOKE_COMMIT_S)

    def _commit_until(self, windows: Windows, until: float) -> None:
        """Commit all that is done; what does not succeed in time is left to the next owner."""
        while any(window.done_prefix(1) for window in windows.values()):
            if self._committer.commit(windows):
                continue
            if time.monotonic() >= until:
                logger.warning("done records were not committed in time, their next owner will")
                return
            time.sleep(_POLL_S)

    # The end

    def _drain(self) -> None:
        """Finish or hand over what is in flight, and commit."""
        logger.info("stopping: no more records are taken")
        until = time.monotonic() + self._settings.worker.shutdown_timeout_s
        self._source.pause()
        self._batcher.clear()
        while self._deliveries and time.monotonic() < until:
            self.last_tick = time.monotonic()
            self._source.poll(_POLL_RECORDS, _POLL_S)
            self._start_deliveries(self.last_tick)
            self._batcher.clear()
            self._commit_if_due(time.monotonic())
        if self._deliveries:
            logger.warning(
                "batches are still in flight, they are left to the next owner",
                extra={"batches": len(self._deliveries)},
            )
        self._waiting.stop()
        self._commit_until(self._source.windows, time.monotonic() + _REVOKE_COMMIT_S)

    # Watching

    def _measure(self, now: float) -> None:
        held = self._held()
        metrics.IN_FLIGHT.set(held)
        metrics.IN_FLIGHT_BYTES.set(self._held_bytes())
        in_flight = len(self._deliveries) * self._settings.batch.size
        blocked = max(0, held - len(self._batcher) - in_flight)
        metrics.BLOCKED.set(blocked)
        blocked_bytes = self._held_bytes() - self._batcher.bytes
        self._troubles.under_backpressure = blocked > PRESSED_RECORDS or self._room.is_pressed(
            blocked_bytes
        )
        oldest = self._delivery.oldest_pin()
        metrics.OLDEST_BATCH_AGE.set(0 if oldest is None else now - oldest)
        self._source.measure()
        # In a thread of its own: a Redis that stands still must not hold up polls and commits.
        if self._verified is None or self._verified.done():
            if self._verified is not None:
                self._verified.result()
            self._verified = self._verifier.submit(self._waiting.for_redis, self._epoch.verify)
