"""Faults to order while the sandbox runs, and the dice that decide about those in percent."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Percent = Annotated[float, Field(ge=0, le=100)]
KeyRefusal = Literal[
    "none",
    "missing_api_key",
    "invalid_api_key",
    "restricted_api_key",
    "suspended_api_key",
    "invalid_permission",
]


class Faults(BaseModel):
    """What goes wrong. In an order only the fields that are given change; the others stay.

    *Before* acceptance means that nothing was sent; *after* means that the mails count as sent
    and their idempotency key is remembered, whatever the caller gets to see.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_ms: float = Field(default=0, ge=0)
    """Time a call takes: half before and half after acceptance, so a kill lands on either side."""
    jitter_ms: float = Field(default=0, ge=0)
    """Up to so much more, at random."""
    error_before_percent: Percent = 0
    error_after_percent: Percent = 0
    error_status: Literal[500, 502, 503, 504] = 500
    """Of those two. 502 and 504 answer a gateway's HTML page."""
    cut_before_percent: Percent = 0
    cut_after_percent: Percent = 0
    outage: Literal["none", "unavailable", "drop"] = "none"
    """`unavailable` answers 503 to every call; `drop` closes the connection without an answer."""
    hang_s: float = Field(default=0, ge=0)
    """Silence after acceptance. It ends early when `hang_s` is ordered back to 0."""
    quota: Literal["none", "daily", "monthly"] = "none"
    """A quota that is used up, whatever was sent."""
    refuse_key: KeyRefusal = "none"
    unverified_domains: frozenset[str] = frozenset()
    """Sender domains (`*`: all) that answer 403 `validation_error`."""
    forbidden_domains: frozenset[str] = frozenset()
    """Sender domains (`*`: all) that the key may not send from: 403 without a name."""
    refused: frozenset[str] = frozenset()
    """Addresses, or `@domain`: that item is invalid; in strict mode the whole batch is."""
    guilty: frozenset[str] = frozenset()
    """Addresses, or `@domain`, that refuse their whole batch in either mode."""
    guilty_status: Literal[400, 413, 422] = 422
    poison: frozenset[str] = frozenset()
    """Addresses, or `@domain`: any batch with one of them answers 500, and nothing is sent."""
    broken_body_percent: Percent = 0
    """200 and accepted, but the body is no JSON."""
    half_body_percent: Percent = 0
    """200 and accepted, but the connection is cut in the middle of the body."""
    wrong_ids_percent: Percent = 0
    """200 and accepted, but one id is missing."""
    ratelimit_headers: Literal["right", "missing", "wrong", "garbled"] = "right"
    """`missing` leaves out `retry-after` too; `wrong` promises a thousandfold limit."""


class Play(BaseModel):
    """An answer to give to the letter, in the place of the sandbox's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Annotated[int, Field(ge=200, le=599)]
    headers: dict[str, str] = Field(default_factory=dict)
    """In lower case. Without a `content-type` it says JSON, as Resend does."""
    body: str = ""
    name: str = "played"
    """What it is called in `Call.name` and in the counts."""
    times: Annotated[int, Field(ge=1)] | None = None
    """To how many calls; None: until `calm`."""
    percent: Percent = 100
    """Of the calls that it is meant for, at random."""
    api_key: str | None = None
    """Calls with this API key alone; None: with any, also an unknown one."""
    accepts: bool = False
    """Whether the call is worked off first: only its answer gets lost, for this one. Otherwise
    nothing is sent, and no idempotency key is remembered."""
    cut_at: Annotated[float, Field(ge=0, le=1)] | None = None
    """Close the connection after that share of the body; 0: before anything is written."""


@dataclass(slots=True)
class _Part:
    play: Play
    account: str | None
    left: int | None


class Script:
    """The answers that were ordered to the letter, in the order in which they were."""

    def __init__(self, dice: "Dice") -> None:
        self._dice = dice
        self._parts: list[_Part] = []

    def add(self, play: Play, account: str | None) -> None:
        """Play an answer to the calls of one account, or of all."""
        self._parts.append(_Part(play, account, play.times))

    def next(self, account: str | None, api_key: str, *, accepts: bool) -> Play | None:
        """The answer to this call, which uses it up by one.

        Args:
            account: None for a caller without a known account.
            accepts: whether the call was worked off.
        """
        for part in self._parts:
            play = part.play
            if (
                play.accepts is accepts
                and part.account in (None, account)
                and play.api_key in (None, api_key)
                and self._dice.falls(play.percent)
            ):
                if part.left is not None:
                    part.left -= 1
                    if not part.left:
                        self._parts.remove(part)
                return play
        return None

    def clear(self) -> None:
        """Play nothing any more."""
        self._parts.clear()


class FaultBook:
    """The faults in force: those for all accounts, and under them what one account was given."""

    def __init__(self, base: Faults) -> None:
        self._start = self._base = base
        self._given: dict[str, dict[str, object]] = {}

    def of(self, account: str | None) -> Faults:
        """Faults of an account; of a caller without a known account: those for all."""
        given = self._given.get(account) if account is not None else None
        if given is None:
            return self._base
        return self._base.model_copy(update=given)

    def order(self, faults: Faults, account: str | None) -> None:
        """Change the fields that were given in `faults`, for one account or for all."""
        changes: Mapping[str, object] = {
            name: getattr(faults, name) for name in faults.model_fields_set
        }
        if account is None:
            self._base = self._base.model_copy(update=changes)
        else:
            self._given.setdefault(account, {}).update(changes)

    def calm(self) -> None:
        """Back to the faults it was started with, for everyone."""
        self._base = self._start
        self._given.clear()


class Dice:
    """Seeded, so that a run can be repeated."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def falls(self, percent: float) -> bool:
        """Whether a thing of that likelihood happens now."""
        return percent > 0 and self._random.random() * 100 < percent

    def up_to(self, most: float) -> float:
        return self._random.random() * most if most > 0 else 0.0


def names(listed: frozenset[str], address: str) -> bool:
    """Whether a list of addresses and `@domain`s names this (bare, lower-case) address."""
    return address in listed or address[address.rfind("@") :] in listed
