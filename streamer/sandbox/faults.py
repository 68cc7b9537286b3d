"""Faults that can be set while the sandbox runs, and the RNG for those given in percent."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
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
    "validation_error",
]


class Faults(BaseModel):
    """Faults to inject, and restrictions of API keys.

    Setting faults changes only the fields that are given; the others keep their values.

    *Before* acceptance means that nothing was sent. *After* means that the mails count as sent
    and their idempotency key is remembered, whatever the caller sees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    latency_ms: float = Field(default=0, ge=0)
    """Time a call takes: half before and half after acceptance, so a kill lands on either side."""
    jitter_ms: float = Field(default=0, ge=0)
    """Up to so much more, at random."""
    error_before_percent: Percent = 0
    """An error before acceptance."""
    error_after_percent: Percent = 0
    """An error after acceptance."""
    error_status: Literal[500, 502, 503, 504] = 500
    """Of those two errors. 502 and 504 answer a gateway's HTML page."""
    cut_before_percent: Percent = 0
    """The connection is cut before acceptance."""
    cut_after_percent: Percent = 0
    """The connection is cut after acceptance."""
    outage: Literal["none", "unavailable", "drop"] = "none"
    """`unavailable` answers 503 to every call; `drop` closes the connection without an answer."""
    hang_s: float = Field(default=0, ge=0)
    """Silence after acceptance. It ends early when `hang_s` is set back to 0."""
    quota: Literal["none", "daily", "monthly"] = "none"
    """A quota that is used up, whatever was sent."""
    refuse_key: KeyRefusal = "none"
    """Every call is refused for its API key, with the error of that name: `restricted_api_key`
    (403) is a key that is not active, `validation_error` (400) one that was revoked."""
    sending_only: frozenset[str] = frozenset()
    """API keys (`*`: all) that may only send: 401 `restricted_api_key` to all else."""
    key_domains: dict[str, str] = Field(default_factory=dict)
    """API keys (`*`: all others), each with the only sender domain that it may use: another one
    answers 403 without a name."""
    unverified_domains: frozenset[str] = frozenset()
    """Sender domains (`*`: all) that answer 403 `validation_error`."""
    fail_later: bool = False
    """A permissive batch is not refused for its key, its sender's domain or a quota: it answers
    200 with ids, and those mails have `last_event` = `failed`."""
    refuse_example_domain: bool = False
    """Recipients at `example.com` are invalid, as at Resend. Off by default: such addresses are
    the ones to use in examples and tests, and here no mail reaches anyone."""
    refused: frozenset[str] = frozenset()
    """Addresses, or `@domain`: that item is invalid; in strict mode the whole batch is."""
    reject_addresses: frozenset[str] = frozenset()
    """Addresses, or `@domain`, that refuse their whole batch in either mode."""
    reject_status: Literal[400, 413, 422] = 422
    """The status of that refusal."""
    fail_addresses: frozenset[str] = frozenset()
    """Addresses, or `@domain`: any batch with one of them answers 500, and nothing is sent."""
    broken_body_percent: Percent = 0
    """200 and accepted, but the body is no JSON."""
    half_body_percent: Percent = 0
    """200 and accepted, but the connection is cut in the middle of the body."""
    wrong_ids_percent: Percent = 0
    """200 and accepted, but one id is missing."""
    null_for_refused: bool = False
    """A permissive answer has null in `data` for a refused item, instead of leaving it out."""
    bounced_percent: Percent = 0
    """Accepted mails that bounce for good, as their webhooks say."""
    bounced_transient_percent: Percent = 0
    """Accepted mails that bounce for the time being."""
    complained_percent: Percent = 0
    """Delivered mails that are marked as spam."""
    opened_percent: Percent = 0
    """Delivered mails that are opened."""
    delayed_percent: Percent = 0
    """Mails whose delivery is delayed before it succeeds or fails."""
    repeated_percent: Percent = 0
    """Webhooks that come twice."""
    event_ms: float = Field(default=0, ge=0)
    """How long after acceptance the webhooks come."""
    disorder_ms: float = Field(default=0, ge=0)
    """Each webhook comes up to so much later, at random, so that they come in any order."""
    ratelimit_headers: Literal["right", "missing", "wrong", "garbled"] = "right"
    """`missing` leaves out `retry-after` too; `wrong` promises a thousandfold limit."""


class Play(BaseModel):
    """A response to give verbatim instead of the sandbox's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Annotated[int, Field(ge=200, le=599)]
    headers: dict[str, str] = Field(default_factory=dict)
    """Names are in lower case. The default `content-type` is JSON, as at Resend."""
    body: str = ""
    name: str = "played"
    """The name in `Call.name` and in the counts."""
    times: Annotated[int, Field(ge=1)] | None = None
    """The number of calls to respond to; None: unlimited, until the faults are reset."""
    percent: Percent = 100
    """The random share of matching calls to respond to."""
    api_key: str | None = None
    """Match only calls with this API key; None matches all calls, even with an unknown key."""
    accepts: bool = False
    """Whether to process the call first and replace only its response. Otherwise nothing is sent
    and no idempotency key is remembered."""
    cut_at: Annotated[float, Field(ge=0, le=1)] | None = None
    """Close the connection after this fraction of the body; 0: before sending anything."""


@dataclass(slots=True)
class _Part:
    play: Play
    account: str | None
    left: int | None


class ResponseScript:
    """The scripted responses, in the order in which they were added."""

    def __init__(self, rng: "Rng") -> None:
        self._rng = rng
        self._parts: list[_Part] = []

    def add(self, play: Play, account: str | None) -> None:
        """Add a response to the calls of one account, or of all."""
        self._parts.append(_Part(play, account, play.times))

    def next(self, account: str | None, api_key: str, *, accepts: bool) -> Play | None:
        """Return the scripted response to this call, if any, and count one use of it.

        Args:
            account: None for a caller without a known account.
            accepts: whether the call has been processed.
        """
        for part in self._parts:
            play = part.play
            if (
                play.accepts is accepts
                and part.account in (None, account)
                and play.api_key in (None, api_key)
                and self._rng.chance(play.percent)
            ):
                if part.left is not None:
                    part.left -= 1
                    if not part.left:
                        self._parts.remove(part)
                return play
        return None

    def clear(self) -> None:
        """Remove all scripted responses."""
        self._parts.clear()


class FaultBook:
    """The current faults: those for all accounts, and overrides for single accounts."""

    def __init__(self, base: Faults) -> None:
        self._start = self._base = base
        self._given: dict[str, dict[str, object]] = {}
        self._changed = asyncio.Event()

    def of(self, account: str | None) -> Faults:
        """Return the faults of an account; None returns those for all accounts."""
        given = self._given.get(account) if account is not None else None
        if given is None:
            return self._base
        return self._base.model_copy(update=given)

    def set_faults(self, faults: Faults, account: str | None) -> None:
        """Change the fields set in `faults`, for one account or for all."""
        changes: Mapping[str, object] = {
            name: getattr(faults, name) for name in faults.model_fields_set
        }
        if account is None:
            self._base = self._base.model_copy(update=changes)
        else:
            self._given.setdefault(account, {}).update(changes)
        self._wake()

    def reset(self) -> None:
        """Restore the initial faults for all accounts."""
        self._base = self._start
        self._given.clear()
        self._wake()

    async def hang(self, account: str) -> None:
        """Wait for `hang_s`, or until it is set back to 0."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.of(account).hang_s):
                while self.of(account).hang_s:
                    await self._changed.wait()

    def _wake(self) -> None:
        # Later waiters get a new event.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Rng:
    """A seeded random number generator, for repeatable runs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311

    def chance(self, percent: float) -> bool:
        """Return True with the given probability."""
        return percent > 0 and self._random.random() * 100 < percent

    def up_to(self, most: float) -> float:
        """Return a number from 0 to `most`."""
        return self._random.random() * most

    def bytes(self, count: int) -> bytes:
        """Return random bytes."""
        return self._random.randbytes(count)

    async def spend_latency(self, faults: Faults, share: float) -> None:
        """Sleep for this share of a call's latency."""
        jitter_ms = self._random.random() * faults.jitter_ms if faults.jitter_ms else 0.0
        if seconds := (faults.latency_ms + jitter_ms) / 1000 * share:
            await asyncio.sleep(seconds)


def names(listed: frozenset[str], address: str) -> bool:
    """Whether a set of addresses and `@domain`s contains this bare, lower-case address."""
    return address in listed or address[address.rfind("@") :] in listed
