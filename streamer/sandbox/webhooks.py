"""Webhooks: what becomes of accepted mails, signed and repeated as Resend does.

A mail is `sent`, perhaps `delivery_delayed`, then `delivered` or `bounced`; a delivered one may be
`opened`, and `complained` about. Shares, repeats and disorder are faults; Resend's test addresses
and suppressions behave as there.
"""

import asyncio
import base64
import heapq
import hmac
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import dropwhile, islice
from urllib.parse import parse_qs
from uuid import UUID

import orjson
import urllib3

from streamer.sandbox import errors
from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config
from streamer.sandbox.errors import Problem, RefusalError
from streamer.sandbox.faults import FaultBook, Faults, Rng
from streamer.sandbox.http import HttpResponse, Request
from streamer.sandbox.rules import ParsedEmail

_SENDERS = 8
_ID = "wh_sandbox"
_KEPT = 20_000
_TIMEOUT_S = 15.0
_STEP = timedelta(milliseconds=10)


@dataclass(order=True, slots=True)
class _Due:
    """A webhook to be sent.

    Attributes:
        at: when, in monotonic seconds.
        number: which of those at the same time comes first.
    """

    at: float
    number: int
    event_id: str = field(compare=False)
    body: bytes = field(compare=False)
    tries: int = field(compare=False, default=0)


@dataclass(slots=True)
class _Record:
    """An event as Resend shows it."""

    event_id: str
    kind: str
    created_at: str
    body: bytes
    status: str = "pending"

    def shown(self) -> dict[str, object]:
        return {
            "id": self.event_id,
            "type": self.kind,
            "created_at": self.created_at,
            "status": self.status,
        }


class Webhooks:
    """Sends the webhooks of all accounts to one URL.

    Attributes:
        url: where to; None for nowhere.
        pending: the number of webhooks that are not acknowledged yet.
    """

    def __init__(self, config: Config, faults: FaultBook, rng: Rng, clock: Clock) -> None:
        self.url = config.webhook_url
        self.pending = 0
        self._secret = base64.b64decode(config.webhook_secret.removeprefix("whsec_"))
        self._retries_s = config.webhook_retries_s
        self._faults = faults
        self._rng = rng
        self._clock = clock
        self._due: list[_Due] = []
        self._records: dict[str, _Record] = {}
        self._number = 0
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(_SENDERS, thread_name_prefix="webhooks")
        self._http = urllib3.PoolManager(retries=False, maxsize=_SENDERS, timeout=_TIMEOUT_S)

    def accepted(
        self,
        account: str,
        ids: Sequence[str],
        emails: Sequence[ParsedEmail],
        failed: Mapping[int, Problem],
        last_events: Sequence[str],
    ) -> None:
        """Plan the webhooks of accepted mails.

        Args:
            account: the account.
            ids: the ids of the mails.
            emails: the mails.
            failed: why mails, by index, fail after their acceptance.
            last_events: what becomes of each mail for its address.
        """
        if self.url is None:
            return
        faults = self._faults.of(account)
        for index, (email_id, email, last) in enumerate(zip(ids, emails, last_events, strict=True)):
            at = datetime.fromtimestamp(self._clock.wall(), UTC)
            for kind, details in self._course(faults, last, failed.get(index)):
                self._plan(faults, email_id, email, kind, details, at)
                at += _STEP

    def _course(
        self, faults: Faults, last: str, problem: Problem | None
    ) -> list[tuple[str, dict[str, object]]]:
        if problem is not None:
            return [("failed", {"failed": {"reason": problem.name}})]
        found: list[tuple[str, dict[str, object]]] = [("sent", {})]
        if last == "suppressed":
            return [*found, ("suppressed", {"suppressed": {"type": "OnAccountSuppressionList"}})]
        if self._rng.chance(faults.delayed_percent):
            found.append(("delivery_delayed", {}))
        if last == "bounced" or self._rng.chance(faults.bounced_percent):
            return [*found, ("bounced", _bounce("Permanent"))]
        if self._rng.chance(faults.bounced_transient_percent):
            return [*found, ("bounced", _bounce("Transient"))]
        found.append(("delivered", {}))
        if self._rng.chance(faults.opened_percent):
            found.append(("opened", {}))
        if last == "complained" or self._rng.chance(faults.complained_percent):
            found.append(("complained", {}))
        return found

    def _plan(
        self,
        faults: Faults,
        email_id: str,
        email: ParsedEmail,
        kind: str,
        details: dict[str, object],
        at: datetime,
    ) -> None:
        mail = email.mail
        payload = {
            "type": f"email.{kind}",
            "created_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "data": {
                "email_id": email_id,
                "created_at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "from": mail.get("from"),
                "to": list(email.addresses),
                "subject": mail.get("subject"),
                "tags": email.tags,
                **details,
            },
        }
        body = orjson.dumps(payload)
        event_id = f"msg_{UUID(bytes=self._rng.bytes(16)).hex}"
        self._records[event_id] = _Record(
            event_id, f"email.{kind}", at.isoformat(timespec="milliseconds"), body
        )
        while len(self._records) > _KEPT:
            del self._records[next(iter(self._records))]
        for _ in range(2 if self._rng.chance(faults.repeated_percent) else 1):
            after_s = (faults.event_ms + self._rng.up_to(faults.disorder_ms)) / 1000
            self._number += 1
            due = _Due(self._clock.monotonic() + after_s, self._number, event_id, body)
            heapq.heappush(self._due, due)
            self.pending += 1
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._send_all())

    def answer(self, request: Request) -> HttpResponse:
        """Handle a call below `/webhooks`.

        Raises:
            RefusalError: there is no such endpoint, webhook or event.
        """
        if request.method != "GET":
            raise RefusalError(errors.METHOD_NOT_ALLOWED)
        match request.path.split("/")[2:]:
            case []:
                own: list[dict[str, object]] = [{"id": _ID, "endpoint": self.url}]
                return _listed(own if self.url is not None else [], has_more=False)
            case [found, "events"] if found == _ID:
                asked = {name: values[-1] for name, values in parse_qs(request.query).items()}
                rows: Iterator[_Record] = reversed(self._records.values())
                if (after := asked.get("after")) is not None:
                    rows = islice(dropwhile(lambda each: each.event_id != after, rows), 1, None)
                page = [each.shown() for each in islice(rows, int(asked.get("limit", "20")))]
                return _listed(page, has_more=next(rows, None) is not None)
            case [found, "events", event_id] if found == _ID and event_id in self._records:
                record = self._records[event_id]
                shown = {"object": "webhook_event", **record.shown()}
                return HttpResponse(
                    200, orjson.dumps({**shown, "payload": orjson.loads(record.body)})
                )
        raise RefusalError(errors.NOT_FOUND)

    async def _send_all(self) -> None:
        while self._due or self._sending:
            self._changed.clear()
            now = self._clock.monotonic()
            while self._due and self._due[0].at <= now and len(self._sending) < 4 * _SENDERS:
                task = asyncio.create_task(self._send(heapq.heappop(self._due)))
                self._sending.add(task)
                task.add_done_callback(self._finished)
            wait_s = max(0.0, self._due[0].at - now) if self._due else None
            if wait_s == 0.0:
                wait_s = None  # until one of those being sent is done
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        self._changed.set()

    async def _send(self, due: _Due) -> None:
        loop = asyncio.get_running_loop()
        is_taken = await loop.run_in_executor(self._threads, self._post, due)
        record = self._records.get(due.event_id)
        if record is not None and record.status != "success":
            record.status = "success" if is_taken else "attempting"
        if is_taken or due.tries >= len(self._retries_s):
            self.pending -= 1
            return
        due.at = self._clock.monotonic() + self._retries_s[due.tries]
        due.tries += 1
        heapq.heappush(self._due, due)

    def _post(self, due: _Due) -> bool:
        """Send a webhook; return whether it was acknowledged."""
        timestamp = str(int(self._clock.wall()))
        signed = f"{due.event_id}.{timestamp}.".encode() + due.body
        signature = base64.b64encode(hmac.digest(self._secret, signed, "sha256")).decode()
        headers = {
            "content-type": "application/json",
            "svix-id": due.event_id,
            "svix-timestamp": timestamp,
            "svix-signature": f"v1,{signature}",
        }
        try:
            answer = self._http.request("POST", self.url or "", body=due.body, headers=headers)
        except urllib3.exceptions.HTTPError:
            return False
        return 200 <= answer.status < 300


def _listed(rows: Sequence[dict[str, object]], *, has_more: bool) -> HttpResponse:
    body = {"object": "list", "has_more": has_more, "data": rows}
    return HttpResponse(200, orjson.dumps(body))


def _bounce(kind: str) -> dict[str, object]:
    message = "The recipient's mail server rejected the mail."
    return {"bounce": {"type": kind, "subType": "General", "message": message}}
