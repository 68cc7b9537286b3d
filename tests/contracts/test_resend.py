"""What workers rely on about Resend: in memory, and the sandbox through the real client."""

import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from threading import Thread

import orjson
import pytest

from streamer.model.disposition import Accepted, Conflicting, Retry
from streamer.model.reasons import Reason
from streamer.model.result import ItemResult
from streamer.provider.client import ApiResponse, ResendClient
from streamer.provider.responses import classify_response, result_label
from streamer.sandbox import DEFAULT_KEY, Faults, Play, SandboxProcess
from streamer.worker.calling import BatchApi
from tests.kit.fakes.clock import FakeClock
from tests.kit.fakes.resend import Accepts, FakeResend, Reply, error, page

ERRORS = [
    error(400, "validation_error", "API key is invalid"),
    error(403, "", "This API key is not authorized to send emails from acme.test"),
    error(409, "concurrent_idempotent_requests", "Still running."),
    error(422, "validation_error", "Invalid `to` field."),
    error(429, "rate_limit_exceeded", "Slow down.", retry_after="7", ratelimit_limit="10"),
    error(500, "application_error", "It broke."),
    page(403),
    page(502),
]


class ResendUnderTest(ABC):
    """Resend's API, and what it accepted."""

    def __init__(self, api: BatchApi) -> None:
        self._api = api

    def send(
        self, key: str, *addresses: str, may_send: Callable[[], bool] = lambda: True
    ) -> ApiResponse:
        """Send a batch of one mail to each address."""
        mails = [
            {"from": "a@acme.test", "to": [address], "subject": "s", "text": "t"}
            for address in addresses
        ]
        return self._api.send_batch(DEFAULT_KEY, key, orjson.dumps(mails), may_send)

    @abstractmethod
    def answer(self, reply: Reply) -> None:
        """Give this answer to the next call."""

    @abstractmethod
    def refuse(self, address: str) -> None:
        """Refuse mails to an address, within their batches."""

    @abstractmethod
    def accepted(self) -> list[tuple[str, str]]:
        """The id and the address of each mail, in order."""

    @abstractmethod
    def while_running(self, key: str, address: str, call: Callable[[], None]) -> None:
        """Do something while a call with this key is being processed, and let it end."""


class ResendInMemory(ResendUnderTest):
    def __init__(self) -> None:
        self._resend = FakeResend(FakeClock())
        super().__init__(self._resend)

    def answer(self, reply: Reply) -> None:
        self._resend.answer(reply)

    def refuse(self, address: str) -> None:
        self._resend.refused.add(address)

    def accepted(self) -> list[tuple[str, str]]:
        return [(mail.email_id, mail.address) for mail in self._resend.accepted]

    def while_running(self, key: str, address: str, call: Callable[[], None]) -> None:
        def once() -> None:
            self._resend.while_running = lambda: None
            call()

        self._resend.while_running = once
        self.send(key, address)


class ResendInSandbox(ResendUnderTest):
    def __init__(self, sandbox: SandboxProcess) -> None:
        self._sandbox = sandbox
        super().__init__(ResendClient(sandbox.url, 20.0))

    def answer(self, reply: Reply) -> None:
        response = reply.response if isinstance(reply, Accepts) else reply
        accepts = isinstance(reply, Accepts)
        if response.status is None:
            self._sandbox.play(Play(status=200, cut_at=0, accepts=accepts, times=1))
            return
        told = {"statusCode": response.status, "message": response.message}
        body = orjson.dumps(told | ({"name": response.name} if response.name else {})).decode()
        headers = dict(response.headers)
        if not response.is_from_resend:
            body, headers = "<html></html>", {"content-type": "text/html"}
        self._sandbox.play(
            Play(status=response.status, headers=headers, body=body, accepts=accepts, times=1)
        )

    def refuse(self, address: str) -> None:
        self._sandbox.set_faults(Faults(refused=frozenset({address})))

    def accepted(self) -> list[tuple[str, str]]:
        return [(each.email_id, each.address) for each in self._sandbox.acceptances()]

    def while_running(self, key: str, address: str, call: Callable[[], None]) -> None:
        self._sandbox.set_faults(Faults(hang_s=20.0))
        thread = Thread(target=self.send, args=(key, address))
        thread.start()
        deadline = time.monotonic() + 20
        while not self._sandbox.stats().accepted:
            assert time.monotonic() < deadline, "the call does not arrive"
            time.sleep(0.01)
        call()
        self._sandbox.reset_faults()
        thread.join()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[SandboxProcess]:
    with SandboxProcess(limit=None) as process:
        yield process


@pytest.fixture(params=["fake", "real"])
def resend(request: pytest.FixtureRequest) -> ResendUnderTest:
    if request.param == "fake":
        return ResendInMemory()
    sandbox: SandboxProcess = request.getfixturevalue("sandbox")
    sandbox.reset_faults()
    sandbox.reset()
    return ResendInSandbox(sandbox)


def new_key() -> str:
    return secrets.token_hex(12)


def ids(response: ApiResponse, count: int) -> list[str]:
    """The ids of the accepted mails."""
    disposition = classify_response(response, count)
    assert isinstance(disposition, Accepted)
    return [item.text or "" for item in disposition.items]


def test_a_batch_is_accepted_with_an_id_for_each_mail(resend: ResendUnderTest) -> None:
    response = resend.send(new_key(), "a@b.test", "b@b.test")
    found = ids(response, 2)
    assert len(set(found)) == 2
    assert resend.accepted() == list(zip(found, ("a@b.test", "b@b.test"), strict=True))
    assert response.data["data"] == [{"id": each} for each in found]
    assert response.data["errors"] == []
    assert (response.status, response.name, response.message) == (200, "", "")
    assert (response.is_from_resend, response.withheld) == (True, False)
    assert response.sent_at is not None
    assert result_label(response) == "accepted"


def test_a_key_repeats_its_answer(resend: ResendUnderTest) -> None:
    key = new_key()
    first, second = (resend.send(key, "a@b.test") for _ in range(2))
    assert first.data == second.data
    other = resend.send(new_key(), "a@b.test")
    assert other.data != first.data
    assert [address for _, address in resend.accepted()] == ["a@b.test"] * 2


def test_a_key_that_was_used_for_something_else_is_a_conflict(resend: ResendUnderTest) -> None:
    key = new_key()
    resend.send(key, "a@b.test")
    response = resend.send(key, "b@b.test")
    assert (response.status, response.name) == (409, "invalid_idempotent_request")
    assert classify_response(response, 1) == Conflicting(
        "Same idempotency key used with a different request payload."
    )
    assert [address for _, address in resend.accepted()] == ["a@b.test"]


def test_a_key_in_use_is_busy(resend: ResendUnderTest) -> None:
    key = new_key()
    seen: list[ApiResponse] = []
    resend.while_running(key, "a@b.test", lambda: seen.append(resend.send(key, "a@b.test")))
    (response,) = seen
    assert classify_response(response, 1) == Retry("concurrent_idempotent_requests")
    assert ids(resend.send(key, "a@b.test"), 1) == [resend.accepted()[0][0]]


def test_one_mail_is_refused_without_the_others(resend: ResendUnderTest) -> None:
    resend.refuse("b@b.test")
    response = resend.send(new_key(), "a@b.test", "b@b.test", "c@b.test")
    disposition = classify_response(response, 3)
    assert isinstance(disposition, Accepted)
    (first, a), (third, c) = resend.accepted()
    refused = "Invalid `to` field. The address is refused by this sandbox."
    assert (a, c) == ("a@b.test", "c@b.test")
    assert disposition.items == [
        ItemResult.sent(first),
        ItemResult.of(Reason.REJECTED, refused),
        ItemResult.sent(third),
    ]


def test_a_call_that_may_not_leave_does_not_arrive(resend: ResendUnderTest) -> None:
    key = new_key()
    response = resend.send(key, "a@b.test", may_send=lambda: False)
    assert (response.withheld, response.status, response.sent_at) == (True, None, None)
    assert resend.accepted() == []
    assert not resend.send(key, "a@b.test").withheld


@pytest.mark.parametrize("answer", ERRORS, ids=lambda each: f"{each.status}-{each.name}")
def test_an_error_accepts_nothing_and_is_not_remembered(
    resend: ResendUnderTest, answer: ApiResponse
) -> None:
    key = new_key()
    resend.answer(answer)
    response = resend.send(key, "a@b.test")
    assert (response.status, response.name) == (answer.status, answer.name)
    assert response.is_from_resend is answer.is_from_resend
    if answer.is_from_resend:
        assert response.message == answer.message
    assert answer.headers.items() <= response.headers.items()
    assert response.data == {}
    assert classify_response(response, 1) == classify_response(answer, 1)
    assert resend.accepted() == []
    assert classify_response(resend.send(key, "b@b.test"), 1) == Accepted(
        [ItemResult.sent(resend.accepted()[0][0])]
    )


@pytest.mark.parametrize(
    "answer", [Accepts(), Accepts(error(500, "application_error", "It broke."))]
)
def test_an_answer_may_be_lost_after_the_mails_were_accepted(
    resend: ResendUnderTest, answer: Accepts
) -> None:
    key = new_key()
    resend.answer(answer)
    lost = classify_response(resend.send(key, "a@b.test"), 1)
    assert isinstance(lost, Retry)
    assert lost.failing
    assert not lost.may_be_content
    (mail,) = resend.accepted()
    assert ids(resend.send(key, "a@b.test"), 1) == [mail[0]]
    assert resend.accepted() == [mail]


def test_a_call_that_is_cut_off_accepts_nothing(resend: ResendUnderTest) -> None:
    resend.answer(ApiResponse(None, "", "", {}, {}))
    response = resend.send(new_key(), "a@b.test")
    assert response.status is None
    assert classify_response(response, 1) == Retry("no_answer", failing=True)
    assert resend.accepted() == []
