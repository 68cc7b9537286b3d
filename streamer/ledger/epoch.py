"""The ledger's epoch, which distinguishes a lost ledger from a new one.

If the ledger lost its claims, every recipient could be mailed again. The epoch is a random name of
the ledger, stored in Redis and, outside of Redis, in the metadata of the offset commits. Each hash
slot used by the scripts has a copy, which they check. The list of slots that have one is stored
too, because in a cluster a single node may lose its data.
"""

import secrets
from collections.abc import Iterable

from streamer.errors import StreamerError
from streamer.ledger import keys
from streamer.ledger.confirming import confirmed
from streamer.ledger.connection import Client

_LAYOUT = "layout 2"


class LedgerLostError(StreamerError):
    """Redis does not have the claims it should have: nothing more may be sent."""


class Epoch:
    """The ledger epoch that this worker relies on.

    Attributes:
        in_slots: its form in the slots that this version uses.
        used: the epoch keys of the slots that scripts have used since the pulse was last raised;
            any thread may add to it.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self.in_slots = f"{name}, {_LAYOUT}"
        self._unlisted = f"{name}, not listed yet"
        self._client = client
        self.used: set[str] = set()

    @classmethod
    def establish(cls, client: Client, committed: Iterable[str]) -> "Epoch":
        """Read the ledger's epoch, or create one for a new ledger.

        Args:
            committed: the epochs in the metadata of the group's committed offsets.

        Raises:
            LedgerLostError: offsets were committed under an epoch other than the one in Redis.
        """
        known = set(committed)
        if not known:
            # Confirmed, like the others below: if the epoch was forgotten after offsets were
            # committed under it, the ledger would count as lost.
            confirmed(client, keys.EPOCH, "SET", keys.EPOCH, secrets.token_hex(8), "NX")
        found = _read(client)
        if found is None or known - {found}:
            raise _lost(keys.EPOCH, found, known)
        return cls(client, found)

    def verify(self, committed: Iterable[str] = ()) -> None:
        """Check the epoch in Redis, and those in the metadata of further committed offsets.

        Raises:
            LedgerLostError: one of them differs, or Redis has none.
        """
        known = {self.name, *committed}
        found = _read(self._client)
        if found != self.name or known - {self.name}:
            raise _lost(keys.EPOCH, found, known)

    def verify_new(self, slot_key: str) -> bool:
        """Check that a slot in which a script did not find the epoch never had it.

        Returns:
            Whether an earlier version used the slot. If not, it contains no claims.

        Raises:
            LedgerLostError: as for `verify`; or the slot once had the epoch, or has another one.
        """
        self.verify()
        # The order matters: another worker may be writing the epoch right now.
        had_it = self._client.sismember(keys.EPOCH_SLOTS, slot_key)
        found = _read(self._client, slot_key)
        if found == self.name:
            return True
        if found is not None and found.startswith(f"{self.name}, layout "):
            if found != self.in_slots:
                raise LedgerLostError(
                    f"{slot_key} is {found}: a newer version of streamer has written claims that "
                    f"this one does not see. Nothing is sent. Start the newer version"
                )
            return False
        if found != self._unlisted and (had_it or found is not None):
            raise _lost(slot_key, found, {self.name})
        return False

    def spread(self, slot_key: str) -> None:
        """Write the epoch to a slot in which a script did not find it.

        If an earlier version used the slot, its workers halt from then on.

        Raises:
            LedgerLostError: see `verify_new`.
        """
        if self.verify_new(slot_key):
            # Before scripts can use the slot, which would not look for older claims without it.
            self._client.set(keys.older_claims(slot_key), 1)
        self._write(slot_key)

    def restore(self, slot_key: str) -> None:
        """Write the epoch to a slot also if it had it, and lost it: only when the ledger is
        rebuilt.

        Raises:
            LedgerLostError: the slot has another epoch.
        """
        found = _read(self._client, slot_key)
        if found is None:
            self._write(slot_key)
        elif found != self.in_slots:
            self.spread(slot_key)

    def _write(self, slot_key: str) -> None:
        # List the slot before scripts can use it, or a lost slot could be mistaken for a new one;
        # but write the key before listing it, or a new slot could be mistaken for a lost one.
        confirmed(self._client, slot_key, "SET", slot_key, self._unlisted, "NX")
        confirmed(self._client, keys.EPOCH_SLOTS, "SADD", keys.EPOCH_SLOTS, slot_key)
        confirmed(self._client, slot_key, "SET", slot_key, self.in_slots, "XX")


def _read(client: Client, key: str = keys.EPOCH) -> str | None:
    found = client.get(key)
    return found.decode() if isinstance(found, bytes) else None


def _lost(key: str, found: str | None, known: set[str]) -> LedgerLostError:
    names = ", ".join(sorted(known))
    return LedgerLostError(
        f"the ledger in Redis was lost or replaced: its epoch {key} is {found or 'missing'}, but "
        f"offsets were committed under {names}. Nothing is sent. Restore Redis from its "
        f"append-only file or a replica, then start again. If that is not possible, stop all "
        f"workers, and run `streamer ledger rebuild`"
    )
