"""Claims and pinned batches: which addresses were mailed, with which bytes, and the results.

A claim maps an address of a campaign to the batch that carries it; see `claimed.lua` for how it is
stored. One script pins a batch: it claims all members and stores the exact bytes of the request, or
writes nothing. From then on nothing else may be sent to these members.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from operator import attrgetter
from typing import NamedTuple, cast

import orjson
import zstandard

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.compact import (
    compress,
    read_record,
    read_result,
    write_record,
    write_result,
)
from streamer.ledger.confirming import Argument
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import GuardedScript, Reply
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult, SplitProgress

_record_id: Callable[[Record], RecordId] = attrgetter("record_id")
_campaign_id: Callable[[Record], str] = attrgetter("campaign_id")
_ID_BYTES = 12
_OLDER_BUCKETS = 8192
"""The number of hashes in which earlier versions kept a campaign's claims."""
_UNPINNED_TTL_S = 86_400
_LOADED = 9
"""The number of fields returned by `load`; `adopt` returns the first few of them."""


class Claim(NamedTuple):
    """The record that has claimed an address, as an item of a batch."""

    batch_id: str
    item: int
    record_id: RecordId

    def is_of(self, record: Record) -> bool:
        """Whether this record made the claim, possibly before a crash."""
        return self.record_id == record.record_id


@dataclass(frozen=True, slots=True)
class Pinned:
    """The batch was pinned."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing was pinned: the members at these indexes are suppressed or already claimed."""

    suppressed: frozenset[int]
    claims: Mapping[int, Claim]


class TakenOverError(StreamerError):
    """Another worker owns the batch now: stop sending it, and read its result later."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch in the ledger: it has a payload until it is resolved, then a result.

    Attributes:
        sender: the sender's domain; empty once resolved.
        age_s: seconds since it was pinned, or adopted after it was deferred; 0 once resolved.
        split_progress: what its owners learned of its parts.
        deferred: whether it is not being sent and Resend has nothing of it.
        unpinned: whether its members are no longer claimed.
        campaigns: the campaign of each mail, in order; empty once resolved.
        expires_at: the earliest expiry time of its mails; None if none expires.
    """

    payload: Payload | None
    result: BatchResult | None
    account: str
    sender: str
    age_s: float
    split_progress: SplitProgress
    deferred: bool = False
    unpinned: bool = False
    campaigns: tuple[str, ...] = ()
    expires_at: datetime | None = None

    @property
    def addresses(self) -> list[str]:
        """The normalised recipient address of each mail, in order."""
        mails = [] if self.payload is None else self.payload.mails()
        return [orjson.loads(mail)["to"][0] for mail in mails]


class Claims:
    """The claims and batches of all organizations."""

    def __init__(self, client: Client, epoch: Epoch, ttl_s: int) -> None:
        self._client = client
        self._ttl_s = ttl_s
        self._pin = GuardedScript(client, epoch, "pin", is_confirmed=True)
        self._load = GuardedScript(client, epoch, "load")
        self._adopt = GuardedScript(client, epoch, "adopt", is_confirmed=True)
        self._defer = GuardedScript(client, epoch, "defer", is_confirmed=True)
        self._own = GuardedScript(client, epoch, "own", is_confirmed=True)
        self._unpin = GuardedScript(client, epoch, "unpin")
        self._resolve = GuardedScript(client, epoch, "resolve")

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
        """Atomically claim the records' addresses, none of them suppressed, and store the payload.

        When it returns, that is confirmed, like what `adopt`, `own` and `defer` do. After a Redis
        error the batch may or may not be pinned: pin the same payload again under the
        same batch id. A batch id must never be used for another payload.

        Args:
            records: all of the same topic.

        Raises:
            TakenOverError: an earlier call pinned the batch, and it was adopted since.
        """
        addresses = [record.required_address for record in records]
        members = "".join(
            f"{record.campaign_id}\t{address}\t{record.replaces}\n"
            for record, address in zip(records, addresses, strict=True)
        )
        slot_epoch = keys.organization_epoch(organization)
        args: list[Argument] = [
            keys.claims(organization),
            bytes.fromhex(batch_id),
            members,
            b"".join(map(claim_field, addresses)),
            records[0].record_id.topic,
            b"".join(map(write_record, map(_record_id, records))),
            _pack(payload),
            account,
            self._ttl_s,
            sender,
            "\n".join(map(_campaign_id, records)),
            "" if expires_at is None else round(expires_at.timestamp() * 1000),
        ]
        key_names = [
            keys.suppressed(organization),
            keys.batch(organization, batch_id),
            keys.result(organization, batch_id),
            keys.older_claims(slot_epoch),
        ]
        reply = self._pin(slot_epoch, key_names, args)
        if reply[0] == b"pinned":
            return Pinned()
        if reply[0] == b"taken over":
            raise TakenOverError
        flat = cast(list[object], reply[2])
        claims = {
            cast(int, index): read_claim(cast(bytes, value))
            for index, value in zip(flat[::2], flat[1::2], strict=True)
        }
        return Conflict(frozenset(cast(list[int], reply[1])), claims)

    def load(self, organization: str, batch_id: str) -> StoredBatch | None:
        """Read a batch; None if the ledger does not have it."""
        return _read_batch(self._run(self._load, organization, batch_id))

    def adopt(self, organization: str, batch_id: str, owner: str) -> StoredBatch | None:
        """Adopt a batch in order to send it again; None if the ledger does not have it.

        The age of a deferred batch restarts.

        Args:
            owner: a name unique to this adoption.
        """
        return _read_batch(self._run(self._adopt, organization, batch_id, owner))

    def own(
        self,
        organization: str,
        batch_id: str,
        owner: str,
        split_progress: SplitProgress | None = None,
    ) -> None:
        """Check that `owner` still owns a batch, and store its split progress, if any.

        Args:
            owner: the name given to `adopt`; empty for the worker that pinned the batch. The
                other methods take it in the same way.

        Raises:
            TakenOverError: another owner has adopted the batch, or it has a result.
        """
        text = b"" if split_progress is None else _write_split_progress(split_progress)
        if self._run(self._own, organization, batch_id, owner, text)[0] != b"owned":
            raise TakenOverError

    def defer(self, organization: str, batch_id: str, owner: str) -> bool:
        """Defer a batch all of whose calls by this owner were rejected for certain.

        Returns True if no other owner can have sent it: its members may be decided anew.
        """
        return self._run(self._defer, organization, batch_id, owner)[0] == b"clean"

    def unpin(self, organization: str, batch_id: str, batch: StoredBatch) -> bool:
        """Remove the claims of a deferred batch; False if it is no longer deferred."""
        reply = self._run(
            self._unpin,
            organization,
            batch_id,
            keys.claims(organization),
            bytes.fromhex(batch_id),
            "".join(f"{campaign}\n" for campaign in batch.campaigns),
            b"".join(map(claim_field, batch.addresses)),
            _UNPINNED_TTL_S,
        )
        return reply[0] == b"unpinned"

    def resolve(
        self, organization: str, batch_id: str, owner: str, result: BatchResult
    ) -> BatchResult | None:
        """Store the result unless there is one, and return the stored one; the first writer wins.

        Returns None if the ledger does not have the batch.

        Raises:
            TakenOverError: another owner has adopted the batch, and it has no result yet.
        """
        reply = self._run(
            self._resolve, organization, batch_id, owner, write_result(result), self._ttl_s
        )
        if reply[0] == b"stored":
            return result
        if reply[0] == b"taken over":
            raise TakenOverError
        if reply[0] == b"lost":
            return None
        stored = cast(bytes, reply[1])
        return read_result(stored) if reply[0] == b"result" else read_resolved(stored).result

    def _run(
        self, script: GuardedScript, organization: str, batch_id: str, *args: Argument
    ) -> Reply:
        slot_epoch = keys.organization_epoch(organization)
        key_names = [
            keys.batch(organization, batch_id),
            keys.result(organization, batch_id),
            keys.older_claims(slot_epoch),
        ]
        return script(slot_epoch, key_names, [*args])


@lru_cache(maxsize=4096)  # asked when a record is probed, and again when it is pinned
def claim_field(address: str) -> bytes:
    """Return the hash field under which a normalised address is claimed."""
    return blake2b(address.encode(), digest_size=_ID_BYTES).digest()


def claim_keys(client: Client, organization: str, campaign_id: str) -> list[str]:
    """Return the keys of all claims of a campaign, ending with the one that leads to the others."""
    head = keys.claims(organization, campaign_id)
    buckets = int.from_bytes(cast(bytes, client.getrange(head, 0, 3)), "big")
    older = f"{keys.older_claims(keys.organization_epoch(organization))}:{campaign_id}"
    return [
        *(f"{older}:{number}" for number in range(_OLDER_BUCKETS)),
        *(f"{head}/{number}" for number in range(buckets)),
        head,
    ]


def read_claim(value: bytes) -> Claim:
    """Parse a claim, as the scripts return it."""
    record_id = read_record(value[_ID_BYTES + 1 :])
    return Claim(value[:_ID_BYTES].hex(), value[_ID_BYTES], record_id)


class ResolvedBatch(NamedTuple):
    """What the ledger keeps of a batch with a result.

    Attributes:
        pinned_at: when it was pinned, or adopted after it was deferred.
    """

    account: str
    pinned_at: datetime
    result: BatchResult


def read_resolved(stored: bytes) -> ResolvedBatch:
    """Parse what is stored of a resolved batch."""
    account, pinned_at, result = stored.split(b"\n", 2)
    return ResolvedBatch(account.decode(), read_time(pinned_at), read_result(result))


def read_time(ms: bytes) -> datetime:
    """Parse a time in ms since 1970."""
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _read_batch(reply: Reply) -> StoredBatch | None:
    if reply[0] == b"resolved":
        account_name, _, its_result = read_resolved(cast(bytes, reply[1]))
        return StoredBatch(None, its_result, account_name, "", 0.0, SplitProgress())
    age_ms = cast(int, reply[1])
    found = cast(list[bytes | None], reply[2:])
    found += [None] * (_LOADED - len(found))
    body, result, account, sender, split_progress, deferred, unpinned, campaigns, expires_at = found
    if account is None and unpinned is None:
        return None
    return StoredBatch(
        payload=None if body is None else _unpack(body),
        result=None if result is None else read_result(result),
        account=(account or b"").decode(),
        sender=(sender or b"").decode(),
        age_s=age_ms / 1000,
        split_progress=_read_split_progress(split_progress),
        deferred=deferred is not None,
        unpinned=unpinned is not None,
        campaigns=tuple(campaigns.decode().split("\n")) if campaigns else (),
        expires_at=None if expires_at is None else read_time(expires_at),
    )


def _pack(payload: Payload) -> bytes:
    # The lengths allow each mail's exact bytes to be restored, e.g. to send only some of them.
    lengths = struct.pack(f"<H{len(payload)}I", len(payload), *payload.lengths)
    return lengths + compress(payload.body)


def _unpack(stored: bytes) -> Payload:
    (count,) = struct.unpack_from("<H", stored)
    lengths = list(struct.unpack_from(f"<{count}I", stored, 2))
    return Payload.restored(zstandard.decompress(stored[2 + 4 * count :]), lengths)


def _write_split_progress(split_progress: SplitProgress) -> bytes:
    parts = {
        suffix: [tuple(item) for item in items] for suffix, items in split_progress.parts.items()
    }
    fields = [
        sorted(split_progress.rejected),
        parts,
        split_progress.attempts,
        sorted(split_progress.unsure),
    ]
    return compress(orjson.dumps(fields))


def _read_split_progress(stored: bytes | None) -> SplitProgress:
    if stored is None:
        return SplitProgress()
    fields = orjson.loads(zstandard.decompress(stored))
    # Earlier versions stored no `unsure`.
    rejected, parts, attempts, unsure = fields if len(fields) == 4 else (*fields, [])
    items = {suffix: [ItemResult(*item) for item in part] for suffix, part in parts.items()}
    return SplitProgress(set(rejected), items, attempts, set(unsure))
