"""`/emails`: accepts mails once per idempotency key, and looks them up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from streamer.sandbox import batch, errors
from streamer.sandbox.accounts import SandboxAccount
from streamer.sandbox.batch import ParsedBatch
from streamer.sandbox.clock import Clock
from streamer.sandbox.errors import Problem, RefusalError
from streamer.sandbox.faults import FaultBook, Faults, Rng, names
from streamer.sandbox.http import HttpResponse, Request
from streamer.sandbox.idempotency import IdempotencyStore, KeyState
from streamer.sandbox.recorder import Kept, Recorder
from streamer.sandbox.rules import ParsedEmail, Rules, addresses_of, scheduled_time, sender_of
from streamer.sandbox.suppressions import SuppressionList, timestamp
from streamer.sandbox.webhooks import Webhooks

SINGLE = "/emails"
BATCH = "/emails/batch"
CUT = HttpResponse(0, cut_at=0)
_TEST_DOMAIN = "@resend.dev"
_TEST_EVENTS = frozenset({"bounced", "complained", "suppressed"})


@dataclass(slots=True, frozen=True)
class Handled:
    """The response to give, and the one to remember for the idempotency key, if any."""

    response: HttpResponse
    remember: HttpResponse | None = None
    name: str = ""
    mails: int = 0


def refused(problem: Problem) -> Handled:
    """Return the response to a rejected call."""
    return Handled(problem.answer(), name=problem.name)


def failed(faults: Faults) -> Handled:
    """Return the configured 5xx response."""
    match faults.error_status:
        case 500:
            return refused(errors.APPLICATION_ERROR)
        case 503:
            return refused(errors.UNAVAILABLE)
        case gateway:
            page = f"<html><body><h1>{gateway}</h1></body></html>".encode()
            return Handled(HttpResponse(gateway, page, "text/html; charset=UTF-8"), name="gateway")


def trouble_before(faults: Faults, rng: Rng) -> Handled | None:
    """Return the fault that hits a call before it is processed, if any."""
    if rng.chance(faults.cut_before_percent):
        return Handled(CUT, name="cut")
    if rng.chance(faults.error_before_percent):
        return failed(faults)
    return None


def is_permissive(request: Request) -> bool:
    """Whether the request is a batch in permissive mode, which skips invalid mails."""
    mode = request.headers.get("x-batch-validation", "")
    return request.path == BATCH and mode.lower() == "permissive"


class Emails:
    """Accepts mails and reports their last event."""

    def __init__(
        self, recorder: Recorder, faults: FaultBook, rng: Rng, clock: Clock, webhooks: Webhooks
    ) -> None:
        self.memory = IdempotencyStore()
        self._webhooks = webhooks
        self._recorder = recorder
        self._faults = faults
        self._rng = rng
        self._clock = clock

    async def send(self, request: Request, account: SandboxAccount, api_key: str) -> Handled:
        """Handle `POST /emails` or `POST /emails/batch`.

        Raises:
            RefusalError: nothing was sent.
        """
        idempotency_key = request.headers.get("idempotency-key")
        if idempotency_key is None:
            return await self._process(request, account, api_key, "")
        if not 1 <= len(idempotency_key) <= 256:
            raise RefusalError(errors.INVALID_IDEMPOTENCY_KEY)
        scope = account.name, request.path, idempotency_key
        # The validation mode is not compared.
        found = self.memory.begin(scope, request.body, self._clock.wall())
        if found is KeyState.OTHER_PAYLOAD:
            raise RefusalError(errors.OTHER_PAYLOAD)
        if found is KeyState.RUNNING:
            raise RefusalError(errors.STILL_RUNNING)
        if isinstance(found, HttpResponse):
            # Repeat the first response, subject to the same response faults.
            faults = self._faults.of(account.name)
            await self._rng.spend_latency(faults, 1.0)
            return self._deliver(found, 0, faults, "replay")
        remember = None
        try:
            outcome = await self._process(request, account, api_key, idempotency_key)
            remember = outcome.remember
        finally:
            self.memory.settle(scope, remember)
        return outcome

    def get(self, email_id: str, account: SandboxAccount) -> HttpResponse:
        """Handle `GET /emails/ID`.

        Raises:
            RefusalError: the mail is not kept, or belongs to another account.
        """
        kept = self._recorder.kept(email_id)
        if kept is None or kept.account != account.name:
            raise RefusalError(errors.not_found("Email"))
        mail = kept.mail
        fields = ("from", "subject", "html", "text", "scheduled_at", "topic_id", "tags")
        shown: dict[str, object] = {
            "object": "email",
            "id": email_id,
            "message_id": f"<{email_id}@sandbox.test>",
            "created_at": timestamp(kept.wall),
            "last_event": self._last_event(kept, account.suppressions),
        }
        shown |= {field: mail.get(field) for field in fields}
        for field in ("to", "cc", "bcc", "reply_to"):
            value = mail.get(field)
            shown[field] = [value] if isinstance(value, str) else value
        return HttpResponse(200, orjson.dumps(shown))

    async def _process(
        self, request: Request, account: SandboxAccount, api_key: str, key: str
    ) -> Handled:
        faults = self._faults.of(account.name)
        await self._rng.spend_latency(faults, 0.5)
        trouble = trouble_before(faults, self._rng)
        if trouble is not None:
            return trouble
        stored, mails = self._accept(request, account, api_key, key, faults)
        # From here on the mails count as sent, whatever the caller sees. They are freed already:
        # that takes several times as long once they have left the CPU's cache.
        if faults.hang_s:
            await self._faults.hang(account.name)
        await self._rng.spend_latency(faults, 0.5)
        return self._deliver(stored, mails, faults, "")

    def _accept(
        self, request: Request, account: SandboxAccount, api_key: str, key: str, faults: Faults
    ) -> tuple[HttpResponse, int]:
        """Record the mails of a request; return the response, and how many they are.

        Raises:
            RefusalError: nothing was recorded.
        """
        permissive = is_permissive(request)
        rules = Rules(faults, self._clock.wall())
        if request.path == BATCH:
            read = batch.read(request.body, rules, permissive=permissive)
        else:
            read = ParsedBatch([rules.parse(errors.parse_json(request.body))])
        _check_ordered(read.emails, faults)
        problems = self._account_problems(read.emails, account, api_key, faults)
        if problems and not (permissive and faults.fail_later):
            raise RefusalError(next(iter(problems.values())))
        ids: list[str] = []
        if read.emails:
            sent = read.emails
            if problems:
                sent = [p for index, p in enumerate(read.emails) if index not in problems]
            account.use(_recipients(sent), self._clock.wall())
            ids = self._recorder.accept(account.name, key, read.emails)
            self._recorder.failed.update(ids[index] for index in problems)
            if self._webhooks.url is not None:
                lasts = [_last_event(p.addresses, account.suppressions) for p in read.emails]
                self._webhooks.accepted(account.name, ids, read.emails, problems, lasts)
        body = {"id": ids[0]} if request.path == SINGLE else _told(ids, read, permissive, faults)
        # Copy, since this is kept: orjson's bytes can occupy up to twice their size.
        return HttpResponse(200, bytes(memoryview(orjson.dumps(body)))), len(ids)

    def _account_problems(
        self, parcels: Sequence[ParsedEmail], account: SandboxAccount, api_key: str, faults: Faults
    ) -> Mapping[int, Problem]:
        """Return the errors, by index, of mails blocked by their sender or account."""
        whole = errors.key_refusal(faults) or self._quota_problem(parcels, account, faults)
        if whole is not None:
            return dict.fromkeys(range(len(parcels)), whole)
        if not (faults.key_domains or faults.unverified_domains):
            return {}
        found = enumerate(_sender_problem(parcel, api_key, faults) for parcel in parcels)
        return {index: problem for index, problem in found if problem is not None}

    def _quota_problem(
        self, parcels: Sequence[ParsedEmail], account: SandboxAccount, faults: Faults
    ) -> Problem | None:
        daily, monthly = account.used(self._clock.wall())
        wanted = _recipients(parcels)
        if faults.quota == "daily" or (
            account.daily_quota is not None and daily + wanted > account.daily_quota
        ):
            return errors.DAILY_QUOTA
        if faults.quota == "monthly" or (
            account.monthly_quota is not None and monthly + wanted > account.monthly_quota
        ):
            return errors.MONTHLY_QUOTA
        return None

    def _deliver(self, stored: HttpResponse, mails: int, faults: Faults, name: str) -> Handled:
        """Return the response to accepted mails after applying response faults."""
        if self._rng.chance(faults.error_after_percent):
            return replace(failed(faults), remember=stored, mails=mails)
        if self._rng.chance(faults.cut_after_percent):
            return Handled(CUT, stored, "cut", mails)
        if self._rng.chance(faults.half_body_percent):
            return Handled(replace(stored, cut_at=0.5), stored, "half_body", mails)
        if self._rng.chance(faults.broken_body_percent):
            return Handled(replace(stored, body=b'{"data":[{"id":"'), stored, name, mails)
        if self._rng.chance(faults.wrong_ids_percent):
            told = orjson.loads(stored.body)
            short = {**told, "data": told["data"][:-1]} if "data" in told else {}
            return Handled(replace(stored, body=orjson.dumps(short)), stored, name, mails)
        return Handled(stored, stored, name, mails)

    def _last_event(self, kept: Kept, suppressions: SuppressionList) -> str:
        if kept.email_id in self._recorder.failed:
            return "failed"
        at = kept.mail.get("scheduled_at")
        due = scheduled_time(at, kept.wall) if isinstance(at, str) else None
        if due is not None and due > self._clock.wall():
            return "scheduled"
        return _last_event(addresses_of("to", kept.mail["to"]), suppressions, kept.wall)


def _last_event(
    addresses: Sequence[str], suppressions: SuppressionList, wall: float | None = None
) -> str:
    """Return what becomes of a mail for its addresses.

    Args:
        wall: when it was accepted; None for now.
    """
    for address in addresses:
        suppression = suppressions.find(address)
        if suppression is not None and (wall is None or suppression.wall <= wall):
            return "suppressed"
        if address.endswith(_TEST_DOMAIN):
            name = address.removesuffix(_TEST_DOMAIN).partition("+")[0]
            return name if name in _TEST_EVENTS else "delivered"
    return "delivered"


def _recipients(parcels: Sequence[ParsedEmail]) -> int:
    return sum(parcel.recipients for parcel in parcels)


def _told(
    ids: Sequence[str], read: ParsedBatch, permissive: bool, faults: Faults
) -> dict[str, object]:
    """Return the response body of a batch."""
    data: list[dict[str, str] | None] = [{"id": email_id} for email_id in ids]
    if not permissive:
        return {"data": data}
    if faults.null_for_refused:
        for error in read.errors:
            data.insert(error.index, None)
    errors_told = [{"index": e.index, "message": e.message} for e in read.errors]
    return {"data": data, "errors": errors_told}


def _check_ordered(parcels: Sequence[ParsedEmail], faults: Faults) -> None:
    """Reject a batch that contains an address with a configured fault."""
    if faults.reject_addresses and _any_named(parcels, faults.reject_addresses):
        raise RefusalError(errors.validation("The request was refused.", faults.reject_status))
    if faults.fail_addresses and _any_named(parcels, faults.fail_addresses):
        raise RefusalError(errors.APPLICATION_ERROR)


def _any_named(parcels: Sequence[ParsedEmail], listed: frozenset[str]) -> bool:
    return any(names(listed, address) for parcel in parcels for address in parcel.addresses)


def _sender_problem(parcel: ParsedEmail, api_key: str, faults: Faults) -> Problem | None:
    # A template can define its own sender, which is unknown here.
    sender = parcel.mail.get("from")
    domain = (sender_of(str(sender)) or "").rpartition("@")[2]
    own = faults.key_domains.get(api_key, faults.key_domains.get("*"))
    if own is not None and domain != own:
        return errors.forbidden(domain)
    if domain in faults.unverified_domains or "*" in faults.unverified_domains:
        return errors.unverified(domain)
    return None
