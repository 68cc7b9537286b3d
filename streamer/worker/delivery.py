"""A batch's life: fill, pin, send, resolve; and adopting one that was pinned before."""

import logging
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from functools import partial
from threading import Lock

from streamer import metrics
from streamer.flow.batcher import Batcher
from streamer.ledger.campaigns import UnreadableDefinitionError
from streamer.ledger.claims import Claim, Claims, Conflict, Pinned
from streamer.ledger.connection import Client
from streamer.ledger.holds import BatchRef
from streamer.ledger.limiter import Held, Slot
from streamer.ledger.probe import Probe, probe
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.model.address import sender_domain
from streamer.model.campaign import CampaignState, Message
from streamer.model.parking import ORGANIZATION, Scope
from streamer.model.payload import Payload
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import DeadLetter, Ending, Outcome, Parked, Record
from streamer.model.result import BatchResult
from streamer.provider.accounts import Accounts
from streamer.settings import Settings
from streamer.worker.batch import Batch, BatchState
from streamer.worker.definitions import Definitions
from streamer.worker.holding import Holding
from streamer.worker.sending import LaidDown, Sendable, Sender
from streamer.worker.waiting import Waiting

logger = logging.getLogger(__name__)

Checkpoint = Callable[[str], None]
"""Called at named points of a batch's life; tests of crashes kill the process there."""

_STALE_S = 0.5
_MOST_OTHERS = 3


class Delivery:
    """Takes batches of queued records to their endings. `run` is called on many threads."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        claims: Claims,
        composer: Composer,
        accounts: Accounts,
        sender: Sender,
        holding: Holding,
        batcher: Batcher,
        waiting: Waiting,
        checkpoint: Checkpoint,
    ) -> None:
        self._settings = settings
        self._client = client
        self._claims = claims
        self._composer = composer
        self._accounts = accounts
        self._sender = sender
        self._holding = holding
        self._without_account: set[str] = set()
        self._batcher = batcher
        self._waiting = waiting
        self._checkpoint = checkpoint
        self._definitions = Definitions(client)
        self._underway = _Underway()

    def run(self, organization: str, records: list[Record]) -> None:
        """Fill one batch with records of the organization and see it through.

        Args:
            records: as many as fit, taken from the queue; more are taken for those who drop out.

        Raises:
            StoppedError: the worker stops; what is not decided stays undecided.
            LedgerLostError: the ledger forgot: nothing may be sent.
        """
        batch = Batch(organization, self._settings.batch.size, self._settings.batch.max_bytes)
        work = Work(batch)
        self._screen(work, records)
        self._fill(work)
        if self._may_still_fill(work):
            self._batcher.put_back(organization, batch.empty() + work.twins + work.others)
            work.twins.clear()
            work.others.clear()
        if batch.records:
            self._deliver(work)
        self._batcher.put_back(organization, work.twins + work.others)
        self._adopt_all(work)

    def set_aside(self, organization: str, records: list[Record]) -> None:
        """Park records whose organization's batches keep failing: they may fail like those, and
        would soon be all that waits here.

        Raises:
            As `run`.
        """
        batch = Batch(organization, self._settings.batch.size, self._settings.batch.max_bytes)
        work = Work(batch)
        # Not each at a time of its own: bringing some back moves all that are parked.
        period_s = self._settings.delivery.set_aside_s
        until_s = (time.time() // period_s + 2) * period_s
        parked = Parked(Scope.of_batch(organization, batch.id), round(until_s * 1000))
        self._end_unless_pinned(work, [(record, parked) for record in records])
        self._adopt_all(work)

    def oldest_pin(self) -> float | None:
        """When the oldest batch that is pinned and not resolved was taken up; monotonic clock."""
        return self._underway.oldest()

    # Filling

    def _fill(self, work: "Work") -> None:
        """Fill the batch after filtering: who drops out is replaced while others wait."""
        batch = work.batch
        while batch.room and len(work.others) < _MOST_OTHERS * self._settings.batch.size:
            records = self._batcher.take(batch.organization, batch.room)
            if not records:
                return
            self._screen(work, records)

    def _may_still_fill(self, work: "Work") -> bool:
        records = work.batch.records
        now = time.monotonic()
        return bool(
            records
            and work.batch.room
            and not any(self._batcher.overdue(record, now) for record in records)
        )

    def _screen(self, work: "Work", records: list[Record]) -> None:
        """Render the mails of those who may get one; end the others, if nothing was pinned."""
        found = self._probe(work.batch.organization, records)
        now = datetime.now(UTC)
        endings: list[tuple[Record, Ending]] = []
        for position, record in enumerate(records):
            if record.address is not None and work.batch.holder(record) is not None:
                work.twins.append(record)
                continue
            try:
                message = self._message(record, found, now, found.suppressed[position])
                sender = sender_domain(message.from_)
                if work.batch.records and sender != work.batch.sender:
                    work.others.append(record)
                    continue
                work.batch.sender = sender
                mail = self._composer.compose(record.known_event, record.known_address, message)
            except _NotMailed as reason:
                endings.append((record, reason.ending))
            except RenderError as error:
                endings.append((record, Outcome.of(Reason.RENDER_ERROR, str(error))))
            except TooLargeError as error:
                endings.append((record, Outcome.of(Reason.TOO_LARGE, str(error))))
            else:
                if not work.batch.add(record, mail):
                    self._batcher.put_back(work.batch.organization, records[position:])
                    break
        self._end_unless_pinned(work, endings)

    def _probe(self, organization: str, records: list[Record]) -> Probe:
        addresses = [record.address or "" for record in records]
        campaign_ids = {record.known_event.campaign_id for record in records}
        with metrics.SUPPRESSION_CHECK.time():
            return self._waiting.for_redis(
                partial(probe, self._client, organization, addresses, campaign_ids)
            )

    def _message(self, record: Record, found: Probe, now: datetime, is_suppressed: bool) -> Message:
        """What to send to the record's recipient.

        Raises:
            _NotMailed: nothing, for a reason; the first of the order of decisions.
        """
        event = record.known_event
        campaign = found.campaigns[event.campaign_id]
        try:
            message = event.message or self._waiting.for_redis(
                partial(
                    self._definitions.message,
                    event.organization_id,
                    event.campaign_id,
                    campaign.version,
                )
            )
        except UnreadableDefinitionError as error:
            raise _NotMailed(DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, str(error))) from None
        if message is None:
            detail = (
                f"campaign {event.organization_id}/{event.campaign_id} has no definition, "
                f"and the event no message"
            )
            raise _NotMailed(DeadLetter(DeadReason.UNKNOWN_CAMPAIGN, detail))
        if record.address is None:
            raise _NotMailed(Outcome.of(Reason.INVALID_ADDRESS, record.address_fault))
        if campaign.state is CampaignState.CANCELLED:
            raise _NotMailed(Outcome.of(Reason.CANCELLED))
        for expires_at in (event.expires_at, message.expires_at):
            if expires_at is not None and expires_at <= now:
                raise _NotMailed(Outcome.of(Reason.EXPIRED, f"at {expires_at.isoformat()}"))
        scope = self._waits_for(record, campaign.state, message)
        if scope is not None:
            raise _NotMailed(Parked(scope))
        if is_suppressed:
            raise _NotMailed(Outcome.of(Reason.SUPPRESSED))
        return message

    def _waits_for(
        self, record: Record, state: CampaignState | None, message: Message
    ) -> Scope | None:
        event = record.known_event
        if state is CampaignState.PAUSED:
            return Scope.of_campaign(event.organization_id, event.campaign_id)
        account = self._accounts.of(event.organization_id)
        if account is None:
            if event.organization_id not in self._without_account:
                self._without_account.add(event.organization_id)
                logger.error(
                    "no account serves the organization, its records are parked: name it in the "
                    "`organizations` of one, and restart",
                    extra={"organization": event.organization_id},
                )
                metrics.ACCOUNT_HELD.labels("none", "no_account").set(1)
            return Scope(ORGANIZATION, event.organization_id)
        return self._holding.scope_of(account, sender_domain(message.from_))

    def _end_unless_pinned(self, work: "Work", endings: list[tuple[Record, Ending]]) -> None:
        """End records that would not be mailed now, unless they were pinned before a crash."""
        now = time.time()
        for record, ending in endings:
            if record.address is None:  # nobody can have claimed it
                record.end(ending, now)
        endings = [(record, ending) for record, ending in endings if record.address is not None]
        if not endings:
            return
        claims = self._waiting.for_redis(
            partial(self._claims.find, work.batch.organization, [record for record, _ in endings])
        )
        now = time.time()
        for (record, ending), claim in zip(endings, claims, strict=True):
            dead = isinstance(ending, DeadLetter)
            if claim is None or (dead and not claim.is_of(record)):
                record.end(ending, now)
            else:
                work.claimed(record, claim, now)

    # Pinning

    def _deliver(self, work: "Work") -> None:
        """Pin the batch and see it through, or park it."""
        batch = work.batch
        account = self._accounts.of(batch.organization)
        if account is None:
            raise AssertionError(f"records of {batch.organization} are parked, not batched")
        asked = time.monotonic()
        # The slot comes first: what is pinned, with suppression checked in that act, is handed
        # over at once and not after a wait.
        slot = self._sender.take_slot(account, batch.sender)
        if isinstance(slot, Held):
            parked = Parked(Scope.of_hold(account, slot.domain))
            self._end_unless_pinned(work, [(record, parked) for record in batch.empty()])
            return
        if time.monotonic() - asked > _STALE_S:
            # Campaigns were paused meanwhile, or have expired.
            self._screen(work, batch.empty())
        if self._pin(work, account):
            self._deliver_pinned(work, account, slot)

    def _pin(self, work: "Work", account: str) -> bool:
        """Pin the batch, without those who turn out to be suppressed or claimed.

        False if nobody is left.
        """
        batch = work.batch
        while batch.records:
            self._checkpoint("before_pin")
            batch.payload = Payload(batch.mails)
            with metrics.PIN.time():
                answer = self._waiting.for_redis(
                    partial(
                        self._claims.pin,
                        batch.organization,
                        batch.id,
                        account,
                        batch.sender,
                        batch.records,
                        batch.payload,
                    )
                )
            if isinstance(answer, Pinned):
                self._checkpoint("after_pin")
                batch.state = BatchState.PINNED
                return True
            self._drop_conflicts(work, answer)
            self._fill(work)
        return False

    def _drop_conflicts(self, work: "Work", conflict: Conflict) -> None:
        items = conflict.suppressed | conflict.claims.keys()
        records = work.batch.records
        work.batch.remove(items)
        now = time.time()
        for item in items:
            record = records[item]
            claim = conflict.claims.get(item)
            if claim is None:
                record.end(Outcome.of(Reason.SUPPRESSED), now)
            else:
                work.claimed(record, claim, now)

    # Delivering

    def _deliver_pinned(self, work: "Work", account: str, slot: Slot) -> None:
        batch = work.batch
        work.end_twins(time.time())
        batch.state = BatchState.SENDING
        ref = BatchRef(batch.organization, batch.id)
        sendable = Sendable(ref, account, batch.sender, batch.payload, 0.0)
        result = self._underway.once(
            batch.id, partial(self._send_and_resolve, sendable, owner="", slot=slot)
        )
        batch.state = BatchState.RESOLVED
        _end_all(list(zip(batch.records, range(len(batch.records)), strict=True)), batch.id, result)

    def _adopt_all(self, work: "Work") -> None:
        for batch_id, claimed in work.adoptions.items():
            self._adopt(work.batch.organization, batch_id, claimed)

    def _adopt(self, organization: str, batch_id: str, claimed: list[tuple[Record, int]]) -> None:
        """End records by the batch that carried them before this worker had them."""
        ref = BatchRef(organization, batch_id)
        result = self._underway.once(batch_id, partial(self._finish, ref))
        _end_all(claimed, batch_id, result)

    def _finish(self, ref: BatchRef) -> BatchResult | Parked | None:
        stored = self._waiting.for_redis(partial(self._claims.load, *ref))
        if stored is not None and stored.payload is not None:
            scope = self._holding.scope_of(stored.account, stored.sender)
            if scope is not None:  # nobody is the batch's owner meanwhile
                return Parked(scope)
            owner = secrets.token_hex(8)
            stored = self._waiting.for_redis(partial(self._claims.adopt, *ref, owner))
            if stored is not None and stored.payload is not None:
                batch = Sendable(ref, stored.account, stored.sender, stored.payload, stored.age_s)
                return self._send_and_resolve(batch, owner, slot=None)
        return None if stored is None else stored.result

    def _send_and_resolve(
        self, batch: Sendable, owner: str, slot: Slot | None
    ) -> BatchResult | Parked | None:
        result = self._sender.send(batch, slot)
        self._checkpoint("after_post")
        if isinstance(result, LaidDown):
            if result.untouched:
                self._waiting.for_redis(partial(self._claims.lay_down, *batch.ref, owner))
            return result.parked
        return self._waiting.for_redis(partial(self._claims.resolve, *batch.ref, result))


class _NotMailed(Exception):  # noqa: N818 - no error, a decision
    """The record is not mailed; `ending` says why."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending)
        self.ending = ending


class Work:
    """A batch, and who turned up beside it while it was filled.

    Attributes:
        twins: records of an address and campaign that the batch has a mail for already.
        others: records whose mails come from another sender's domain.
        adoptions: records that were pinned before, by the batch that carried them.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.twins: list[Record] = []
        self.others: list[Record] = []
        self.adoptions: defaultdict[str, list[tuple[Record, int]]] = defaultdict(list)

    def claimed(self, record: Record, claim: Claim, now: float) -> None:
        """Take a record whose address is claimed: by itself, or by another."""
        if claim.is_of(record):
            self.adoptions[claim.batch_id].append((record, claim.item))
        else:
            record.end(Outcome.of(Reason.DUPLICATE, f"of {claim.coordinates}"), now)

    def end_twins(self, now: float) -> None:
        """Once the batch is pinned, take those whose address is claimed by that, as `claimed`.

        A twin may be the very record that is a member, read again after its partition went and
        came back: then the batch is its own, and no duplicate.
        """
        twins, self.twins = self.twins, []
        items = {id(record): item for item, record in enumerate(self.batch.records)}
        for twin in twins:
            holder = self.batch.holder(twin)
            if holder is None:
                self.twins.append(twin)
            else:
                claim = Claim(self.batch.id, items[id(holder)], str(holder.coordinates))
                self.claimed(twin, claim, now)


class _Underway:
    """The batches that are being delivered, so that this process delivers none twice at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._results: dict[str, Future[BatchResult | Parked | None]] = {}
        self._since: dict[str, float] = {}

    def once(
        self, batch_id: str, deliver: Callable[[], BatchResult | Parked | None]
    ) -> BatchResult | Parked | None:
        """Deliver the batch, or wait for the thread that is at it."""
        with self._lock:
            other = self._results.get(batch_id)
            if other is None:
                mine: Future[BatchResult | Parked | None] = Future()
                self._results[batch_id] = mine
                self._since[batch_id] = time.monotonic()
        if other is not None:
            return other.result()
        try:
            result = deliver()
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            mine.set_result(result)
            return result
        finally:
            with self._lock:
                del self._results[batch_id], self._since[batch_id]

    def oldest(self) -> float | None:
        with self._lock:
            return min(self._since.values(), default=None)


def _end_all(
    claimed: Sequence[tuple[Record, int]], batch_id: str, result: BatchResult | Parked | None
) -> None:
    now = time.time()
    for record, item in claimed:
        if result is None:
            detail = f"batch {batch_id} is claimed, but the ledger does not have it"
            record.end(Outcome.of(Reason.LEDGER_LOST, detail), now)
        elif isinstance(result, Parked):
            record.end(result, now)
        else:
            record.end(result.outcome(item, batch_id), now)
