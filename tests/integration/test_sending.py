"""How a pinned batch is sent: as its owner, in time, and in halves, on a real Redis."""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from streamer.ledger.claims import Claims, TakenOverError
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, By, Hold, Holds
from streamer.ledger.limiter import Limiter, Successes
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.accounts import Accounts
from streamer.provider.client import ApiResponse, ResendClient
from streamer.sandbox import DEFAULT_KEY, SandboxProcess
from streamer.settings import AccountSettings, DeliverySettings
from streamer.settings import RedisSettings as RedisSettings
from streamer.worker.account_states import AccountStateCache
from streamer.worker.build import make_sending
from streamer.worker.clock import WorkerClock
from streamer.worker.pinned import PinnedBatch, adopt
from streamer.worker.sending import Deferred, Sender
from streamer.worker.waiter import StoppedError, Waiter

MAILS = [
    b'{"from":"a@acme.test","to":["user%d@b.test"],"subject":"s","text":"t"}' % number
    for number in range(4)
]
REFUSED = ApiResponse(422, "validation_error", "Invalid `to` field.", {}, {})
BROKEN = ApiResponse(500, "application_error", "It broke.", {}, {})
UNKNOWN = ApiResponse(422, "something_new", "Not with this one.", {}, {})


class SendingClient(ResendClient):
    """Answers as `answers` says by the key's suffix, and notes the keys that were called."""

    def __init__(self, batch_id: str) -> None:
        self._batch_id = batch_id
        self.called: list[str] = []
        self.answers: dict[str, list[ApiResponse]] = {}
        self.before_leaving: Callable[[], None] = lambda: None
        self.refuse: Callable[[bytes], ApiResponse | None] = lambda body: None

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse:
        self.before_leaving()
        if not may_send():
            return ApiResponse(None, "", "", {}, {}, withheld=True)
        suffix = idempotency_key.removeprefix(self._batch_id)
        self.called.append(suffix)
        refusal = self.refuse(body)
        if refusal is not None:
            return refusal
        scripted = self.answers.get(suffix)
        if scripted:
            return scripted.pop(0)
        ids = [{"id": f"{suffix}-{item}"} for item in range(body.count(b"subject"))]
        return ApiResponse(200, "", "", {"data": ids}, {})


class SendBench:
    """One pinned batch, and who sends it."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RESEND_API_KEY", DEFAULT_KEY)
        self.account = f"account-{secrets.token_hex(4)}"
        self.ref = BatchRef(f"org-{secrets.token_hex(4)}", secrets.token_hex(12))
        self.payload = Payload(MAILS)
        self.epoch = Epoch.establish(client, ())
        self.claims = Claims(client, self.epoch, 90_000)
        self.resend = SendingClient(self.ref.batch_id)
        self._accounts = Accounts({self.account: AccountSettings(api_key_env="RESEND_API_KEY")})
        self.limiter = Limiter(client, self.epoch)
        self.account_states = AccountStateCache(Holds(client), self.limiter, self._accounts, 30.0)
        self.waiter = Waiter()
        records = [_record(self.ref.organization, item) for item in range(len(MAILS))]
        self.claims.pin(*self.ref, self.account, "acme.test", records, self.payload)
        self.pinned = PinnedBatch(
            self.ref, self.account, "acme.test", self.payload, "", WorkerClock().boottime()
        )

    def sender(
        self, safe_window_s: int = 3600, set_aside_s: float = 20.0, give_up_s: float = 3600.0
    ) -> Sender:
        settings = DeliverySettings(
            safe_window_s=safe_window_s, set_aside_s=set_aside_s, give_up_s=give_up_s
        )
        return make_sending(
            settings,
            self._accounts,
            self.resend,
            self.claims,
            self.limiter,
            self.account_states,
            self.waiter,
        ).sender

    def others_go_through(self) -> None:
        """Three calls of the account succeed, at another worker."""
        successes = Successes(secrets.token_hex(8), 0, 3)
        self.limiter.record_success(self.account, successes, after_failures=True)

    def adopt(self, alone_in_s: float = 0.0) -> PinnedBatch:
        """As another worker does."""
        owner = secrets.token_hex(8)
        stored = self.claims.adopt(*self.ref, owner)
        assert stored is not None
        assert stored.payload is not None
        now = WorkerClock().boottime()
        return PinnedBatch(
            self.ref,
            self.account,
            "acme.test",
            stored.payload,
            owner,
            now,
            sole_owner_from=now + alone_in_s,
            split_progress=stored.split_progress,
        )


def _record(organization: str, item: int) -> Record:
    record = Record(RecordId("t", 0, item), None, None, None, 0.0)
    event = b'{"organization_id":"%b","campaign_id":"c","recipient_id":"r","email":"e"}'
    record.attach_event(parse(event % organization.encode()))
    record.address = f"user{item}@b.test"
    return record


@pytest.fixture
def bench(client: Client, monkeypatch: pytest.MonkeyPatch) -> SendBench:
    return SendBench(client, monkeypatch)


def test_an_adopter_continues_at_the_halves(bench: SendBench) -> None:
    """The refusal is over by then: sent as a whole, the first half would go out twice."""
    bench.resend.answers = {"": [REFUSED], ".1": [BROKEN, REFUSED]}

    def taken_over() -> None:
        if bench.resend.called.count(".1") == 1:
            bench.claims.adopt(*bench.ref, "another")

    bench.resend.before_leaving = taken_over
    with pytest.raises(TakenOverError):  # what it learns last it cannot keep any more
        bench.sender().send(bench.pinned)
    bench.resend.before_leaving = lambda: None
    bench.resend.called.clear()
    bench.resend.answers = {}
    result = bench.sender().send(bench.adopt())
    assert bench.resend.called == [".1"]
    assert isinstance(result, BatchResult)
    assert [item.text for item in result.items] == [".0-0", ".0-1", ".1-0", ".1-1"]


def test_a_rejection_is_final_only_after_earlier_calls_are_over(
    bench: SendBench,
) -> None:
    bench.resend.answers = {"": [REFUSED]}
    result = bench.sender().send(bench.adopt(alone_in_s=0.2))
    assert bench.resend.called == ["", ""]  # the second is told of what the other had taken
    assert isinstance(result, BatchResult)
    assert all(item.outcome == "sent" for item in result.items)


def test_a_former_owner_makes_no_call(bench: SendBench) -> None:
    bench.adopt()
    old = replace(bench.pinned, asked_at=WorkerClock().boottime() - 60.0)
    with pytest.raises(TakenOverError):
        bench.sender().send(old)
    with pytest.raises(TakenOverError):
        bench.sender().test_hold(old)
    assert bench.resend.called == []


def test_no_call_is_made_after_the_window_closes(bench: SendBench) -> None:
    late = replace(bench.pinned, asked_at=WorkerClock().boottime() - 60.0)
    wait_in_socket = replace(bench.pinned, age_s=60.0 - 0.3)

    def stand_still() -> None:
        end = WorkerClock().boottime() + 0.5
        while WorkerClock().boottime() < end:
            pass

    sender = bench.sender(safe_window_s=60)
    assert sender.test_hold(late) is None
    result = sender.send(late)
    assert isinstance(result, BatchResult)
    assert {item.outcome for item in result.items} == {"window_closed"}
    bench.resend.before_leaving = stand_still
    assert sender.test_hold(wait_in_socket) is None
    assert bench.resend.called == []


def _with_templates(*ids: str) -> Payload:
    mail = b'{"from":"a@acme.test","to":["u@b.test"],"subject":"s","template":{"id":"%b"}}'
    return Payload([mail % id_.encode() for id_ in ids])


def test_mails_of_one_missing_template_are_rejected_together(bench: SendBench) -> None:
    missing = ApiResponse(404, "not_found", "Template not found", {}, {})
    bench.resend.answers = {"": [missing]}
    one = replace(bench.pinned, payload=_with_templates("t1", "t1", "t1", "t1"))
    result = bench.sender().send(one)
    assert bench.resend.called == [""]
    assert result == BatchResult(1, [ItemResult("rejected", "Template not found")] * 4)


def test_mails_are_halved_until_each_half_has_one_template(bench: SendBench) -> None:
    missing = ApiResponse(404, "not_found", "Template not found", {}, {})
    bench.resend.answers = {"": [missing], ".1": [missing]}
    several = replace(bench.pinned, payload=_with_templates("t1", "t2", "t3", "t3"))
    result = bench.sender().send(several)
    assert bench.resend.called == ["", ".0", ".1"]
    assert isinstance(result, BatchResult)
    assert [item.outcome for item in result.items] == ["sent", "sent", "rejected", "rejected"]


def test_results_of_halves_survive_the_window(bench: SendBench) -> None:
    bench.resend.answers = {"": [REFUSED], ".1": [BROKEN] * 50}
    sender = bench.sender(safe_window_s=1)
    result = sender.send(bench.pinned)
    assert isinstance(result, BatchResult)
    words = [item.outcome for item in result.items]
    assert words == ["sent", "sent", "window_closed", "window_closed"]


def test_a_conflict_in_one_half_leaves_the_batch_maybe_accepted(bench: SendBench) -> None:
    conflict = ApiResponse(409, "invalid_idempotent_request", "Same key.", {}, {})
    quota = ApiResponse(429, "monthly_quota_exceeded", "Quota.", {}, {})
    bench.resend.answers = {"": [REFUSED], ".0": [conflict], ".1": [quota]}
    deferred = bench.sender().send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert not deferred.not_accepted
    kept = bench.claims.load(*bench.ref)
    assert kept is not None
    conflicts = [ItemResult("idempotency_conflict", "Same key.")] * 2
    assert (kept.split_progress.rejected, kept.split_progress.parts) == ({""}, {".0": conflicts})


def test_a_long_retry_after_holds_the_account(bench: SendBench) -> None:
    """Nobody sleeps through it: what ends it sooner, or the end of the worker, is noticed."""
    slow_down = ApiResponse(429, "rate_limit_exceeded", "Slow down.", {}, {"retry-after": "3600"})
    bench.resend.answers = {"": [slow_down]}
    sender = bench.sender()
    deferred = sender.send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert deferred.not_accepted
    assert str(deferred.parked.scope) == f"account {bench.account}"


def test_a_success_rejecting_all_for_the_account_holds_it(bench: SendBench, client: Client) -> None:
    """Resend repeats it for the key; who comes back when the hold is over has another."""
    words = "API key is invalid"
    errors = [{"index": index, "message": words} for index in range(len(MAILS))]
    bench.resend.answers = {"": [ApiResponse(200, "", "", {"data": [], "errors": errors}, {})]}
    deferred = bench.sender().send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert deferred.not_accepted
    holds = Holds(client)
    hold = holds.read([bench.account])[bench.account].holds[None]
    assert (hold.reason, hold.detail) == ("invalid_api_key", words)
    assert holds.next_batch(bench.account, None) is None


def test_a_hold_is_tested_with_its_own_batch(bench: SendBench, client: Client) -> None:
    bench.resend.answers = {"": [ApiResponse(403, "invalid_api_key", "Invalid.", {}, {})]}
    assert isinstance(bench.sender().send(bench.pinned), Deferred)
    assert Holds(client).next_batch(bench.account, None) == bench.ref


def test_a_late_call_does_not_reach_the_provider(
    sandbox: SandboxProcess,
) -> None:
    client = ResendClient(sandbox.url, 10.0)
    answer = client.send_batch(DEFAULT_KEY, "k1", Payload(MAILS).body, lambda: False)
    assert answer.withheld
    assert sandbox.stats().calls == 0
    answer = client.send_batch(DEFAULT_KEY, "k1", Payload(MAILS).body, lambda: True)
    assert answer.status == 200
    assert not answer.withheld


# Refused for a reason that nobody knows


def _refuses(*numbers: int) -> Callable[[bytes], ApiResponse | None]:
    addresses = [b"user%d@" % number for number in numbers]
    return lambda body: UNKNOWN if any(each in body for each in addresses) else None


@pytest.mark.parametrize("guilty", range(4))
def test_only_the_mail_with_an_unknown_rejection_is_blamed(bench: SendBench, guilty: int) -> None:
    bench.resend.refuse = _refuses(guilty)
    result = bench.sender(set_aside_s=1).send(bench.pinned)
    assert isinstance(result, BatchResult)
    words = ["sent"] * 4
    words[guilty] = "rejected"
    assert [item.outcome for item in result.items] == words
    assert result.items[guilty].text == "Not with this one."


def test_no_mail_is_blamed_if_every_part_is_rejected(
    bench: SendBench,
) -> None:
    bench.resend.refuse = _refuses(0, 1, 2, 3)
    bench.resend.before_leaving = bench.others_go_through
    deferred = bench.sender(set_aside_s=1).send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert not deferred.not_accepted  # its age counts on
    # It was halved once on each level, not down to each mail.
    assert set(bench.resend.called) == {"", ".0", ".0.0", ".0.1", ".1"}
    bench.resend.called.clear()
    # It comes back, and is over for all but one: what is known of the parts was kept.
    bench.resend.refuse = _refuses(2)
    result = bench.sender(set_aside_s=1).send(bench.adopt())
    assert isinstance(result, BatchResult)
    assert [item.outcome for item in result.items] == ["sent", "sent", "rejected", "sent"]
    assert "" not in bench.resend.called


def test_a_batch_without_a_culprit_is_eventually_given_up(bench: SendBench) -> None:
    bench.resend.refuse = _refuses(0, 1, 2, 3)
    old = replace(bench.pinned, age_s=3600.0)
    bench.resend.before_leaving = bench.others_go_through
    result = bench.sender(safe_window_s=7200, set_aside_s=0.5).send(old)
    assert isinstance(result, BatchResult)
    assert {item.outcome for item in result.items} == {"provider_error"}


@pytest.mark.parametrize("unknown_end", [BROKEN, ApiResponse(None, "HttpClientError", "", {}, {})])
def test_a_possibly_accepted_batch_keeps_its_key(
    bench: SendBench, unknown_end: ApiResponse
) -> None:
    bench.resend.answers = {"": [UNKNOWN, unknown_end, *[UNKNOWN] * 50]}
    deferred = bench.sender(set_aside_s=1).send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert not deferred.not_accepted
    assert set(bench.resend.called) == {""}


def test_an_adopter_assumes_a_call_may_have_been_accepted(bench: SendBench) -> None:
    bench.resend.refuse = _refuses(1)
    deferred = bench.sender(set_aside_s=1).send(bench.adopt())
    assert isinstance(deferred, Deferred)
    assert set(bench.resend.called) == {""}


def test_a_possibly_accepted_half_is_not_split_by_its_adopter(
    bench: SendBench,
) -> None:
    bench.resend.answers = {"": [REFUSED], ".0": [BROKEN]}
    bench.resend.before_leaving = lambda: (
        bench.waiter.stop() if bench.resend.called == [""] else None
    )
    with pytest.raises(StoppedError):
        bench.sender().send(bench.pinned)
    stored = bench.claims.load(*bench.ref)
    assert stored is not None
    assert stored.split_progress.unsure == {".0"}
    bench.waiter = Waiter()
    bench.resend.called.clear()
    bench.resend.refuse = _refuses(0, 1, 2)
    sender = bench.sender(set_aside_s=1)
    assert isinstance(sender.send(bench.adopt()), Deferred)
    assert set(bench.resend.called) == {".0"}


def test_no_mail_is_blamed_while_others_fail_too(
    bench: SendBench,
) -> None:
    """It is trouble of the way that began when a part had been taken."""
    bench.resend.answers = {"": [REFUSED], ".1": [UNKNOWN] * 50, ".1.0": [UNKNOWN] * 50}

    def another_fails() -> None:
        if bench.resend.called:
            bench.limiter.record_failure(bench.account, "another", secrets.token_hex(8))

    bench.resend.before_leaving = another_fails
    deferred = bench.sender(set_aside_s=1).send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert bench.resend.called[:3] == ["", ".0", ".1"]
    stored = bench.claims.load(*bench.ref)
    assert stored is not None
    assert set(stored.split_progress.parts) == {".0"}


def test_a_single_mail_batch_is_never_blamed(bench: SendBench) -> None:
    bench.resend.refuse = _refuses(0)
    one = replace(bench.pinned, payload=Payload(MAILS[:1]))
    assert isinstance(bench.sender(set_aside_s=1).send(one), Deferred)


def test_an_unknown_rejection_during_a_hold_keeps_the_batch(bench: SendBench) -> None:
    quota = ApiResponse(429, "monthly_quota_exceeded", "Quota.", {}, {})
    bench.resend.answers = {"": [UNKNOWN, quota]}
    deferred = bench.sender().send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert deferred.not_accepted


# How long it waits


def test_an_old_batch_is_given_up_instead_of_deferred(
    bench: SendBench,
) -> None:
    bench.resend.answers = {"": [BROKEN] * 50}
    bench.resend.before_leaving = lambda: bench.others_go_through() if bench.resend.called else None
    old = replace(bench.pinned, age_s=3600.0)
    result = bench.sender(safe_window_s=7200, set_aside_s=1).send(old)
    assert isinstance(result, BatchResult)
    assert {item.outcome for item in result.items} == {"provider_error"}


def test_a_halfs_failures_are_timed_from_its_own_first(bench: SendBench) -> None:
    bench.resend.answers = {"": [BROKEN, BROKEN, REFUSED], ".0": [BROKEN]}
    started = WorkerClock().boottime()

    def fail_for_long() -> None:
        if bench.resend.called == ["", ""]:
            while WorkerClock().boottime() < started + 2:  # longer than what would set it aside
                bench.others_go_through()

    bench.resend.before_leaving = fail_for_long
    result = bench.sender(set_aside_s=1.5).send(bench.pinned)
    assert isinstance(result, BatchResult)
    assert {item.outcome for item in result.items} == {"sent"}


def test_a_long_retry_after_defers_the_batch(bench: SendBench) -> None:
    down = ApiResponse(503, "service_unavailable", "Later.", {}, {"retry-after": "3600"})
    bench.resend.answers = {"": [down]}
    deferred = bench.sender(safe_window_s=82_800).send(bench.pinned)
    assert isinstance(deferred, Deferred)
    assert not deferred.not_accepted
    assert deferred.parked.until_ms is not None
    assert abs(deferred.parked.until_ms / 1000 - time.time() - 3600) < 60


@pytest.mark.parametrize("what", ["held", "pressed", "stopped"])
def test_waiting_ends_on_a_stop_a_hold_or_backpressure(bench: SendBench, what: str) -> None:
    down = ApiResponse(503, "service_unavailable", "Later.", {}, {"retry-after": "29"})
    bench.resend.answers = {"": [down]}
    sender = bench.sender(set_aside_s=1)

    def happen() -> None:
        if what == "stopped":
            bench.waiter.stop()
        elif what == "held":
            hold = Hold(by=By.OPERATOR, reason="operator", detail="", since=datetime.now(UTC))
            bench.account_states.put(bench.account, "acme.test", hold, None, sender_only=True)

    timer = threading.Timer(1.0, happen)
    if what == "pressed":
        bench.resend.answers = {"": [BROKEN, down]}  # failed before the others went through
        bench.resend.before_leaving = lambda: (
            bench.others_go_through() if bench.resend.called else None
        )
    timer.start()
    started = WorkerClock().boottime()
    if what == "stopped":
        with pytest.raises(StoppedError):
            sender.send(bench.pinned)
    else:
        assert isinstance(sender.send(bench.pinned), Deferred)
    assert WorkerClock().boottime() - started < 10
    timer.join()


def test_an_adopters_rejection_is_final_once_no_call_is_under_way(
    bench: SendBench,
) -> None:
    timeout_s = 30.0
    before = WorkerClock().boottime()
    batch = adopt(bench.claims, bench.ref, "me", timeout_s, WorkerClock())
    assert batch is not None
    # The last call of the earlier owner's left within what that one was sure of, 5 s.
    assert batch.sole_owner_from >= before + 5.0 + timeout_s
    bench.resend.answers = {"": [REFUSED] * 5}
    soon = replace(batch, sole_owner_from=WorkerClock().boottime() + 1.5)
    made_at: list[float] = []
    bench.resend.before_leaving = lambda: made_at.append(WorkerClock().boottime())
    bench.sender().send(soon)
    assert bench.resend.called[:3] == ["", "", ".0"]
    assert made_at[1] >= soon.sole_owner_from
