"""The rate limit and the circuit of an account, shared by all workers through Redis."""

import secrets
from dataclasses import dataclass
from typing import NamedTuple, cast

from streamer.flow.failure_stats import MAX_PAUSE_S, AccountHealth, circuit_pause_s
from streamer.ledger import keys, responses
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import GuardedScript, read

_UTILIZATION = 0.985
"""The share of the limit that is used. The provider counts in seconds that do not start with
ours: at exactly its rate, any jitter would put one call too many into some of them."""

_BURST_UTILIZATION = 0.99
"""The share of the limit that calls come to in any second, those that left late included."""

_EXACT_BELOW = 100.0
"""Calls a second; above it one that leaves late is no matter."""

_MAX_SLOT_WAIT_S = 1.0
"""The furthest slot that is given: who waits for one hears neither of a hold nor of its end."""

_PAUSES_US = [round(circuit_pause_s(failures) * 1_000_000) for failures in range(1, 16)]
"""By how many calls failed in a row; the last one is the longest."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A send slot, taken for good.

    Attributes:
        wait_s: until it begins.
        failures: calls of the account in a row that failed.
        successes: calls of the account that were counted as successes, ever.
    """

    wait_s: float
    failures: int
    successes: int


@dataclass(frozen=True, slots=True)
class SendPermit:
    """When a call leaves.

    Attributes:
        call: its name.
        wait_s: until then.
    """

    call: str
    wait_s: float


class Successes(NamedTuple):
    """Calls of an account that one worker knows to have got through.

    Attributes:
        worker: a name that no other process has.
        told: how many of them it knows to be counted already.
        total: how many there were.
    """

    worker: str
    told: int
    total: int


@dataclass(frozen=True, slots=True)
class SlotUnavailable:
    """No slot yet: the account's circuit is open, or its calls pause. Ask again after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """No slot: the account is held, or `domain` of the sender within it."""

    domain: str | None


class Limiter:
    """Hands out send slots, evenly spaced by Redis' clock, to whoever asks."""

    def __init__(self, client: Client, epoch: Epoch) -> None:
        self._client = client
        self._take = GuardedScript(client, epoch, "take_slot")
        self._acquire_permit = client.register_script(read("acquire_permit"))
        self._pause = client.register_script(read("pause_slots"))
        self._failure = client.register_script(read("count_failure"))
        self._success = client.register_script(read("count_success"))

    def take(
        self,
        account: str,
        requests_per_second: float,
        domain: str = "",
        ignore_hold: bool = False,
    ) -> Slot | SlotUnavailable | Held:
        """Take the next free slot.

        Args:
            domain: of the sender, which may be held within the account.
            ignore_hold: to test whether a hold is over.
        """
        interval_us = max(1, round(1_000_000 / (requests_per_second * _UTILIZATION)))
        word, *numbers = self._take(
            keys.account_epoch(account),
            [
                keys.account_limiter(account),
                keys.account_health(account),
                keys.account_holds(account),
            ],
            [
                interval_us,
                domain or "*",
                int(ignore_hold),
                round(_MAX_SLOT_WAIT_S * 1_000_000),
                round(MAX_PAUSE_S * 1_000_000),
            ],
        )
        if word == b"held":
            field = cast(bytes, numbers[0]).decode()
            return Held(None if field == "*" else field)
        wait_s = cast(int, numbers[0]) / 1_000_000
        if word == b"later":
            return SlotUnavailable(wait_s)
        return Slot(wait_s, cast(int, numbers[1]), cast(int, numbers[2]))

    def acquire_permit(self, account: str, requests_per_second: float) -> SendPermit | None:
        """Let a call that has a slot leave; None: at once, and it need not be told when it did.

        Slots alone do not keep the limit: a call that leaves long after its slot began comes
        close to those behind it. If it was the first of a second of the provider's, the last
        of these would be one too many.
        """
        if requests_per_second > _EXACT_BELOW:
            return None
        together = max(1, int(requests_per_second))
        period_us = round(1_000_000 * together / (requests_per_second * _BURST_UTILIZATION))
        call = secrets.token_hex(8)
        wait_us = self._acquire_permit(
            keys=[keys.account_permits(account)], args=[call, together, period_us]
        )
        return SendPermit(call, cast(int, wait_us) / 1_000_000)

    def adjust_permit(self, account: str, permit: SendPermit, seconds: float) -> None:
        """Let those that come behind a call know that it left so much later."""
        self._client.zadd(
            keys.account_permits(account),
            {permit.call: round(seconds * 1_000_000)},
            xx=True,
            incr=True,
        )

    def pause(self, account: str, seconds: float) -> None:
        """Let no slot of the account that is taken from now on begin within so many seconds, at
        most `MAX_PAUSE_S`."""
        self._pause(keys=[keys.account_limiter(account)], args=[round(seconds * 1_000_000)])

    def record_failure(self, account: str, batch_id: str, call: str) -> AccountHealth:
        """Count a call for a batch whose fate is not known; it may open the circuit.

        Args:
            call: a name that no other call for the batch has: told of again, as the reply was
                lost, it counts once.
        """
        failures, successes, failing_ms, batches = cast(
            tuple[int, int, int, int],
            self._failure(keys=_health_keys(account), args=[batch_id, call, *_PAUSES_US]),
        )
        return AccountHealth(failures, successes, failing_ms / 1000, batches - 1)

    def successes(self, account: str) -> int:
        """Calls of the account that were counted as successes, ever."""
        value = cast(bytes | None, self._client.hget(keys.account_health(account), "successes"))
        return int(value or 0)

    def record_success(self, account: str, successes: Successes, *, after_failures: bool) -> None:
        """Count calls that got through; what is told again counts once.

        Args:
            after_failures: whether calls had failed before; the circuit closes.
        """
        self._success(
            keys=[*_health_keys(account), keys.account_told(account)],
            args=[*successes, int(after_failures)],
        )

    def set_advertised_limit(self, account: str, advertised: int) -> None:
        """Let all workers know the limit that the provider's answers name, a second."""
        self._client.hset(keys.account_health(account), "limit", str(advertised))

    def note(self, account: str, result: str, message: str) -> None:
        """Keep an answer that was not `accepted`, for who asks how the account does."""
        responses.note(self._client, account, result, message)


def _health_keys(account: str) -> list[str]:
    return [keys.account_health(account), keys.account_failing(account)]
