"""The rate limit of an account, shared by all workers through Redis."""

from typing import cast

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import GuardedScript, read

_PACE = 0.985
"""The share of the limit that is used. The provider counts in seconds that do not start with
ours: at exactly its rate, any jitter would put one call too many into some of them."""


class Limiter:
    """Hands out send slots, evenly spaced by Redis' clock, to whoever asks."""

    def __init__(self, client: Client, epoch: Epoch) -> None:
        self._take = GuardedScript(client, epoch, "take_slot")
        self._pause = client.register_script(read("pause_slots"))

    def take(self, account: str, requests_per_second: float) -> float:
        """Take the next free slot; returns the seconds until it begins. It is taken for good."""
        interval_us = max(1, round(1_000_000 / (requests_per_second * _PACE)))
        reply = self._take(
            keys.account_epoch(account), [keys.account_limiter(account)], [interval_us]
        )
        return cast(int, reply[1]) / 1_000_000

    def pause(self, account: str, seconds: float) -> None:
        """Let no slot of the account that is taken from now on begin within so many seconds."""
        self._pause(keys=[keys.account_limiter(account)], args=[round(seconds * 1_000_000)])
