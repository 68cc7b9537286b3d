"""The accounts' limits, health and holds in memory, as the scripts of `streamer.ledger` keep them.

Nothing expires here: Redis keeps all of it for longer than it matters.
"""

import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from streamer.flow.failure_stats import MAX_PAUSE_S, AccountHealth, circuit_pause_s
from streamer.ledger.holds import (
    AccountState,
    BatchRef,
    By,
    Hold,
    Holds,
    HoldTests,
    PlacedHold,
    ProbeTurn,
)
from streamer.ledger.limiter import (
    _BURST_UTILIZATION,
    _EXACT_BELOW,
    _MAX_SLOT_WAIT_S,
    _UTILIZATION,
    Held,
    Limiter,
    SendPermit,
    Slot,
    SlotUnavailable,
    Successes,
)
from tests.kit.fakes.clock import FakeClock
from tests.kit.fakes.faults import CallFaults, remote

_ACCOUNT = None
"""The domain that stands for the whole account."""


@dataclass(slots=True)
class _AccountData:
    """What Redis keeps of an account. Times are microseconds since 1970."""

    next_slot: int = 0
    permits: dict[str, int] = field(default_factory=dict)
    failures: int = 0
    failing_since: int | None = None
    pause: int = 0
    probe_at: int = 0
    failing: dict[str, str] = field(default_factory=dict)
    successes: int = 0
    told: dict[str, int] = field(default_factory=dict)
    limit: int | None = None
    notes: dict[str, str] = field(default_factory=dict)
    holds: dict[str | None, Hold] = field(default_factory=dict)
    tests: dict[str | None, int] = field(default_factory=dict)
    """When each hold is tested next; milliseconds since 1970."""
    batches: defaultdict[str | None, list[tuple[BatchRef, str]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    doubts: set[str] = field(default_factory=set)


class AccountStore:
    """The accounts that a `FakeLimiter` and `FakeHolds` share."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.faults = CallFaults()
        self.accounts: defaultdict[str, _AccountData] = defaultdict(_AccountData)


class FakeLimiter(Limiter):
    """Hands out slots to all workers."""

    def __init__(self, store: AccountStore) -> None:
        self.faults = store.faults
        self._accounts = store.accounts
        self._clock = store.clock

    @remote
    def take(
        self,
        account: str,
        requests_per_second: float,
        domain: str = "",
        ignore_hold: bool = False,
    ) -> Slot | SlotUnavailable | Held:
        data, now = self._accounts[account], self._clock.us
        if not ignore_hold:
            for each in (_ACCOUNT, domain or None):
                if each in data.holds:
                    return Held(each)
        probe_at = min(data.probe_at, now + data.pause)
        if probe_at > now:
            return SlotUnavailable((probe_at - now) / 1_000_000)
        interval = max(1, round(1_000_000 / (requests_per_second * _UTILIZATION)))
        slot = max(data.next_slot, now)
        if slot > now + interval + round(MAX_PAUSE_S * 1_000_000):
            slot = now + interval
        if slot - now > _MAX_SLOT_WAIT_S * 1_000_000:
            return SlotUnavailable((slot - now) / 1_000_000)
        if probe_at > 0:
            data.probe_at = now + data.pause
        data.next_slot = slot + interval
        return Slot((slot - now) / 1_000_000, data.failures, data.successes)

    @remote
    def acquire_permit(self, account: str, requests_per_second: float) -> SendPermit | None:
        if requests_per_second > _EXACT_BELOW:
            return None
        together = max(1, int(requests_per_second))
        period = round(1_000_000 * together / (requests_per_second * _BURST_UTILIZATION))
        permits, now = self._accounts[account].permits, self._clock.us
        times = sorted(permits.values())
        at = now
        if len(times) >= together:
            at = min(max(now, times[-together] + period), now + period)
        call = secrets.token_hex(8)
        permits[call] = at
        while len(permits) > together:
            del permits[min(permits, key=lambda each: (permits[each], each))]
        return SendPermit(call, (at - now) / 1_000_000)

    @remote
    def adjust_permit(self, account: str, permit: SendPermit, seconds: float) -> None:
        permits = self._accounts[account].permits
        if permit.call in permits:
            permits[permit.call] += round(seconds * 1_000_000)

    @remote
    def pause(self, account: str, seconds: float) -> None:
        data = self._accounts[account]
        data.next_slot = max(data.next_slot, self._clock.us + round(seconds * 1_000_000))

    @remote
    def record_failure(self, account: str, batch_id: str, call: str) -> AccountHealth:
        data, now = self._accounts[account], self._clock.us
        if data.failing.get(batch_id) != call:
            data.failures += 1
            if data.failures == 1:
                data.failing_since = now
            data.failing[batch_id] = call
            pause = round(circuit_pause_s(data.failures) * 1_000_000)
            if pause:
                data.pause, data.probe_at = pause, now + pause
        since = now if data.failing_since is None else data.failing_since
        failing_ms = (now - since) // 1000
        return AccountHealth(
            data.failures, data.successes, failing_ms / 1000, len(data.failing) - 1
        )

    @remote
    def successes(self, account: str) -> int:
        return self._accounts[account].successes

    @remote
    def record_success(self, account: str, successes: Successes, *, after_failures: bool) -> None:
        data = self._accounts[account]
        new = successes.total - max(data.told.get(successes.worker, 0), successes.told)
        if new > 0:
            data.successes += new
            data.told[successes.worker] = successes.total
        if after_failures:
            data.failing.clear()
            data.failures = data.pause = data.probe_at = 0
            data.failing_since = None

    @remote
    def set_advertised_limit(self, account: str, advertised: int) -> None:
        self._accounts[account].limit = advertised

    @remote
    def note(self, account: str, result: str, message: str) -> None:
        self._accounts[account].notes[result] = message

    def notes(self, account: str) -> dict[str, str]:
        """The responses that were noted of an account."""
        return self._accounts[account].notes


class FakeHolds(Holds):
    """The holds of all accounts."""

    def __init__(self, store: AccountStore) -> None:
        self.faults = store.faults
        self._accounts = store.accounts
        self._clock = store.clock

    @remote
    def put(
        self,
        account: str,
        domain: str | None,
        hold: Hold,
        probe_s: float = 0,
        batch: BatchRef | None = None,
        sender: str = "",
    ) -> PlacedHold:
        data = self._accounts[account]
        if domain is None and None not in data.holds and sender in data.doubts:
            domain = sender
        held = data.holds.get(domain)
        is_new = (
            hold.by is By.OPERATOR
            or held is None
            or (held.by is not By.OPERATOR and held.reason != hold.reason)
        )
        if is_new:
            data.holds[domain] = hold
            data.tests[domain] = self._ms() + round(probe_s * 1000)
        if batch is not None:
            entry = (batch, sender)
            data.batches[domain] = [e for e in data.batches[domain] if e != entry] + [entry]
        return PlacedHold(domain, is_new or held == hold)

    @remote
    def due(self, account: str, domain: str | None, probe_s: float) -> ProbeTurn | None:
        data = self._accounts[account]
        held = data.holds.get(domain)
        if held is None or held.by is By.OPERATOR:
            return None
        now, next_ms = self._ms(), self._ms() + round(probe_s * 1000)
        due = data.tests.get(domain, 0)
        if now < due and (held.by is By.EVENT or due <= next_ms):
            return None
        data.tests[domain] = next_ms
        return ProbeTurn(self._rotate(data, domain))

    @remote
    def next_batch(self, account: str, domain: str | None) -> BatchRef | None:
        return self._rotate(self._accounts[account], domain)

    @remote
    def forget(self, account: str, domain: str | None, batch: BatchRef) -> None:
        batches = self._accounts[account].batches
        batches[domain] = [entry for entry in batches[domain] if entry[0] != batch]

    @remote
    def tests(self, account: str, domain: str | None) -> HoldTests:
        data = self._accounts[account]
        due = data.tests.get(domain)
        return HoldTests(
            None if due is None else datetime.fromtimestamp(due / 1000, UTC),
            [batch for batch, _ in data.batches[domain]],
        )

    @remote
    def release(self, account: str, domain: str | None, by: By, meant: Hold | None = None) -> bool:
        data = self._accounts[account]
        held = data.holds.get(domain)
        if (
            held is None
            or (held.by is By.OPERATOR and by is not By.OPERATOR)
            or (meant is not None and meant.since != held.since)
        ):
            return False
        if domain is None and by is By.OPERATOR and held.by is not By.OPERATOR:
            data.doubts |= {sender for _, sender in data.batches[None] if sender}
        del data.holds[domain]
        data.tests.pop(domain, None)
        data.batches.pop(domain, None)
        return True

    @remote
    def read(self, accounts: Iterable[str]) -> dict[str, AccountState]:
        found = {name: self._accounts[name] for name in accounts}
        return {
            name: AccountState(dict(data.holds), data.limit, data.failures)
            for name, data in found.items()
        }

    def _rotate(self, data: _AccountData, domain: str | None) -> BatchRef | None:
        batches = data.batches[domain]
        if not batches:
            return None
        batches.append(batches.pop(0))
        return batches[-1][0]

    def _ms(self) -> int:
        return self._clock.us // 1000
