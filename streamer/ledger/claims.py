"""Claims and pinned batches: which addresses were mailed, with which bytes, and the results.

A claim maps an address of a campaign to the batch that carries it. Claims are stored in hashes of a
few hundred fields each, which Redis keeps in its compact encoding: one of 8192 buckets, chosen by
13 bits of the address' hash. One script pins a batch: it claims all members and stores the exact
bytes of the request, or writes nothing. From then on nothing else may be sent to these members.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from threading import Lock
from typing import NamedTuple, cast

import orjson
import zstandard

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.confirming import Argument
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import GuardedScript, Reply
from streamer.model.payload import Payload
from streamer.model.record import Record
from streamer.model.result import BatchResult, ItemResult, SplitProgress

BUCKETS = 8192
_ID_BYTES = 12
_UNPINNED_TTL_S = 86_400
_LOADED = 9
"""The number of fields returned by `load`; `adopt` returns the first few of them."""
_COMPRESSION_LEVEL = 1
_compressor = zstandard.ZstdCompressor(_COMPRESSION_LEVEL)
_compressing = Lock()  # shared: a compressor per thread would take 1 MB each


class Claim(NamedTuple):
    """The record that has claimed an address, as an item of a batch."""

    batch_id: str
    item: int
    record_id: str

    def is_of(self, record: Record) -> bool:
        """Whether this record made the claim, possibly before a crash."""
        return self.record_id == str(record.record_id)


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
        sender: the sender's domain.
        age_s: seconds since it was pinned, or adopted after it was deferred.
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

        Raises:
            TakenOverError: an earlier call pinned the batch, and it was adopted since.
        """
        addresses = [record.required_address for record in records]
        members = "".join(
            f"{record.campaign_id}\t{address}\t{record.record_id}\t{record.replaces}\n"
            for record, address in zip(records, addresses, strict=True)
        )
        args: list[Argument] = [
            keys.claims_prefix(organization),
            bytes.fromhex(batch_id),
            members,
            b"".join(map(claim_field, addresses)),
            _pack(payload),
            account,
            self._ttl_s,
            sender,
            "\n".join(record.campaign_id for record in records),
            "" if expires_at is None else round(expires_at.timestamp() * 1000),
        ]
        reply = self._pin(
            keys.organization_epoch(organization),
            [keys.suppressed(organization), keys.batch(organization, batch_id)],
            args,
        )
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
            keys.claims_prefix(organization),
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
            self._resolve, organization, batch_id, owner, _write_result(result), self._ttl_s
        )
        if reply[0] == b"stored":
            return result
        if reply[0] == b"taken over":
            raise TakenOverError
        return None if reply[0] == b"lost" else read_result(cast(bytes, reply[1]))

    def _run(
        self, script: GuardedScript, organization: str, batch_id: str, *args: Argument
    ) -> Reply:
        return script(
            keys.organization_epoch(organization), [keys.batch(organization, batch_id)], [*args]
        )


def claim_field(address: str) -> bytes:
    """Return the hash field under which a normalised address is claimed."""
    return blake2b(address.encode(), digest_size=_ID_BYTES).digest()


def claim_location(organization: str, campaign_id: str, address: str) -> tuple[str, bytes]:
    """Return the hash key and field under which an address of a campaign is claimed."""
    field = claim_field(address)
    bucket = (field[0] * 256 + field[1]) % BUCKETS
    return f"{keys.claims_prefix(organization)}{campaign_id}:{bucket}", field


def read_claim(value: bytes) -> Claim:
    """Parse a stored claim."""
    return Claim(value[:_ID_BYTES].hex(), value[_ID_BYTES], value[_ID_BYTES + 1 :].decode())


def _read_batch(reply: Reply) -> StoredBatch | None:
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
        expires_at=None if expires_at is None else _time(expires_at),
    )


def _time(ms: bytes) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)


def _pack(payload: Payload) -> bytes:
    # The lengths allow each mail's exact bytes to be restored, e.g. to send only some of them.
    lengths = struct.pack(f"<H{len(payload)}I", len(payload), *payload.lengths)
    return lengths + _compress(payload.body)


def _unpack(stored: bytes) -> Payload:
    (count,) = struct.unpack_from("<H", stored)
    lengths = list(struct.unpack_from(f"<{count}I", stored, 2))
    return Payload.restored(zstandard.decompress(stored[2 + 4 * count :]), lengths)


def _compress(plain: bytes) -> bytes:
    with _compressing:
        return _compressor.compress(plain)


def _write_result(result: BatchResult) -> bytes:
    return _compress(orjson.dumps([result.attempts, [tuple(item) for item in result.items]]))


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
    return _compress(orjson.dumps(fields))


def _read_split_progress(stored: bytes | None) -> SplitProgress:
    if stored is None:
        return SplitProgress()
    fields = orjson.loads(zstandard.decompress(stored))
    # Earlier versions stored no `unsure`.
    rejected, parts, attempts, unsure = fields if len(fields) == 4 else (*fields, [])
    items = {suffix: [ItemResult(*item) for item in part] for suffix, part in parts.items()}
    return SplitProgress(set(rejected), items, attempts, set(unsure))


def read_result(stored: bytes) -> BatchResult:
    """Parse a batch's stored result."""
    attempts, items = orjson.loads(zstandard.decompress(stored))
    return BatchResult(attempts, [ItemResult(word, text) for word, text in items])
