"""An account's rate limit and circuit breaker, shared by all workers through Redis."""

import secrets
from dataclasses import dataclass
from typing import NamedTuple, cast

from streamer.flow.failure_stats import MAX_PAUSE_S, AccountHealth, circuit_pause_s
from streamer.ledger import keys, responses
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.scripts import GuardedScript, read

_UTILIZATION = 0.985
"""The share of the limit that is used. The provider counts calls in one-second windows that do not
align with ours: at exactly its rate, any jitter would put one call too many into some of them."""

_BURST_UTILIZATION = 0.99
"""The share of the limit that calls may reach in any second, including those that leave late."""

_EXACT_BELOW = 100.0
"""Calls per second above which a call that leaves late does not matter."""

_MAX_SLOT_WAIT_S = 1.0
"""The longest wait for a slot: a waiting caller does not notice holds or their release."""

_PAUSES_US = [round(circuit_pause_s(failures) * 1_000_000) for failures in range(1, 16)]
"""The pause after 1, 2, 3, … consecutive failures; the last one is the longest."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A send slot, which cannot be given back.

    Attributes:
        wait_s: seconds until it begins.
        failures: consecutive failed calls of the account.
        successes: total calls of the account counted as successes.
    """

    wait_s: float
    failures: int
    successes: int


@dataclass(frozen=True, slots=True)
class SendPermit:
    """Permission for a call to leave after `wait_s` seconds.

    Attributes:
        call: the name of the call.
    """

    call: str
    wait_s: float


class Successes(NamedTuple):
    """An account's successful calls by one worker.

    Attributes:
        worker: a name unique to the process.
        told: how many of them it knows to be counted already.
        total: how many there were.
    """

    worker: str
    told: int
    total: int


@dataclass(frozen=True, slots=True)
class SlotUnavailable:
    """No slot yet: the account's circuit is open or its calls are paused. Retry after `wait_s`."""

    wait_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """No slot: the account is held, or the sender's `domain` within it."""

    domain: str | None


class Limiter:
    """Hands out send slots, evenly spaced by Redis' clock, to all workers."""

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
            domain: the sender's domain, which may be held within the account.
            ignore_hold: take a slot despite a hold, to test whether the hold is over.
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
        """Reserve a departure time for a call that has a slot.

        Returns None if the call may leave immediately, without a later `adjust_permit`.

        Slots alone do not keep the limit: a call that leaves long after its slot began comes close
        to the calls of the next slots. If it is the first call in a one-second window of the
        provider, the last of these would exceed the limit.
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
        """Delay the calls after this one, because it left `seconds` later than permitted."""
        self._client.zadd(
            keys.account_permits(account),
            {permit.call: round(seconds * 1_000_000)},
            xx=True,
            incr=True,
        )

    def pause(self, account: str, seconds: float) -> None:
        """Start none of the account's slots taken from now on within the next `seconds`, at most
        `MAX_PAUSE_S`."""
        self._pause(keys=[keys.account_limiter(account)], args=[round(seconds * 1_000_000)])

    def record_failure(self, account: str, batch_id: str, call: str) -> AccountHealth:
        """Count a failed call for a batch whose outcome is unknown; this may open the circuit.

        Args:
            call: a name unique among the calls for the batch; a retry after a lost reply is counted
                once.
        """
        failures, successes, failing_ms, batches = cast(
            tuple[int, int, int, int],
            self._failure(keys=_health_keys(account), args=[batch_id, call, *_PAUSES_US]),
        )
        return AccountHealth(failures, successes, failing_ms / 1000, batches - 1)

    def successes(self, account: str) -> int:
        """Return the total number of the account's calls counted as successes."""
        value = cast(bytes | None, self._client.hget(keys.account_health(account), "successes"))
        return int(value or 0)

    def record_success(self, account: str, successes: Successes, *, after_failures: bool) -> None:
        """Count successful calls; a repeated report is counted once.

        Args:
            after_failures: whether calls had failed before; this closes the circuit.
        """
        self._success(
            keys=[*_health_keys(account), keys.account_told(account)],
            args=[*successes, int(after_failures)],
        )

    def set_advertised_limit(self, account: str, advertised: int) -> None:
        """Publish to all workers the limit advertised by the provider, in calls per second."""
        self._client.hset(keys.account_health(account), "limit", str(advertised))

    def note(self, account: str, result: str, message: str) -> None:
        """Store a response other than `accepted`, to be shown with the account's status."""
        responses.note(self._client, account, result, message)


def _health_keys(account: str) -> list[str]:
    return [keys.account_health(account), keys.account_failing(account)]
