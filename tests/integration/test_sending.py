"""How a pinned batch is sent: as its owner, in time, and in halves, on a real Redis."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from streamer.ledger.claims import Claims, TakenOverError
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, Holds
from streamer.ledger.limiter import Limiter
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Coordinates, Record
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.accounts import Accounts
from streamer.provider.client import Answer, ResendClient
from streamer.sandbox import DEFAULT_KEY, SandboxProcess
from streamer.settings import Account, Delivery
from streamer.settings import Redis as RedisSettings
from streamer.stack import Stack
from streamer.worker.build import make_sending
from streamer.worker.holding import Holding
from streamer.worker.pinned import PinnedBatch
from streamer.worker.sending import LaidDown, Sender
from streamer.worker.waiting import Waiting, deadline_clock

MAILS = [
    b'{"from":"a@acme.test","to":["user%d@b.test"],"subject":"s","text":"t"}' % number
    for number in range(4)
]
REFUSED = Answer(422, "validation_error", "Invalid `to` field.", {}, {})
BROKEN = Answer(500, "application_error", "It broke.", {}, {})


class ScriptedClient(ResendClient):
    """Answers as `answers` says by the key's suffix, and notes the keys that were called."""

    def __init__(self, batch_id: str) -> None:
        self._batch_id = batch_id
        self.called: list[str] = []
        self.answers: dict[str, list[Answer]] = {}
        self.before_leaving: Callable[[], None] = lambda: None

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_leave: Callable[[], bool]
    ) -> Answer:
        self.before_leaving()
        if not may_leave():
            return Answer(None, "", "", {}, {}, kept_back=True)
        suffix = idempotency_key.removeprefix(self._batch_id)
        self.called.append(suffix)
        scripted = self.answers.get(suffix)
        if scripted:
            return scripted.pop(0)
        ids = [{"id": f"{suffix}-{item}"} for item in range(body.count(b"subject"))]
        return Answer(200, "", "", {"data": ids}, {})


class Ground:
    """One pinned batch, and who sends it."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RESEND_API_KEY", DEFAULT_KEY)
        self.account = f"account-{secrets.token_hex(4)}"
        self.ref = BatchRef(f"org-{secrets.token_hex(4)}", secrets.token_hex(12))
        self.payload = Payload(MAILS)
        self.epoch = Epoch.establish(client, ())
        self.claims = Claims(client, self.epoch, 90_000)
        self.resend = ScriptedClient(self.ref.batch_id)
        self._accounts = Accounts({self.account: Account(api_key_env="RESEND_API_KEY")})
        self._client = client
        records = [_record(self.ref.organization, item) for item in range(len(MAILS))]
        self.claims.pin(*self.ref, self.account, "acme.test", records, self.payload)
        self.pinned = PinnedBatch(
            self.ref, self.account, "acme.test", self.payload, "", deadline_clock()
        )

    def sender(self, safe_window_s: int = 3600) -> Sender:
        limiter = Limiter(self._client, self.epoch)
        holding = Holding(Holds(self._client), limiter, self._accounts, 30.0)
        settings = Delivery(safe_window_s=safe_window_s)
        return make_sending(
            settings, self._accounts, self.resend, self.claims, limiter, holding, Waiting()
        ).sender

    def adopt(self, alone_in_s: float = 0.0) -> PinnedBatch:
        """As another worker does."""
        owner = secrets.token_hex(8)
        stored = self.claims.adopt(*self.ref, owner)
        assert stored is not None
        assert stored.payload is not None
        now = deadline_clock()
        return PinnedBatch(
            self.ref,
            self.account,
            "acme.test",
            stored.payload,
            owner,
            now,
            alone_from=now + alone_in_s,
            learned=stored.learned,
        )


def _record(organization: str, item: int) -> Record:
    record = Record(Coordinates("t", 0, item), None, None, None, 0.0)
    event = b'{"organization_id":"%b","campaign_id":"c","recipient_id":"r","email":"e"}'
    record.take(parse(event % organization.encode()))
    record.address = f"user{item}@b.test"
    return record


@pytest.fixture
def client(stack: Stack) -> Iterator[Client]:
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()


@pytest.fixture
def ground(client: Client, monkeypatch: pytest.MonkeyPatch) -> Ground:
    return Ground(client, monkeypatch)


def test_who_adopts_a_batch_in_halves_goes_on_at_the_halves(ground: Ground) -> None:
    """The refusal is over by then: sent as a whole, the first half would go out twice."""
    ground.resend.answers = {"": [REFUSED], ".1": [BROKEN, REFUSED]}

    def taken_over() -> None:
        if ground.resend.called.count(".1") == 1:
            ground.claims.adopt(*ground.ref, "another")

    ground.resend.before_leaving = taken_over
    with pytest.raises(TakenOverError):  # what it learns last it cannot keep any more
        ground.sender().send(ground.pinned)
    ground.resend.before_leaving = lambda: None
    ground.resend.called.clear()
    ground.resend.answers = {}
    result = ground.sender().send(ground.adopt())
    assert ground.resend.called == [".1"]
    assert isinstance(result, BatchResult)
    assert [item.text for item in result.items] == [".0-0", ".0-1", ".1-0", ".1-1"]


def test_a_refusal_counts_only_once_no_call_of_an_earlier_owner_can_arrive(ground: Ground) -> None:
    ground.resend.answers = {"": [REFUSED]}
    result = ground.sender().send(ground.adopt(alone_in_s=0.2))
    assert ground.resend.called == ["", ""]  # the second is told of what the other had taken
    assert isinstance(result, BatchResult)
    assert all(item.word == "sent" for item in result.items)


def test_who_lost_the_batch_makes_no_call(ground: Ground) -> None:
    ground.adopt()
    old = replace(ground.pinned, asked_at=deadline_clock() - 60.0)
    with pytest.raises(TakenOverError):
        ground.sender().send(old)
    with pytest.raises(TakenOverError):
        ground.sender().test_hold(old)
    assert ground.resend.called == []


def test_no_call_leaves_after_the_window_wherever_the_wait_was(ground: Ground) -> None:
    late = replace(ground.pinned, asked_at=deadline_clock() - 60.0)
    wait_in_socket = replace(ground.pinned, age_s=60.0 - 0.3)

    def stand_still() -> None:
        end = deadline_clock() + 0.5
        while deadline_clock() < end:
            pass

    sender = ground.sender(safe_window_s=60)
    assert sender.test_hold(late) is None
    result = sender.send(late)
    assert isinstance(result, BatchResult)
    assert {item.word for item in result.items} == {"window_closed"}
    ground.resend.before_leaving = stand_still
    assert sender.test_hold(wait_in_socket) is None
    assert ground.resend.called == []


def _with_templates(*ids: str) -> Payload:
    mail = b'{"from":"a@acme.test","to":["u@b.test"],"subject":"s","template":{"id":"%b"}}'
    return Payload([mail % id_.encode() for id_ in ids])


def test_mails_of_one_template_that_is_missing_are_refused_together(ground: Ground) -> None:
    missing = Answer(404, "not_found", "Template not found", {}, {})
    ground.resend.answers = {"": [missing]}
    one = replace(ground.pinned, payload=_with_templates("t1", "t1", "t1", "t1"))
    result = ground.sender().send(one)
    assert ground.resend.called == [""]
    assert result == BatchResult(1, [ItemResult("rejected", "Template not found")] * 4)


def test_mails_of_several_templates_are_halved_until_each_half_has_one(ground: Ground) -> None:
    missing = Answer(404, "not_found", "Template not found", {}, {})
    ground.resend.answers = {"": [missing], ".1": [missing]}
    several = replace(ground.pinned, payload=_with_templates("t1", "t2", "t3", "t3"))
    result = ground.sender().send(several)
    assert ground.resend.called == ["", ".0", ".1"]
    assert isinstance(result, BatchResult)
    assert [item.word for item in result.items] == ["sent", "sent", "rejected", "rejected"]


def test_what_a_half_is_known_to_be_stays_known_when_the_window_closes(ground: Ground) -> None:
    ground.resend.answers = {"": [REFUSED], ".1": [BROKEN] * 50}
    sender = ground.sender(safe_window_s=1)
    result = sender.send(ground.pinned)
    assert isinstance(result, BatchResult)
    words = [item.word for item in result.items]
    assert words == ["sent", "sent", "window_closed", "window_closed"]


def test_a_conflict_in_one_half_leaves_the_batch_unsure(ground: Ground) -> None:
    conflict = Answer(409, "invalid_idempotent_request", "Same key.", {}, {})
    quota = Answer(429, "monthly_quota_exceeded", "Quota.", {}, {})
    ground.resend.answers = {"": [REFUSED], ".0": [conflict], ".1": [quota]}
    laid_down = ground.sender().send(ground.pinned)
    assert isinstance(laid_down, LaidDown)
    assert not laid_down.untouched
    kept = ground.claims.load(*ground.ref)
    assert kept is not None
    conflicts = [ItemResult("idempotency_conflict", "Same key.")] * 2
    assert (kept.learned.refused, kept.learned.parts) == ({""}, {".0": conflicts})


def test_a_long_pause_that_is_asked_for_holds_the_account(ground: Ground) -> None:
    """Nobody sleeps through it: what ends it sooner, or the end of the worker, is noticed."""
    slow_down = Answer(429, "rate_limit_exceeded", "Slow down.", {}, {"retry-after": "3600"})
    ground.resend.answers = {"": [slow_down]}
    sender = ground.sender()
    laid_down = sender.send(ground.pinned)
    assert isinstance(laid_down, LaidDown)
    assert laid_down.untouched
    assert str(laid_down.parked.scope) == f"account {ground.account}"


def test_a_success_that_refuses_all_for_the_account_holds_it_and_tests_it_no_more(
    ground: Ground, client: Client
) -> None:
    """Resend repeats it for the key; who comes back when the hold is over has another."""
    words = "API key is invalid"
    errors = [{"index": index, "message": words} for index in range(len(MAILS))]
    ground.resend.answers = {"": [Answer(200, "", "", {"data": [], "errors": errors}, {})]}
    laid_down = ground.sender().send(ground.pinned)
    assert isinstance(laid_down, LaidDown)
    assert laid_down.untouched
    holds = Holds(client)
    hold = holds.read([ground.account])[ground.account].holds[None]
    assert (hold.reason, hold.detail) == ("invalid_api_key", words)
    assert holds.next_batch(ground.account, None) is None


def test_a_refusal_that_holds_the_account_is_tested_with_the_batch(
    ground: Ground, client: Client
) -> None:
    ground.resend.answers = {"": [Answer(403, "invalid_api_key", "Invalid.", {}, {})]}
    assert isinstance(ground.sender().send(ground.pinned), LaidDown)
    assert Holds(client).next_batch(ground.account, None) == ground.ref


def test_a_call_that_may_not_leave_any_more_does_not_reach_the_provider(
    sandbox: SandboxProcess,
) -> None:
    client = ResendClient(sandbox.url, 10.0, 1)
    answer = client.send_batch(DEFAULT_KEY, "k1", Payload(MAILS).body, lambda: False)
    assert answer.kept_back
    assert sandbox.stats().calls == 0
    answer = client.send_batch(DEFAULT_KEY, "k1", Payload(MAILS).body, lambda: True)
    assert answer.status == 200
    assert not answer.kept_back
