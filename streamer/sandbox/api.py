"""The endpoints of Resend that streamer uses, with the faults that were ordered.

What nobody established about the real Resend: whether errors are remembered for an idempotency
key (here they are not), how a permissive batch without one valid item is answered (200), and one
of more than 100 items (422), how large a body may be (no limit), whether the validation mode is a
part of the payload that a key is compared by, and whether two API keys of an account have keys of
their own (neither). `Play` can give any other answer.
"""

import asyncio
import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson

from streamer.sandbox import batch, errors
from streamer.sandbox.accounts import Account, Accounts, Reading
from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config
from streamer.sandbox.errors import Problem
from streamer.sandbox.faults import Dice, FaultBook, Faults, Play, Script, names
from streamer.sandbox.http import JSON, Answer, Request
from streamer.sandbox.idempotency import Finding, Memory
from streamer.sandbox.tally import Call, Tally

_BATCH = "/emails/batch"
_LISTS = frozenset({"/domains", "/api-keys"})
_EMPTY_LIST = b'{"object":"list","has_more":false,"data":[]}'
_CLOUDFLARE = Answer(403, b"error code: 1010", "text/plain; charset=UTF-8")
_CUT = Answer(0, cut_at=0)


@dataclass(slots=True, frozen=True)
class _Outcome:
    """An answer to give, and the one to remember for the idempotency key, if any."""

    answer: Answer
    remember: Answer | None = None
    name: str = ""
    mails: int = 0


class Api:
    """Answers as Resend would."""

    def __init__(self, config: Config, accounts: Accounts, tally: Tally, clock: Clock) -> None:
        self.accounts = accounts
        self.tally = tally
        self.faults = FaultBook(config.faults)
        self.memory = Memory()
        self._clock = clock
        self._dice = Dice(config.seed)
        self.script = Script(self._dice)
        self._ordered = asyncio.Event()

    def order(self, faults: Faults, account: str | None) -> None:
        """Change faults. A hang that is ordered away ends at once."""
        self.faults.order(faults, account)
        self._wake()

    def calm(self) -> None:
        """Back to the faults it was started with; nothing is played any more."""
        self.faults.calm()
        self.script.clear()
        self._wake()

    def _wake(self) -> None:
        # A new event for those who wait from now on.
        ordered, self._ordered = self._ordered, asyncio.Event()
        ordered.set()

    async def answer(self, request: Request) -> Answer:
        """Answer one call, and count it."""
        if not request.headers.get("user-agent"):
            return _CLOUDFLARE
        arrived, wall = self._clock.monotonic(), self._clock.wall()
        self.tally.in_flight += 1
        try:
            key = _bearer(request.headers.get("authorization", ""))
            account = self.accounts.of_key(key)
            name = account.name if account is not None else ""
            outcome = await self._outcome(request, key, account)
        finally:
            self.tally.in_flight -= 1
        self.tally.answered(
            Call(
                name,
                arrived,
                wall,
                outcome.answer.status,
                outcome.name,
                outcome.mails,
                request.headers.get("idempotency-key", ""),
            )
        )
        return outcome.answer

    async def _outcome(self, request: Request, key: str, account: Account | None) -> _Outcome:
        name = account.name if account is not None else None
        faults = self.faults.of(name)
        play = self.script.next(name, key, accepts=False)
        if play is not None:
            await self._latency(faults, 1.0)
            return _Outcome(_played(play), name=play.name)
        if faults.outage == "drop":
            return _Outcome(_CUT, name="cut")
        if faults.outage == "unavailable":
            return _refused(errors.UNAVAILABLE)
        if faults.refuse_key != "none":
            return _refused(errors.key_refusal(faults.refuse_key))
        if not key:
            return _refused(errors.key_refusal("missing_api_key"))
        if account is None:
            return _refused(errors.key_refusal("invalid_api_key"))
        reading = None
        if account.limit is not None:
            reading = account.window.take(account.limit, self._clock.monotonic())
        if reading is not None and not reading.granted:
            outcome = _refused(errors.too_fast(reading.limit))
        else:
            outcome = await self._routed(request, account)
        play = self.script.next(name, key, accepts=True)
        if play is not None:
            return replace(outcome, answer=_played(play), name=play.name)
        # Read again: an order may have come while the call was running.
        faults = self.faults.of(account.name)
        headers = self._headers(faults, reading, account)
        return replace(outcome, answer=replace(outcome.answer, headers=headers))

    async def _routed(self, request: Request, account: Account) -> _Outcome:
        if request.path == _BATCH:
            if request.method != "POST":
                return _refused(errors.METHOD_NOT_ALLOWED)
            return await self._send(request, account)
        if request.path in _LISTS:
            if request.method != "GET":
                return _refused(errors.METHOD_NOT_ALLOWED)
            return await self._list(self.faults.of(account.name))
        return _refused(errors.NOT_FOUND)

    async def _list(self, faults: Faults) -> _Outcome:
        await self._latency(faults, 1.0)
        if self._dice.falls(faults.cut_before_percent):
            return _Outcome(_CUT, name="cut")
        if self._dice.falls(faults.error_before_percent):
            return _failed(faults)
        return _Outcome(Answer(200, _EMPTY_LIST))

    async def _send(self, request: Request, account: Account) -> _Outcome:
        idempotency_key = request.headers.get("idempotency-key")
        if idempotency_key is None:
            return await self._process(request, account, "")
        if not 1 <= len(idempotency_key) <= 256:
            return _refused(errors.INVALID_IDEMPOTENCY_KEY)
        scope = account.name, idempotency_key
        # The validation mode is no part of what is compared.
        fingerprint = hashlib.sha1(request.body, usedforsecurity=False).digest()
        found = self.memory.begin(scope, fingerprint, self._clock.wall())
        if found is Finding.OTHER_PAYLOAD:
            return _refused(errors.OTHER_PAYLOAD)
        if found is Finding.RUNNING:
            return _refused(errors.STILL_RUNNING)
        if isinstance(found, Answer):
            # The first answer again. What befalls answers on their way befalls it too.
            faults = self.faults.of(account.name)
            await self._latency(faults, 1.0)
            return self._deliver(found, 0, faults, "replay")
        remember = None
        try:
            outcome = await self._process(request, account, idempotency_key)
            remember = outcome.remember
        finally:
            self.memory.settle(scope, remember)
        return outcome

    async def _process(self, request: Request, account: Account, key: str) -> _Outcome:
        faults = self.faults.of(account.name)
        await self._latency(faults, 0.5)
        if self._dice.falls(faults.cut_before_percent):
            return _Outcome(_CUT, name="cut")
        if self._dice.falls(faults.error_before_percent):
            return _failed(faults)
        permissive = request.headers.get("x-batch-validation", "").lower() == "permissive"
        read = batch.read(request.body, permissive=permissive, faults=faults)
        refusal = (
            read.refusal or _ordered_refusal(read, faults) or self._quota(read, account, faults)
        )
        if refusal is not None:
            return _refused(refusal)
        ids: list[str] = []
        if read.parcels:
            account.use(sum(p.recipients for p in read.parcels), self._clock.wall())
            ids = self.tally.accept(account.name, key, read.parcels)
        # From here on the mails are sent, whatever the caller gets to see.
        answer: dict[str, object] = {"data": [{"id": email_id} for email_id in ids]}
        if permissive:
            answer["errors"] = [{"index": e.index, "message": e.message} for e in read.errors]
        # Copied, because orjson leaves up to as much again behind its bytes, and this is kept.
        stored = Answer(200, bytes(memoryview(orjson.dumps(answer))))
        if faults.hang_s:
            await self._hang(account.name, faults.hang_s)
        await self._latency(faults, 0.5)
        return self._deliver(stored, len(ids), faults, "")

    def _quota(self, read: batch.Batch, account: Account, faults: Faults) -> Problem | None:
        daily, monthly = account.used(self._clock.wall())
        wanted = sum(p.recipients for p in read.parcels)
        if faults.quota == "daily" or (
            account.daily_quota is not None and daily + wanted > account.daily_quota
        ):
            return errors.DAILY_QUOTA
        if faults.quota == "monthly" or (
            account.monthly_quota is not None and monthly + wanted > account.monthly_quota
        ):
            return errors.MONTHLY_QUOTA
        return None

    def _deliver(self, stored: Answer, mails: int, faults: Faults, name: str) -> _Outcome:
        """The answer to accepted mails, as the caller gets to see it."""
        if self._dice.falls(faults.error_after_percent):
            return replace(_failed(faults), remember=stored, mails=mails)
        if self._dice.falls(faults.cut_after_percent):
            return _Outcome(_CUT, stored, "cut", mails)
        if self._dice.falls(faults.half_body_percent):
            return _Outcome(replace(stored, cut_at=0.5), stored, "half_body", mails)
        if self._dice.falls(faults.broken_body_percent):
            return _Outcome(replace(stored, body=b'{"data":[{"id":"'), stored, name, mails)
        if self._dice.falls(faults.wrong_ids_percent):
            told = orjson.loads(stored.body)
            told["data"] = told["data"][:-1]
            return _Outcome(replace(stored, body=orjson.dumps(told)), stored, name, mails)
        return _Outcome(stored, stored, name, mails)

    async def _latency(self, faults: Faults, share: float) -> None:
        seconds = (faults.latency_ms + self._dice.up_to(faults.jitter_ms)) / 1000 * share
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def _hang(self, account: str, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.faults.of(account).hang_s:
                    await self._ordered.wait()

    def _headers(self, faults: Faults, reading: Reading | None, account: Account) -> dict[str, str]:
        headers: dict[str, str] = {}
        if reading is not None:
            headers = _rate_headers(faults, reading)
        daily, monthly = account.used(self._clock.wall())
        if account.daily_quota is not None:
            headers["x-resend-daily-quota"] = str(daily)
        headers["x-resend-monthly-quota"] = str(monthly)
        return headers


def _rate_headers(faults: Faults, reading: Reading) -> dict[str, str]:
    match faults.ratelimit_headers:
        case "missing":
            return {}
        case "wrong":
            headers = {
                "ratelimit-limit": str(reading.limit * 1000),
                "ratelimit-remaining": str(reading.limit * 1000 - 1),
                "ratelimit-reset": "0",
            }
        case "garbled":
            headers = {
                "ratelimit-limit": "many",
                "ratelimit-remaining": "",
                "ratelimit-reset": "-1;w=soon",
            }
        case "right":
            headers = {
                "ratelimit-limit": str(reading.limit),
                "ratelimit-remaining": str(reading.remaining),
                "ratelimit-reset": str(reading.reset_s),
            }
    if not reading.granted:
        garbled = faults.ratelimit_headers == "garbled"
        headers["retry-after"] = "later" if garbled else str(reading.reset_s)
    return headers


def _ordered_refusal(read: batch.Batch, faults: Faults) -> Problem | None:
    """Why an order of faults refuses the whole batch."""
    forbidden, unverified = faults.forbidden_domains, faults.unverified_domains
    if forbidden or unverified:
        for parcel in read.parcels:
            domain = (batch.sender_of(str(parcel.mail["from"])) or "").rpartition("@")[2]
            if domain in forbidden or "*" in forbidden:
                return errors.forbidden(domain)
            if domain in unverified or "*" in unverified:
                return errors.unverified(domain)
    if faults.guilty and _any_named(read, faults.guilty):
        return errors.validation("The request was refused.", faults.guilty_status)
    if faults.poison and _any_named(read, faults.poison):
        return errors.APPLICATION_ERROR
    return None


def _any_named(read: batch.Batch, listed: frozenset[str]) -> bool:
    return any(names(listed, address) for parcel in read.parcels for address in parcel.addresses)


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _played(play: Play) -> Answer:
    headers = {name.lower(): value for name, value in play.headers.items()}
    content_type = headers.pop("content-type", JSON)
    return Answer(play.status, play.body.encode(), content_type, headers, play.cut_at)


def _refused(problem: Problem) -> _Outcome:
    return _Outcome(problem.answer(), name=problem.name)


def _failed(faults: Faults) -> _Outcome:
    """The 5xx that was ordered."""
    match faults.error_status:
        case 500:
            return _refused(errors.APPLICATION_ERROR)
        case 503:
            return _refused(errors.UNAVAILABLE)
        case gateway:
            page = f"<html><body><h1>{gateway}</h1></body></html>".encode()
            return _Outcome(Answer(gateway, page, "text/html; charset=UTF-8"), name="gateway")
