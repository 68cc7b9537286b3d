"""Resend's batch endpoint in memory, with idempotency keys and answers that tests choose."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from streamer.provider.client import ApiResponse
from tests.kit.fakes.clock import FakeClock

_ID_DIGITS = 24
_MAX_CALLS = 20_000
_REFUSED_ITEM = "Invalid `to` field. The address is refused by this sandbox."


def error(status: int, name: str, message: str, **headers: str) -> ApiResponse:
    """An error as Resend answers it; `retry_after` becomes the header `retry-after`."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return ApiResponse(status, name, message, {}, named)


def page(status: int) -> ApiResponse:
    """What a proxy or a firewall answers instead of Resend."""
    return ApiResponse(status, "", "not Resend's answer", {}, {}, is_from_resend=False)


NO_ANSWER = ApiResponse(None, "HttpClientError", "the connection was closed", {}, {})
WITHHELD = ApiResponse(None, "", "", {}, {}, withheld=True)
OTHER_PAYLOAD = error(
    409,
    "invalid_idempotent_request",
    "Same idempotency key used with a different request payload.",
)
STILL_RUNNING = error(
    409,
    "concurrent_idempotent_requests",
    "Same idempotency key used while original request is still in progress.",
)


@dataclass(frozen=True, slots=True)
class Accepts:
    """The mails are accepted, whatever the caller is answered: by default nothing."""

    response: ApiResponse = NO_ANSWER


Reply = ApiResponse | Accepts


class ReceivedCall(NamedTuple):
    """A call that reached Resend.

    Attributes:
        suffix: what follows the batch's id in the idempotency key; empty for the whole batch.
        at: when it arrived; monotonic clock.
    """

    api_key: str
    batch_id: str
    suffix: str
    addresses: tuple[str, ...]
    at: float


class AcceptedMail(NamedTuple):
    """A mail that Resend accepted."""

    email_id: str
    address: str
    idempotency_key: str


class FakeResend:
    """Accepts each batch once for its idempotency key, and repeats its answer after that.

    Attributes:
        calls: those that arrived, in order.
        accepted: the mails, in the order in which they were accepted.
        refused: addresses whose mails are refused within their batch.
        decide: chooses the answer to a call; None leaves it to the rest.
        before_leaving: called once the connection is open, before the caller is asked whether the
            call may still leave.
        while_running: called while a call is being processed.
    """

    def __init__(self, clock: FakeClock, latency_s: float = 0.06) -> None:
        self.calls: list[ReceivedCall] = []
        self.accepted: list[AcceptedMail] = []
        self.refused: set[str] = set()
        self.decide: Callable[[ReceivedCall], Reply | None] = lambda call: None
        self.before_leaving: Callable[[], None] = lambda: None
        self.while_running: Callable[[], None] = lambda: None
        self._clock = clock
        self._latency_s = latency_s
        self._answers: defaultdict[str | None, deque[Reply]] = defaultdict(deque)
        self._remembered: dict[tuple[str, str], tuple[bytes, ApiResponse | None]] = {}

    def answer(self, *replies: Reply, to: str | None = None) -> None:
        """Give these answers to the next calls, one to each.

        An `ApiResponse` means that nothing was accepted, and nothing is remembered for the key.

        Args:
            to: only to calls whose idempotency key is a batch's id and this suffix.
        """
        self._answers[to] += replies

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse:
        self.before_leaving()
        if not may_send():
            return WITHHELD
        assert len(self.calls) < _MAX_CALLS, "calls for ever"
        sent_at = self._clock.monotonic()
        addresses = tuple(mail["to"][0] for mail in orjson.loads(body))
        batch_id, suffix = idempotency_key[:_ID_DIGITS], idempotency_key[_ID_DIGITS:]
        call = ReceivedCall(key, batch_id, suffix, addresses, sent_at)
        self.calls.append(call)
        self._clock.advance(self._latency_s / 2)
        response = self._response(call, idempotency_key, body)
        self._clock.advance(self._latency_s / 2)
        return ApiResponse(
            response.status,
            response.name,
            response.message,
            response.data,
            response.headers,
            sent_at,
            is_from_resend=response.is_from_resend,
        )

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of the keys that were called, in order."""
        return [call.suffix for call in self.calls]

    def ids(self) -> dict[str, str]:
        """The id of the mail to each address.

        Raises:
            AssertionError: an address got two mails.
        """
        found = {mail.address: mail.email_id for mail in self.accepted}
        assert len(found) == len(self.accepted), "somebody was mailed twice"
        return found

    def _response(self, call: ReceivedCall, idempotency_key: str, body: bytes) -> ApiResponse:
        reply = self._chosen(call)
        if isinstance(reply, ApiResponse):
            return reply
        response = self._process(call, idempotency_key, body)
        return response if reply is None else reply.response

    def _chosen(self, call: ReceivedCall) -> Reply | None:
        for answers in (self._answers[call.suffix], self._answers[None]):
            if answers:
                return answers.popleft()
        return self.decide(call)

    def _process(self, call: ReceivedCall, idempotency_key: str, body: bytes) -> ApiResponse:
        scope = (call.api_key, idempotency_key)
        if scope in self._remembered:
            known, response = self._remembered[scope]
            if known != body:
                return OTHER_PAYLOAD
            return STILL_RUNNING if response is None else response
        self._remembered[scope] = (body, None)
        try:
            self.while_running()
        finally:  # a caller that dies meanwhile does not stop it
            response = self._accept(call, idempotency_key)
            self._remembered[scope] = (body, response)
        return response

    def _accept(self, call: ReceivedCall, idempotency_key: str) -> ApiResponse:
        data, errors = [], []
        for index, address in enumerate(call.addresses):
            if address in self.refused:
                errors.append({"index": index, "message": _REFUSED_ITEM})
                continue
            email_id = f"id-{len(self.accepted)}"
            self.accepted.append(AcceptedMail(email_id, address, idempotency_key))
            data.append({"id": email_id})
        return ApiResponse(200, "", "", {"data": data, "errors": errors}, {})
