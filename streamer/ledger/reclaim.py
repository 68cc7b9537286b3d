"""Claims records again in a ledger that has forgotten them, when it is rebuilt from Kafka."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.claims import claim_field
from streamer.ledger.compact import write_record
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import GuardedScript
from streamer.model.record import RecordId


class Fate(StrEnum):
    """What Kafka knows of a record; `reclaim.lua` says what follows from it."""

    SENT = "sent"
    DECIDED = "decided"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class Change(StrEnum):
    """What became of a record's claim."""

    KEPT = "kept"
    CLAIMED = "claimed"
    REMOVED = "removed"
    LOST = "lost"
    """Its fate is unknown: it ends as `ledger_lost`."""


class KnownRecord(NamedTuple):
    """A record with a valid address.

    Attributes:
        address: normalised.
        batch_id: the batch to claim it for; for `Fate.UNKNOWN`, one that does not exist.
        replaces: for a retry, the failed batch whose claim it may take over; else empty.
    """

    fate: Fate
    campaign_id: str
    address: str
    batch_id: str
    record_id: RecordId
    replaces: str = ""


class Reclaimer:
    """Claims records again. Each call may be repeated."""

    def __init__(self, client: Client, epoch: Epoch, ttl_s: int) -> None:
        self._epoch = epoch
        self._ttl_s = ttl_s
        self._script = GuardedScript(client, epoch, "reclaim", is_confirmed=True)

    def reclaim(self, organization: str, members: Sequence[KnownRecord]) -> list[Change]:
        """Claim records of one organization, all of one topic, in this order.

        When it returns, that is confirmed.

        Raises:
            LedgerLostError: the slot belongs to another ledger.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        slot_epoch = keys.organization_epoch(organization)
        self._epoch.restore(slot_epoch)
        lines = (f"{m.fate}\t{m.campaign_id}\t{m.replaces}\t{m.record_id}\n" for m in members)
        reply = self._script(
            slot_epoch,
            [keys.older_claims(slot_epoch)],
            [
                keys.claims(organization),
                keys.batch(organization, ""),
                keys.result(organization, ""),
                members[0].record_id.topic,
                self._ttl_s,
                "".join(lines),
                b"".join(claim_field(member.address) for member in members),
                b"".join(bytes.fromhex(member.batch_id) for member in members),
                b"".join(write_record(member.record_id) for member in members),
            ],
        )
        return [Change(word.decode()) for word in cast(list[bytes], reply[1])]
