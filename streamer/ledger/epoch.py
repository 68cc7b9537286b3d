"""The ledger's epoch: how a ledger that was lost is told from one that is new.

A ledger that forgot its claims would let every recipient be mailed again. So the ledger has a
random name, its epoch, kept in Redis and, out of Redis' reach, in the metadata of the offset
commits. Each hash slot that the scripts use carries a copy, which they check; which slots have one
is kept too, as in a cluster one node alone may lose what it had.
"""

import secrets
from collections.abc import Iterable

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.connection import Client


class LedgerLostError(StreamerError):
    """Redis does not hold the claims that it should: nothing may be sent any more."""


class Epoch:
    """The epoch that this worker relies on."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._unlisted = f"{name}, not listed yet"
        self._client = client

    @classmethod
    def establish(cls, client: Client, committed: Iterable[str]) -> "Epoch":
        """Find the ledger's epoch, or give it one if it is new.

        Args:
            committed: the epochs in the metadata of the group's committed offsets.

        Raises:
            LedgerLostError: offsets were committed under another epoch than Redis holds.
        """
        known = set(committed)
        found = _read(client)
        if found is None and not known:
            client.set(keys.EPOCH, secrets.token_hex(8), nx=True)
            found = _read(client)
        if found is None or known - {found}:
            raise _lost(keys.EPOCH, found, known)
        return cls(client, found)

    def verify(self, committed: Iterable[str] = ()) -> None:
        """Check Redis, and what further offsets' metadata says.

        Raises:
            LedgerLostError: one of them names another epoch, or Redis none.
        """
        found = _read(self._client)
        if found != self.name or set(committed) - {self.name}:
            raise _lost(keys.EPOCH, found, {self.name, *committed})

    def verify_new(self, slot_key: str) -> None:
        """Check that a slot, which a script found without the epoch, never had one.

        Such a slot holds no claims.

        Raises:
            LedgerLostError: see `verify`; or the slot had the epoch, or has another.
        """
        self.verify()
        # In this order: another worker may be writing it right now.
        had_it = self._client.sismember(keys.EPOCH_SLOTS, slot_key)
        found = _read(self._client, slot_key)
        if found in (self.name, self._unlisted):
            return
        if had_it or found is not None:
            raise _lost(slot_key, found, {self.name})

    def spread(self, slot_key: str) -> None:
        """Write the epoch to a slot that a script found without it.

        Raises:
            LedgerLostError: see `verify_new`.
        """
        self.verify_new(slot_key)
        # Listed before scripts can use it, else one that was lost could be taken for new; and
        # there before it is listed, else one that is being made could be taken for lost.
        self._client.set(slot_key, self._unlisted, nx=True)
        self._client.sadd(keys.EPOCH_SLOTS, slot_key)
        self._client.set(slot_key, self.name, xx=True)


def _read(client: Client, key: str = keys.EPOCH) -> str | None:
    found = client.get(key)
    return found.decode() if isinstance(found, bytes) else None


def _lost(key: str, found: str | None, known: set[str]) -> LedgerLostError:
    names = ", ".join(sorted(known))
    is_lost_slot = key != keys.EPOCH and found is None
    mend = f"DEL {keys.EPOCH_SLOTS}" if is_lost_slot else f"SET {key} to the epoch of the offsets"
    return LedgerLostError(
        f"the ledger in Redis was lost or replaced: its epoch, {key}, is {found or 'missing'}, the "
        f"committed offsets were written under {names}. Nothing is sent. Restore Redis from its "
        f"append-only file or a replica, then start again. Only if you accept that recipients "
        f"whose mail was sent but not yet committed may get it twice: {mend}."
    )
