"""Running the Lua scripts, each of which first checks the epoch of its slot."""

from importlib.resources import files

from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch, LedgerLostError

Reply = list[object]
Argument = str | bytes | int


class GuardedScript:
    """A script whose first key is its slot's epoch, and which answers `epoch` if that is wrong."""

    def __init__(self, client: Client, epoch: Epoch, name: str) -> None:
        self._epoch = epoch
        self._script = client.register_script(read(name))

    def __call__(self, slot_epoch: str, keys: list[str], args: list[Argument]) -> Reply:
        """Run it; answers what follows the reply's first word, that word included.

        Raises:
            LedgerLostError: the slot does not have the epoch, and that is no new slot.
            redis.exceptions.RedisError: Redis cannot be used; the script may have run.
        """
        for _ in range(2):
            reply: Reply = self._script(keys=[slot_epoch, *keys], args=[self._epoch.name, *args])
            if reply[0] != b"epoch":
                return reply
            self._epoch.spread(slot_epoch)
        raise LedgerLostError(f"the ledger lost {slot_epoch} again and again: nothing is sent")


def read(name: str) -> str:
    """The text of a script of this folder."""
    return files("streamer.ledger").joinpath(f"{name}.lua").read_text(encoding="utf-8")
