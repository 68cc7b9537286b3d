"""The Resend endpoints that streamer uses, with injected faults.

The real Resend's behavior is unknown in these cases; the sandbox's choice is in parentheses:

- whether errors are remembered for an idempotency key (no)
- the status of a permissive batch without any valid item (200)
- the status of a batch of more than 100 items (422)
- the maximum size of a body (unlimited)
- whether the validation mode is part of the payload compared for an idempotency key (no)
- whether idempotency keys are separate for each API key of an account (no)

`Play` can give any other response.
"""

from dataclasses import replace

from streamer.sandbox import emails, errors, suppressions
from streamer.sandbox.accounts import AccountRegistry, Reading, SandboxAccount
from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config
from streamer.sandbox.emails import CUT, Emails, Handled, is_permissive, refused
from streamer.sandbox.errors import RefusalError
from streamer.sandbox.faults import FaultBook, Faults, Play, ResponseScript, Rng
from streamer.sandbox.http import JSON, HttpResponse, Request
from streamer.sandbox.recorder import Call, Recorder
from streamer.sandbox.webhooks import Webhooks

_EMPTY_LIST = b'{"object":"list","has_more":false,"data":[]}'
_CLOUDFLARE = HttpResponse(403, b"error code: 1010", "text/plain; charset=UTF-8")


class Api:
    """Resend's API."""

    def __init__(
        self, config: Config, accounts: AccountRegistry, recorder: Recorder, clock: Clock
    ) -> None:
        self.accounts = accounts
        self.recorder = recorder
        self.faults = FaultBook(config.faults)
        self._clock = clock
        self._rng = Rng(config.seed)
        self.script = ResponseScript(self._rng)
        self.webhooks = Webhooks(config, self.faults, self._rng, clock)
        self.emails = Emails(recorder, self.faults, self._rng, clock, self.webhooks)

    async def handle(self, request: Request) -> HttpResponse:
        """Respond to a call and record it."""
        if not request.headers.get("user-agent"):
            return _CLOUDFLARE
        arrived, wall = self._clock.monotonic(), self._clock.wall()
        self.recorder.in_flight += 1
        try:
            key = _bearer(request.headers.get("authorization", ""))
            account = self.accounts.of_key(key)
            name = account.name if account is not None else ""
            outcome = await self._outcome(request, key, account)
        finally:
            self.recorder.in_flight -= 1
        self.recorder.answered(
            Call(
                name,
                arrived,
                wall,
                outcome.response.status,
                outcome.name,
                outcome.mails,
                request.headers.get("idempotency-key", ""),
            )
        )
        return outcome.response

    async def _outcome(self, request: Request, key: str, account: SandboxAccount | None) -> Handled:
        name = account.name if account is not None else None
        faults = self.faults.of(name)
        play = self.script.next(name, key, accepts=False)
        if play is not None:
            await self._rng.spend_latency(faults, 1.0)
            return Handled(_played(play), name=play.name)
        if faults.outage == "drop":
            return Handled(CUT, name="cut")
        if faults.outage == "unavailable":
            return refused(errors.UNAVAILABLE)
        bad_key = errors.key_refusal(faults)
        if bad_key is not None and not (faults.fail_later and is_permissive(request)):
            return refused(bad_key)
        if not key:
            return refused(errors.MISSING_KEY)
        if account is None:
            return refused(errors.UNKNOWN_KEY)
        reading = None
        if account.limit is not None:
            reading = account.window.take(account.limit, self._clock.monotonic())
        if reading is not None and not reading.granted:
            outcome = refused(errors.too_fast(reading.limit))
        else:
            try:
                outcome = await self._routed(request, account, key)
            except RefusalError as error:
                outcome = refused(error.problem)
        play = self.script.next(name, key, accepts=True)
        if play is not None:
            return replace(outcome, response=_played(play), name=play.name)
        # Read again: the faults may have changed during the call.
        faults = self.faults.of(account.name)
        headers = self._headers(faults, reading, account)
        return replace(outcome, response=replace(outcome.response, headers=headers))

    async def _routed(self, request: Request, account: SandboxAccount, key: str) -> Handled:
        if request.path in (emails.SINGLE, emails.BATCH):
            if request.method != "POST":
                raise RefusalError(errors.METHOD_NOT_ALLOWED)
            return await self.emails.send(request, account, key)
        faults = self.faults.of(account.name)
        if key in faults.sending_only or "*" in faults.sending_only:
            raise RefusalError(errors.SENDING_ONLY)
        await self._rng.spend_latency(faults, 1.0)
        trouble = emails.trouble_before(faults, self._rng)
        return trouble or Handled(self._found(request, account))

    def _found(self, request: Request, account: SandboxAccount) -> HttpResponse:
        match request.path.split("/")[1:]:
            case ["suppressions", *_]:
                return suppressions.answer(request, account.suppressions, self._clock.wall())
            case ["webhooks", *_]:
                return self.webhooks.answer(request)
            case ["domains" | "api-keys"] if request.method == "GET":
                return HttpResponse(200, _EMPTY_LIST)
            case ["emails", email_id] if request.method == "GET":
                return self.emails.get(email_id, account)
            case ["domains" | "api-keys"] | ["emails", _]:
                raise RefusalError(errors.METHOD_NOT_ALLOWED)
        raise RefusalError(errors.NOT_FOUND)

    def _headers(
        self, faults: Faults, reading: Reading | None, account: SandboxAccount
    ) -> dict[str, str]:
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
                "ratelimit-policy": f"{reading.limit * 1000};w=1",
            }
        case "garbled":
            headers = {
                "ratelimit-limit": "many",
                "ratelimit-remaining": "",
                "ratelimit-reset": "-1;w=soon",
                "ratelimit-policy": "often",
            }
        case "right":
            headers = {
                "ratelimit-limit": str(reading.limit),
                "ratelimit-remaining": str(reading.remaining),
                "ratelimit-reset": str(reading.reset_s),
                "ratelimit-policy": f"{reading.limit};w=1",
            }
    if not reading.granted:
        garbled = faults.ratelimit_headers == "garbled"
        headers["retry-after"] = "later" if garbled else str(reading.reset_s)
    return headers


def _bearer(authorization: str) -> str:
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _played(play: Play) -> HttpResponse:
    headers = {name.lower(): value for name, value in play.headers.items()}
    content_type = headers.pop("content-type", JSON)
    return HttpResponse(play.status, play.body.encode(), content_type, headers, play.cut_at)
