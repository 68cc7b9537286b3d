"""Records accepted mails, calls and their counts."""

import os
from collections import Counter, deque
from typing import NamedTuple

from pydantic import BaseModel

from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config
from streamer.sandbox.rules import Mail, ParsedEmail

_MAX_REPEATED = 1_000


class Acceptance(NamedTuple):
    """One address of one accepted mail."""

    organization: str
    campaign: str
    address: str
    email_id: str
    idempotency_key: str
    account: str
    monotonic: float
    wall: float


class Twice(NamedTuple):
    """An address to which a campaign was accepted more than once."""

    organization: str
    campaign: str
    address: str
    times: int


class Call(NamedTuple):
    """A completed or cut API call."""

    account: str
    """"" if the key is unknown."""
    arrived: float
    """Monotonic seconds."""
    wall: float
    status: int
    """The status the caller saw; 0 if the connection was cut."""
    name: str
    """The error's name; otherwise "cut", "half_body", "replay" or ""."""
    mails: int
    """The number of mails accepted by this call."""
    idempotency_key: str


class Kept(NamedTuple):
    """A mail kept in full, for the preview."""

    email_id: str
    account: str
    organization: str
    campaign: str
    wall: float
    mail: Mail


class AccountStats(BaseModel):
    """Statistics of one account since the last reset."""

    accepted: int = 0
    calls: int = 0
    answers: dict[str, int] = {}
    limit: int | None = None
    daily_used: int = 0
    monthly_used: int = 0


class Stats(BaseModel):
    """Statistics since the last reset."""

    accepted: int
    """The number of accepted mails."""
    accepted_twice: int
    """How many (organization, campaign, address) were accepted more than once; 0 if not counted."""
    calls: int
    in_flight: int
    """Calls without a response yet."""
    replays: int
    """Responses repeated for a known idempotency key, without sending anything."""
    answers: dict[str, int]
    """Responses by status, or `status:name` for errors; `cut` if cut without a response."""
    fill: float
    """The average number of mails per call that had any accepted."""
    per_second: float
    """Accepted mails per second, from the first acceptance to the last."""
    accounts: dict[str, AccountStats]
    webhooks_pending: int = 0
    """Webhooks that are not acknowledged yet."""


class Recorder:
    """Records and counts mails and calls, per address only if enabled in `Config`."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Reset all records and counts."""
        self.accepted = 0
        self.accepting_calls = 0
        self.replays = 0
        self.calls: list[Call] = []
        self.acceptances: list[Acceptance] = []
        self.failed: set[str] = set()
        """The ids of mails that failed after acceptance."""
        self.latest: deque[Kept] = deque(maxlen=self._config.keep_mails)
        self._answers: dict[str, Counter[str]] = {}
        self._accepted: Counter[str] = Counter()
        self._times: dict[tuple[str, str], dict[str, int]] = {}
        self._twice = 0
        self._repeated: deque[tuple[str, str, str]] = deque(maxlen=_MAX_REPEATED)
        self._first = self._last = 0.0

    def accept(self, account: str, key: str, emails: list[ParsedEmail]) -> list[str]:
        """Record mails as sent and return their ids."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        if not self.accepted:
            self._first = now
        self._last = now
        self.accepted += len(emails)
        self.accepting_calls += 1
        self._accepted[account] += len(emails)
        ids = _new_ids(len(emails))
        if self._config.count_addresses:
            self._count(emails)
        if self._config.keep_acceptances:
            self.acceptances.extend(
                Acceptance(*p.campaign, address, email_id, key, account, now, wall)
                for p, email_id in zip(emails, ids, strict=True)
                for address in p.addresses
            )
        if self._config.keep_mails:
            self.latest.extend(
                Kept(email_id, account, *p.campaign, wall, p.mail)
                for p, email_id in zip(emails, ids, strict=True)
            )
        return ids

    def _count(self, emails: list[ParsedEmail]) -> None:
        campaign: tuple[str, str] | None = None
        times: dict[str, int] = {}
        for email in emails:
            if email.campaign != campaign:
                campaign = email.campaign
                times = self._times.setdefault(campaign, {})
            for address in email.addresses:
                before = times.get(address, 0)
                times[address] = before + 1
                if before == 1:
                    self._twice += 1
                    self._repeated.append((*campaign, address))

    def twice(self) -> list[Twice]:
        """Return the latest addresses to which a campaign was accepted more than once."""
        return [
            Twice(organization, campaign, address, self._times[organization, campaign][address])
            for organization, campaign, address in reversed(self._repeated)
        ]

    def answered(self, call: Call) -> None:
        """Record a completed call."""
        self.calls.append(call)
        if call.name == "cut":
            label = "cut"
        elif call.status < 400:
            label = str(call.status)
        else:
            label = f"{call.status}:{call.name}"
        self._answers.setdefault(call.account, Counter())[label] += 1
        if call.name == "replay":
            self.replays += 1

    def kept(self, email_id: str) -> Kept | None:
        """Return a kept mail by its id, if there is one."""
        return next((kept for kept in self.latest if kept.email_id == email_id), None)

    def account(self, name: str) -> AccountStats:
        """Return the statistics of one account, without its limit and quotas."""
        answers = self._answers.get(name, Counter())
        return AccountStats(
            accepted=self._accepted[name], calls=answers.total(), answers=dict(answers)
        )

    def stats(self, accounts: dict[str, AccountStats], webhooks_pending: int = 0) -> Stats:
        """Return all statistics, with those of the accounts as given."""
        answers: Counter[str] = Counter()
        for of_account in self._answers.values():
            answers.update(of_account)
        took = self._last - self._first
        return Stats(
            accepted=self.accepted,
            accepted_twice=self._twice,
            calls=answers.total(),
            in_flight=self.in_flight,
            replays=self.replays,
            answers=dict(answers),
            fill=self.accepted / self.accepting_calls if self.accepting_calls else 0.0,
            per_second=self.accepted / took if took > 0 else 0.0,
            accounts=accounts,
            webhooks_pending=webhooks_pending,
        )


def _new_ids(count: int) -> list[str]:
    """Return random UUIDs from a single draw: each has 80 bits of its own around shared ones, as
    `uuid4` would double the cost per mail."""
    raw = os.urandom(10 * (count + 1)).hex()
    middle = f"-{raw[-4:]}-4{raw[-7:-4]}-a{raw[-10:-7]}-"
    return [f"{raw[i : i + 8]}{middle}{raw[i + 8 : i + 20]}" for i in range(0, 20 * count, 20)]
