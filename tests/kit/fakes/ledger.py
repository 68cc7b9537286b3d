"""Claims, batches and lookups in memory, as the scripts of `streamer.ledger` keep them.

Nothing expires here: claims and batches live longer in Redis than anything that needs them.
"""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime

from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.claims import Claim, Conflict, Pinned, StoredBatch, TakenOverError
from streamer.ledger.epoch import LedgerLostError
from streamer.ledger.holds import BatchRef
from streamer.ledger.probe import Probe
from streamer.model.payload import Payload
from streamer.model.record import Record
from streamer.model.result import BatchResult, SplitProgress
from tests.kit.fakes.clock import FakeClock
from tests.kit.fakes.faults import CallFaults, remote

_UNDEFINED = CampaignProbe(None, None)


@dataclass(slots=True)
class _LedgerBatch:
    """What is stored of a batch. A resolved one has but its account and its result, an unpinned one
    not even an account."""

    account: str | None = None
    sender: str = ""
    payload: Payload | None = None
    result: BatchResult | None = None
    campaigns: tuple[str, ...] = ()
    expires_at: datetime | None = None
    pinned_ms: int | None = None
    owner: str | None = None
    split_progress: SplitProgress = field(default_factory=SplitProgress)
    unsure: bool = False
    deferred: bool = False
    unpinned: bool = False


class FakeLedger:
    """Stands in for `Claims` and `Probes` of all workers.

    Attributes:
        campaigns: what a lookup finds of the campaigns, by organization and campaign.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.faults = CallFaults()
        self.campaigns: dict[tuple[str, str], CampaignProbe] = {}
        self._clock = clock
        self._suppressed: defaultdict[str, set[str]] = defaultdict(set)
        self._claims: dict[tuple[str, str, str], Claim] = {}
        self._batches: dict[BatchRef, _LedgerBatch] = {}
        self._lost: set[str] = set()

    def suppress(self, organization: str, *addresses: str) -> None:
        """Add addresses to the organization's suppression set."""
        self._suppressed[organization].update(addresses)

    def lose(self, organization: str) -> None:
        """Lose all that is known of an organization, its epoch too."""
        self._lost.add(organization)

    def forget(self, ref: BatchRef) -> None:
        """Let a batch expire before its claims, which later ones of their bucket keep alive."""
        del self._batches[ref]

    @property
    def batches(self) -> list[BatchRef]:
        """All batches, those that were unpinned too."""
        return list(self._batches)

    @remote
    def of(self, organization: str, records: Sequence[Record]) -> Probe:
        assert records, "the script needs at least one"
        self._check_epoch(organization)
        suppressed = self._suppressed[organization]
        claims = {
            position: claim
            for position, record in enumerate(records)
            if (claim := self._claims.get(_place(organization, record))) is not None
            and claim.batch_id != record.replaces
        }
        return Probe(
            frozenset(
                p for p, record in enumerate(records) if (record.address or "") in suppressed
            ),
            claims,
            {
                each: self.campaigns.get((organization, each), _UNDEFINED)
                for each in dict.fromkeys(record.campaign_id for record in records)
            },
        )

    @remote
    def pin(
        self,
        organization: str,
        batch_id: str,
        account: str,
        sender: str,
        records: Sequence[Record],
        payload: Payload,
        expires_at: datetime | None = None,
    ) -> Pinned | Conflict:
        self._check_epoch(organization)
        ref = BatchRef(organization, batch_id)
        known = self._batches.get(ref)
        if known is not None:
            if known.owner is not None or known.result is not None:
                raise TakenOverError
            return Pinned()
        suppressed = frozenset(
            item
            for item, record in enumerate(records)
            if record.required_address in self._suppressed[organization]
        )
        claims = {}
        for item, record in enumerate(records):
            claim = self._claims.get(_place(organization, record))
            if claim is not None and not (record.replaces and claim.batch_id == record.replaces):
                claims[item] = claim
        if suppressed or claims:
            return Conflict(suppressed, claims)
        for item, record in enumerate(records):
            claim = Claim(batch_id, item, record.record_id)
            self._claims[_place(organization, record)] = claim
        self._batches[ref] = _LedgerBatch(
            account,
            sender,
            payload,
            campaigns=tuple(record.campaign_id for record in records),
            expires_at=None if expires_at is None else _rounded(expires_at),
            pinned_ms=self._ms(),
        )
        return Pinned()

    @remote
    def load(self, organization: str, batch_id: str) -> StoredBatch | None:
        batch = self._batch(organization, batch_id)
        if batch.account is None and not batch.unpinned:
            return None
        return StoredBatch(
            batch.payload,
            deepcopy(batch.result),
            batch.account or "",
            batch.sender,
            self._age_s(batch),
            deepcopy(batch.split_progress),
            batch.deferred,
            batch.unpinned,
            batch.campaigns,
            batch.expires_at,
        )

    @remote
    def adopt(self, organization: str, batch_id: str, owner: str) -> StoredBatch | None:
        batch = self._batch(organization, batch_id)
        if batch.payload is not None and batch.owner != owner:
            if batch.deferred:
                batch.deferred = False
                batch.pinned_ms = self._ms()
            else:
                batch.unsure = True
            batch.owner = owner
        if batch.account is None:
            return None
        return StoredBatch(
            batch.payload,
            deepcopy(batch.result),
            batch.account,
            batch.sender,
            self._age_s(batch),
            deepcopy(batch.split_progress),
        )

    @remote
    def own(
        self,
        organization: str,
        batch_id: str,
        owner: str,
        split_progress: SplitProgress | None = None,
    ) -> None:
        batch = self._batch(organization, batch_id)
        if (batch.owner or "") != owner or batch.payload is None:
            raise TakenOverError
        if split_progress is not None:
            batch.split_progress = deepcopy(split_progress)

    @remote
    def defer(self, organization: str, batch_id: str, owner: str) -> bool:
        batch = self._batch(organization, batch_id)
        if (batch.owner or "") != owner or batch.unsure or batch.payload is None:
            return False
        batch.deferred = True
        return True

    @remote
    def unpin(self, organization: str, batch_id: str, batch: StoredBatch) -> bool:
        known = self._batch(organization, batch_id)
        if known.unpinned:
            return True
        if not known.deferred:
            return False
        for campaign, address in zip(batch.campaigns, batch.addresses, strict=True):
            claim = self._claims.get((organization, campaign, address))
            if claim is not None and claim.batch_id == batch_id:
                del self._claims[organization, campaign, address]
        self._batches[BatchRef(organization, batch_id)] = _LedgerBatch(unpinned=True)
        return True

    @remote
    def resolve(
        self, organization: str, batch_id: str, owner: str, result: BatchResult
    ) -> BatchResult | None:
        batch = self._batch(organization, batch_id)
        if batch.result is not None:
            return deepcopy(batch.result)
        if batch.payload is None:
            return None
        if (batch.owner or "") != owner:
            raise TakenOverError
        kept = _LedgerBatch(account=batch.account, result=deepcopy(result))
        self._batches[BatchRef(organization, batch_id)] = kept
        return result

    def _batch(self, organization: str, batch_id: str) -> _LedgerBatch:
        self._check_epoch(organization)
        return self._batches.get(BatchRef(organization, batch_id), _LedgerBatch())

    def _check_epoch(self, organization: str) -> None:
        if organization in self._lost:
            raise LedgerLostError(f"the ledger lost {organization}")

    def _age_s(self, batch: _LedgerBatch) -> float:
        now = self._ms()
        return max(0, now - (now if batch.pinned_ms is None else batch.pinned_ms)) / 1000

    def _ms(self) -> int:
        return self._clock.us // 1000


def _place(organization: str, record: Record) -> tuple[str, str, str]:
    return organization, record.campaign_id, record.address or ""


def _rounded(at: datetime) -> datetime:
    return datetime.fromtimestamp(round(at.timestamp() * 1000) / 1000, UTC)
