"""Claims and pinned batches: who was mailed, with which bytes, and what came of it.

A claim says which batch carries an address of a campaign. Claims lie in hashes of a few hundred
fields, which Redis keeps in its compact form: a bucket for each value of the first 13 bits of
the address' hash. One script pins: it claims all members of a batch and keeps the request's
exact bytes, or writes nothing. From then on nothing else may ever be sent to them.
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
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import Argument, GuardedScript, Reply
from streamer.model.payload import Payload
from streamer.model.record import Record
from streamer.model.result import BatchResult, ItemResult, SplitProgress

BUCKETS = 8192
_ID_BYTES = 12
_UNPINNED_TTL_S = 86_400
_LOADED = 9
"""What `load` answers of a batch, of which `adopt` answers the first."""
_COMPRESSION_LEVEL = 1
_compressor = zstandard.ZstdCompressor(_COMPRESSION_LEVEL)
_compressing = Lock()  # one at a time; each thread's own compressor would take a megabyte


class Claim(NamedTuple):
    """Whose an address is: a record's, as an item of a batch."""

    batch_id: str
    item: int
    record_id: str

    def is_of(self, record: Record) -> bool:
        """Whether this very record made the claim, perhaps before a crash."""
        return self.record_id == str(record.record_id)


@dataclass(frozen=True, slots=True)
class Pinned:
    """The pin was made."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Nothing was pinned: these members, by their indexes, are suppressed or claimed already."""

    suppressed: frozenset[int]
    claims: Mapping[int, Claim]


class TakenOverError(StreamerError):
    """The batch has another owner now: let go of it, and read its result later."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch as it is kept: with its mails until it is resolved, then with its result.

    Attributes:
        sender: the sender's domain.
        split_progress: what its owners learned of its parts.
        deferred: whether it is not being sent, and Resend has nothing of it.
        unpinned: whether its members are claimed no more.
        campaigns: of its mails, in their order; empty once it is resolved.
        expires_at: when the first of its mails expires; None if none does.
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
        """The normalised addresses that its mails go to, in their order."""
        mails = [] if self.payload is None else self.payload.mails()
        return [orjson.loads(mail)["to"][0] for mail in mails]


class Claims:
    """The claims and batches of all organizations."""

    def __init__(self, client: Client, epoch: Epoch, ttl_s: int) -> None:
        self._client = client
        self._ttl_s = ttl_s
        self._pin = GuardedScript(client, epoch, "pin")
        self._load = GuardedScript(client, epoch, "load")
        self._adopt = GuardedScript(client, epoch, "adopt")
        self._defer = GuardedScript(client, epoch, "defer")
        self._own = GuardedScript(client, epoch, "own")
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
        """Claim the records' addresses and keep the payload, all or nothing, not one suppressed.

        After an error of Redis the pin may have been made or not: pin the same again, under the
        same batch id. A batch id is for one payload, for ever.

        Raises:
            TakenOverError: an earlier call pinned it, and somebody adopted it since.
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
        """Take a batch over, to send it again; None if the ledger does not have it.

        Its age starts anew if it was laid down.

        Args:
            owner: a name that no other adoption has.
        """
        return _read_batch(self._run(self._adopt, organization, batch_id, owner))

    def own(
        self,
        organization: str,
        batch_id: str,
        owner: str,
        split_progress: SplitProgress | None = None,
    ) -> None:
        """Check that a batch is still this owner's, and keep what it learned, if anything.

        Args:
            owner: as it was adopted; empty for who pinned it; so below.

        Raises:
            TakenOverError: it is not, or has a result.
        """
        text = b"" if split_progress is None else _write_split_progress(split_progress)
        if self._run(self._own, organization, batch_id, owner, text)[0] != b"owned":
            raise TakenOverError

    def defer(self, organization: str, batch_id: str, owner: str) -> bool:
        """Lay a batch down, all of whose calls by this owner were refused for certain.

        True if nobody else can have sent it: its members may be decided about anew.
        """
        return self._run(self._defer, organization, batch_id, owner)[0] == b"clean"

    def unpin(self, organization: str, batch_id: str, batch: StoredBatch) -> bool:
        """Take the claims of a batch back that is laid down; False if it is not any more."""
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
        """Store the result unless there is one, and return what is stored; the first writer wins.

        None if the ledger does not have the batch.

        Raises:
            TakenOverError: it is not this owner's any more, and has no result yet.
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
    """What stands for a normalised address in the claims."""
    return blake2b(address.encode(), digest_size=_ID_BYTES).digest()


def claim_location(organization: str, campaign_id: str, address: str) -> tuple[str, bytes]:
    """The key of the hash and the field where an address of a campaign is claimed."""
    field = claim_field(address)
    bucket = (field[0] * 256 + field[1]) % BUCKETS
    return f"{keys.claims_prefix(organization)}{campaign_id}:{bucket}", field


def read_claim(value: bytes) -> Claim:
    """Read a claim as it is stored."""
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
    # With the lengths, each mail's exact bytes can be had again, also to send fewer of them.
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
    # What was kept before there was the last one is read too.
    rejected, parts, attempts, unsure = fields if len(fields) == 4 else (*fields, [])
    items = {suffix: [ItemResult(*item) for item in part] for suffix, part in parts.items()}
    return SplitProgress(set(rejected), items, attempts, set(unsure))


def read_result(stored: bytes) -> BatchResult:
    """Read a batch's result as it is stored."""
    attempts, items = orjson.loads(zstandard.decompress(stored))
    return BatchResult(attempts, [ItemResult(word, text) for word, text in items])
