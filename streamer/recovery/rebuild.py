"""Rebuilds a ledger that has lost writes, or everything, from the topics.

Each record with an outcome is claimed again, by the batch that the outcome names. A record without
one that may have been pinned is claimed too, by a batch that does not exist: its worker resolves it
as `ledger_lost`. These are the records between the committed offset of a partition and its reach
(see `model.pulse`), those that were parked though they may have been pinned, and the batches that
test a hold. Batches that the ledger still has, but which may have been sent since, are forgotten.

Workers halt until the last step, which accepts the pulse. Each step may be repeated, so a rebuild
that was killed is started again from its beginning, with the same `since`.
"""

import re
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, TypeVar

from confluent_kafka.admin import AdminClient

from streamer.errors import StreamerError
from streamer.kafka.members import members_of
from streamer.kafka.metadata import partitions_of
from streamer.kafka.stored import PartitionRange, Reader, StoredRecord
from streamer.kafka.writing import Checkpoint, no_checkpoint
from streamer.ledger import campaigns, claim_reader, keys
from streamer.ledger.claims import Claims
from streamer.ledger.confirming import confirmed
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, Holds
from streamer.ledger.lease import Lease
from streamer.ledger.pulse import accept
from streamer.ledger.reclaim import Change, Fate, KnownRecord, Reclaimer
from streamer.model import record_headers
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.event import DeadEventError, parse
from streamer.model.outcome import UnreadableOutcomeError, read_outcome
from streamer.model.published import PublishedOutcome
from streamer.model.reasons import Status
from streamer.model.record import RecordId
from streamer.model.wire import PARKED_PINNED, replaced_batch
from streamer.recovery.ledger_status import LedgerComparison, compare
from streamer.settings import Settings

_MARGIN_MS = 600_000
"""How much the clocks of Redis and of the workers may differ."""
_CHUNK = 2_000
"""Outcomes are applied in the order of their times within so many."""
_CALL = 100
_NEVER = "00" * 12
_BATCH_ID = re.compile(r"[0-9a-f]{24}")
_CHANGES = (Change.CLAIMED, Change.REMOVED)


class RebuildError(StreamerError):
    """The ledger cannot be rebuilt now; the message says why and what to do."""


class LostRecord(NamedTuple):
    """A record that may have been sent, and has no outcome.

    Attributes:
        recipient_id: empty if only its claim is known.
        replaces: for a retry, the failed batch whose claim it may take over; else empty.
    """

    campaign: CampaignName
    recipient_id: str
    address: str
    replaces: str = ""


@dataclass(slots=True)
class RebuildReport:
    """What a rebuild does.

    Attributes:
        since_ms: outcomes since then are read, in ms since 1970.
        outcomes: number of outcomes read.
        claimed: number of claims written or changed because of an outcome.
        lost: the records whose fate is unknown: they end as `ledger_lost`.
        events: number of events applied again.
        unreadable: records of the outcomes topic that are not outcomes.
        campaigns: number of outcomes and lost records, by campaign.
        undefined: those of these campaigns that have no definition in Redis.
        accepted: whether the workers may go on.
    """

    since_ms: int
    outcomes: int = 0
    claimed: int = 0
    lost: dict[RecordId, LostRecord] = field(default_factory=dict)
    events: int = 0
    unreadable: int = 0
    campaigns: Counter[CampaignName] = field(default_factory=Counter)
    undefined: list[CampaignName] = field(default_factory=list)
    accepted: bool = False


class Rebuilder:
    """Rebuilds the ledger of the workers' group, once.

    Args:
        apply_events: applies events, given as the values of their records; again if need be. It
            brings back suppressions: the workers have committed that they applied these.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        admin: AdminClient,
        reader: Reader,
        apply_events: Callable[[list[bytes | None]], None],
    ) -> None:
        self._apply_events = apply_events
        self._settings = settings
        self._client = client
        self._admin = admin
        self._reader = reader
        self._group = settings.kafka.group_id
        self._lease = Lease(client, keys.rebuild_lease(self._group))
        self._candidates: dict[RecordId, LostRecord] = {}
        """Records that may be in flight, as long as no outcome of them was read."""

    def run(
        self,
        approve: Callable[[LedgerComparison, int], None],
        checkpoint: Checkpoint = no_checkpoint,
    ) -> RebuildReport | None:
        """Rebuild the ledger; None if nothing is missing.

        Args:
            approve: called with the state and the time from which outcomes are read, before
                anything is written; raises to refuse.
            checkpoint: called at each step.

        Raises:
            RebuildError: workers are alive, another rebuild runs, or Redis has another ledger.
            LedgerLostError: a slot belongs to another ledger.
            ReadError: a topic cannot be read.
            KafkaException: Kafka cannot be used.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        self._refuse_members()
        found = compare(self._settings, self._client, self._reader)
        epoch = self._epoch(found)
        if found.since_ms is None:
            return None
        since_ms = self._from(found)
        approve(found, since_ms)
        if not self._lease.hold():
            raise RebuildError("another `streamer ledger rebuild` is running")
        try:
            return self._rebuild(found, epoch, since_ms, checkpoint)
        finally:
            self._lease.release()

    def _refuse_members(self) -> None:
        members = members_of(self._admin, self._group)
        if members:
            raise RebuildError(
                f"group {self._group} has members: {', '.join(members)}. Stop all workers first; "
                f"one that was killed is a member for some seconds more"
            )

    def _epoch(self, found: LedgerComparison) -> str:
        """The epoch under which the offsets were committed."""
        epochs = found.committed_epochs
        if found.is_another or len(epochs) > 1:
            raise RebuildError(
                f"the ledger in Redis has the epoch {found.epoch}, but offsets were committed "
                f"under {', '.join(sorted(epochs))}: it is another ledger. Check redis.url and "
                f"kafka.group_id"
            )
        if not epochs and found.epoch is None:
            raise RebuildError("there is no ledger yet: no worker has committed an offset")
        return next(iter(epochs), found.epoch or "")

    def _from(self, found: LedgerComparison) -> int:
        if found.pulses.rebuild_since_ms is not None:
            return found.pulses.rebuild_since_ms
        oldest_ms = round(time.time() * 1000) - self._settings.delivery.claims_ttl_s * 1000
        return max(oldest_ms, (found.since_ms or 0) - _MARGIN_MS)

    def _rebuild(
        self, found: LedgerComparison, name: str, since_ms: int, checkpoint: Checkpoint
    ) -> RebuildReport:
        checkpoint("before_begin")
        marker = keys.rebuild(self._group)
        confirmed(self._client, marker, "SET", marker, since_ms)
        checkpoint("begun")
        # From now on none can start. One that started just before has joined by now, or halts.
        self._refuse_members()
        confirmed(self._client, keys.EPOCH, "SET", keys.EPOCH, name, "NX")
        epoch = Epoch(self._client, name)
        reclaimer = Reclaimer(self._client, epoch, self._settings.delivery.claims_ttl_s)
        report = RebuildReport(since_ms)
        self._candidates = {}
        self._read_in_flight(found)
        self._read_parked(since_ms)
        for members in self._outcomes(report):
            changes = self._reclaim(reclaimer, members)
            report.claimed += sum(c in _CHANGES for _, c in changes)
            checkpoint("outcomes")
        self._add_held(Claims(self._client, epoch, self._settings.delivery.claims_ttl_s))
        self._lose(reclaimer, report, checkpoint)
        report.events = self._replay_events(since_ms, checkpoint)
        for slot in {*found.slots, *found.pulses.expected}:
            epoch.restore(slot)
        checkpoint("before_accept")
        self._name_undefined(report)
        accept(self._client, self._group, found.committed_pulse)
        checkpoint("accepted")
        confirmed(self._client, marker, "DEL", marker)
        report.accepted = True
        return report

    # Records in flight

    def _read_in_flight(self, found: LedgerComparison) -> None:
        spans = [
            PartitionRange(
                each.partition,
                each.offset,
                # Earlier versions committed no reach.
                each.end if each.metadata.reach is None else min(each.end, each.metadata.reach),
            )
            for each in found.offsets
            if each.metadata.epoch
        ]
        topic = self._settings.topics.recipients
        for stored in self._reader.read(topic, spans, "records in flight"):
            self._add(stored)

    def _read_parked(self, since_ms: int) -> None:
        """Add the records that were parked since, though they may have been pinned."""
        topic = self._settings.topics.parked
        spans = self._reader.since(topic, self._reader.spans(topic), since_ms)
        for stored in self._reader.read(topic, spans, "parked records"):
            if PARKED_PINNED in stored.decoded_headers:
                self._add(stored)

    def _add(self, stored: StoredRecord) -> None:
        try:
            event = parse(stored.value)
            address = normalise(event.email)
        except (DeadEventError, InvalidAddressError):
            return  # never sent
        source = record_headers.source_id(stored.decoded_headers)
        if source is None or source.topic != self._settings.topics.recipients:
            source = stored.record_id
        self._candidates[source] = LostRecord(
            CampaignName(event.organization_id, event.campaign_id),
            event.recipient_id,
            address,
            replaced_batch(stored.headers),
        )

    def _add_held(self, claims: Claims) -> None:
        """Add the unresolved batches that test holds: they may have been sent as a test since."""
        for ref in self._held():
            batch = claims.load(*ref)
            if batch is None or batch.payload is None:
                continue
            for campaign_id, address in zip(batch.campaigns, batch.addresses, strict=True):
                status = claim_reader.find(self._client, ref.organization, campaign_id, address)
                if status is None or status.claim.batch_id != ref.batch_id:
                    continue
                source = status.claim.record_id
                if source.topic == self._settings.topics.recipients:
                    name = CampaignName(ref.organization, campaign_id)
                    self._candidates.setdefault(source, LostRecord(name, "", address))

    def _held(self) -> Iterator[BatchRef]:
        holds = Holds(self._client)
        for account, state in holds.read(self._settings.accounts).items():
            for domain in state.holds:
                yield from holds.tests(account, domain).batches

    def _lose(self, reclaimer: Reclaimer, report: RebuildReport, checkpoint: Checkpoint) -> None:
        """Claim the records whose fate is unknown."""
        members = [
            (
                lost.campaign.organization,
                KnownRecord(
                    Fate.UNKNOWN,
                    lost.campaign.campaign_id,
                    lost.address,
                    secrets.token_hex(12),
                    record_id,
                    lost.replaces,
                ),
            )
            for record_id, lost in self._candidates.items()
        ]
        for part in _chunks(members, _CHUNK):
            for member, change in self._reclaim(reclaimer, part):
                if change is Change.LOST:
                    lost = self._candidates[member.record_id]
                    report.lost[member.record_id] = lost
                    report.campaigns[lost.campaign] += 1
            checkpoint("lost")

    # Outcomes

    def _outcomes(self, report: RebuildReport) -> Iterator[list[tuple[str, KnownRecord]]]:
        """Yield the outcomes in chunks, each a record with its organization."""
        topic = self._settings.topics.outcomes
        # Up to the very end: an open transaction may be one that is being committed.
        spans = self._reader.spans(topic, include_open_transactions=True)
        spans = self._reader.since(topic, spans, report.since_ms)
        for part in _chunks(self._reader.read(topic, spans, "outcomes"), _CHUNK):
            outcomes = []
            for stored in part:
                try:
                    outcomes.append(read_outcome(stored.value))
                except UnreadableOutcomeError:
                    report.unreadable += 1
            # A retry takes over the claim of an earlier outcome.
            outcomes.sort(key=lambda outcome: outcome.occurred_at)
            members = []
            for outcome in outcomes:
                report.outcomes += 1
                name = CampaignName(outcome.organization_id, outcome.campaign_id)
                report.campaigns[name] += 1
                self._candidates.pop(outcome.record_id, None)
                member = _member(outcome)
                if member is not None:
                    members.append((name.organization, member))
            yield members

    def _replay_events(self, since_ms: int, checkpoint: Checkpoint) -> int:
        """Apply the events since then again, e.g. that recipients unsubscribed; return how many."""
        topic = self._settings.topics.events
        count = 0
        if topic not in partitions_of(self._admin, [topic]):
            return count
        spans = self._reader.since(topic, self._reader.spans(topic), since_ms)
        for part in _chunks(self._reader.read(topic, spans, "events"), _CHUNK):
            if not self._lease.hold():
                raise RebuildError("another `streamer ledger rebuild` has taken over")
            self._apply_events([stored.value for stored in part])
            count += len(part)
            checkpoint("events")
        return count

    def _reclaim(
        self, reclaimer: Reclaimer, members: Iterable[tuple[str, KnownRecord]]
    ) -> Iterator[tuple[KnownRecord, Change]]:
        of: defaultdict[tuple[str, str], list[KnownRecord]] = defaultdict(list)
        for organization, member in members:
            of[organization, member.record_id.topic].append(member)
        for (organization, _), each in of.items():
            for part in _chunks(each, _CALL):
                if not self._lease.hold():
                    raise RebuildError("another `streamer ledger rebuild` has taken over")
                yield from zip(part, reclaimer.reclaim(organization, part), strict=True)

    def _name_undefined(self, report: RebuildReport) -> None:
        report.undefined = sorted(
            name for name in report.campaigns if campaigns.state(self._client, *name) is None
        )


def _member(outcome: PublishedOutcome) -> KnownRecord | None:
    """What is to be claimed because of an outcome; None for an invalid address."""
    try:
        address = normalise(outcome.email)
    except InvalidAddressError:
        return None
    if outcome.status is Status.SENT:
        fate = Fate.SENT
    elif outcome.batch_id is not None or outcome.status is Status.INDETERMINATE:
        fate = Fate.DECIDED
    else:
        fate = Fate.SKIPPED
    known = outcome.batch_id or ""
    batch_id = known if _BATCH_ID.fullmatch(known) else _NEVER
    return KnownRecord(fate, outcome.campaign_id, address, batch_id, outcome.record_id)


_T = TypeVar("_T")


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while part := [*islice(iterator, size)]:
        yield part
