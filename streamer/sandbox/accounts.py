"""Accounts, with the rate limit window and quotas that their API keys share."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

from streamer.sandbox.config import AccountSpec
from streamer.sandbox.suppressions import SuppressionList


@dataclass(slots=True, frozen=True)
class Reading:
    """The state of the rate limit window for one request."""

    granted: bool
    limit: int
    remaining: int
    reset_s: int


class Window:
    """A fixed window of one second that starts with the first request after the previous one."""

    def __init__(self) -> None:
        self._opened = -math.inf
        self._used = 0

    def take(self, limit: int, now: float) -> Reading:
        """Count one request at `now` (monotonic seconds)."""
        if now - self._opened >= 1.0:
            self._opened, self._used = now, 0
        reset_s = max(1, math.ceil(self._opened + 1.0 - now))
        if self._used >= limit:
            return Reading(False, limit, 0, reset_s)
        self._used += 1
        return Reading(True, limit, limit - self._used, reset_s)


class SandboxAccount:
    """One team at Resend."""

    def __init__(self, spec: AccountSpec) -> None:
        self.name = spec.name
        self.limit = spec.limit
        self.daily_quota = spec.daily_quota
        self.monthly_quota = spec.monthly_quota
        self.window = Window()
        self.suppressions = SuppressionList()
        self._day = self._month = (0, 0, 0)
        self._daily_used = self._monthly_used = 0

    def used(self, wall: float) -> tuple[int, int]:
        """Return the number of recipients on this UTC day and in this month."""
        today = time.gmtime(wall)
        day = (today.tm_year, today.tm_mon, today.tm_mday)
        if day != self._day:
            self._day, self._daily_used = day, 0
        month = (today.tm_year, today.tm_mon, 0)
        if month != self._month:
            self._month, self._monthly_used = month, 0
        return self._daily_used, self._monthly_used

    def use(self, recipients: int, wall: float) -> None:
        """Count recipients against both quotas."""
        self.used(wall)
        self._daily_used += recipients
        self._monthly_used += recipients

    def reset(self) -> None:
        """Clear usage and suppressions; the limit keeps its last value."""
        self.window = Window()
        self.suppressions = SuppressionList()
        self._daily_used = self._monthly_used = 0


class AccountRegistry:
    """All accounts, by API key and by name."""

    def __init__(self, specs: Iterable[AccountSpec]) -> None:
        self._by_name: dict[str, SandboxAccount] = {}
        self._by_key: dict[str, SandboxAccount] = {}
        for spec in specs:
            account = self._by_name[spec.name] = SandboxAccount(spec)
            self._by_key.update(dict.fromkeys(spec.keys, account))

    def of_key(self, key: str) -> SandboxAccount | None:
        return self._by_key.get(key)

    def named(self, name: str) -> SandboxAccount | None:
        return self._by_name.get(name)

    def all(self) -> list[SandboxAccount]:
        return list(self._by_name.values())
