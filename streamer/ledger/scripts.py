"""Loads the Lua scripts, and runs those that first check the epoch of their slot."""

from importlib.resources import files
from typing import cast

from streamer.ledger.confirming import Argument, ConfirmedScript
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch, LedgerLostError

Reply = list[object]

_OF_CLAIMS = ("find_claim", "pin", "probe", "reclaim", "unpin")
"""The scripts that use `claimed.lua`."""


class GuardedScript:
    """A script whose first key is its slot's epoch, and which returns `epoch` if that differs.

    Args:
        is_confirmed: whether it returns only when what it did is confirmed.
    """

    def __init__(
        self, client: Client, epoch: Epoch, name: str, *, is_confirmed: bool = False
    ) -> None:
        self._epoch = epoch
        source = read(name)
        self._script = (
            ConfirmedScript(client, source) if is_confirmed else client.register_script(source)
        )

    def __call__(self, slot_epoch: str, keys: list[str], args: list[Argument]) -> Reply:
        """Run the script and return its reply, which starts with a word that names the result.

        A new slot is given the epoch first.

        Raises:
            LedgerLostError: the slot does not have the epoch, and is not new.
            UnconfirmedError: it ran, but is not confirmed.
            redis.exceptions.RedisError: Redis cannot be used; the script may have run.
        """
        for _ in range(2):
            reply = cast(
                Reply, self._script(keys=[slot_epoch, *keys], args=[self._epoch.in_slots, *args])
            )
            if reply[0] != b"epoch":
                self._epoch.used.add(slot_epoch)
                return reply
            self._epoch.spread(slot_epoch)
        raise LedgerLostError(f"the ledger keeps losing {slot_epoch}; nothing is sent")


def read(name: str) -> str:
    """Return the source of a script in this package, with what it needs prepended."""
    shared = _read_file("claimed") if name in _OF_CLAIMS else ""
    return shared + _read_file(name)


def _read_file(name: str) -> str:
    return files("streamer.ledger").joinpath(f"{name}.lua").read_text(encoding="utf-8")
