"""How a pinned batch is sent: each answer, each wait, and each way to stop."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.failure_stats import OUTAGE_FAILURES
from streamer.ledger.claims import StoredBatch, TakenOverError
from streamer.ledger.holds import By, Hold
from streamer.ledger.limiter import Slot
from streamer.model.disposition import Rejected, Retry, Suspended
from streamer.model.parking import Scope
from streamer.model.payload import Payload
from streamer.model.record import Parked
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.client import ApiResponse
from streamer.worker.pinned import PinnedBatch, adopt
from streamer.worker.sending import Deferred
from streamer.worker.waiter import StoppedError
from tests.kit.fakes.resend import NO_ANSWER, Accepts, ReceivedCall, error, page
from tests.kit.fakes.sending import ACCOUNT, DOMAIN, SendingWorker, Services

REJECTED = error(422, "validation_error", "Invalid `to` field.")
BROKEN = error(500, "application_error", "It broke.")
UNKNOWN = error(422, "something_new", "Not with this one.")
BUSY = error(409, "concurrent_idempotent_requests", "Still running.")
CONFLICT = error(409, "invalid_idempotent_request", "Same key.")
QUOTA = error(429, "monthly_quota_exceeded", "Quota.")
BAD_KEY = error(403, "invalid_api_key", "API key is invalid")
BAD_DOMAIN = error(403, "validation_error", "The acme.test domain is not verified.")
GARBLED = ApiResponse(200, "", "", {"data": "?"}, {})


def result_of(sent: BatchResult | Deferred) -> BatchResult:
    assert isinstance(sent, BatchResult)
    return sent


def words(sent: BatchResult | Deferred) -> list[str]:
    return [item.outcome for item in result_of(sent).items]


def deferred(sent: BatchResult | Deferred) -> Deferred:
    assert isinstance(sent, Deferred)
    return sent


def held(services: Services, domain: str | None = None) -> Hold:
    """The only hold that there is: of the account, or of that domain."""
    holds = services.holds.read([ACCOUNT])[ACCOUNT].holds
    assert set(holds) == {domain}
    return holds[domain]


def stored(services: Services, batch: PinnedBatch) -> StoredBatch:
    found = services.ledger.load(*batch.ref)
    assert found is not None
    return found


def adopted(services: Services, batch: PinnedBatch, alone_in_s: float = 0.0) -> PinnedBatch:
    """The batch as another worker has it that adopts it now."""
    found = adopt(services.ledger, batch.ref, "adopter", 30.0, services.clock)
    assert found is not None
    return replace(found, sole_owner_from=services.clock.boottime() + alone_in_s)


def refuse(services: Services, *numbers: int, reply: ApiResponse = UNKNOWN) -> None:
    """Refuse whatever contains one of these mails."""
    guilty = {f"user{number}@b.test" for number in numbers}

    def decide(call: ReceivedCall) -> ApiResponse | None:
        return reply if guilty.intersection(call.addresses) else None

    services.resend.decide = decide


# An answer


def test_an_accepted_batch_is_sent_in_one_call(services: Services, worker: SendingWorker) -> None:
    batch = services.pin()
    result = result_of(worker.sender.send(batch))
    ids = services.resend.ids()
    assert result == BatchResult(1, [ItemResult.sent(ids[f"user{n}@b.test"]) for n in range(4)])
    assert services.resend.suffixes == [""]
    assert services.resend.calls[0].batch_id == batch.ref.batch_id


def test_the_slot_that_the_caller_took_is_used_first(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(BROKEN)
    worker.sender.send(services.pin(), Slot(0.0, 0, 0))
    assert len(services.resend.calls) == 2
    assert services.accounts.faults.made.count("take") == 1


def test_refused_mails_are_rejected_within_an_accepted_batch(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.refused.add("user1@b.test")
    result = worker.sender.send(services.pin(2))
    assert words(result) == ["sent", "rejected"]
    assert services.resend.suffixes == [""]


def test_a_batch_with_a_rejected_mail_is_sent_in_halves(
    services: Services, worker: SendingWorker
) -> None:
    refuse(services, 2, reply=REJECTED)
    result = result_of(worker.sender.send(services.pin()))
    assert words(result) == ["sent", "sent", "rejected", "sent"]
    assert result.items[2].text == "Invalid `to` field."
    assert services.resend.suffixes == ["", ".0", ".1", ".1.0", ".1.1"]
    assert result.attempts == 5
    services.resend.ids()


def test_a_key_with_another_payload_is_a_conflict(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(CONFLICT)
    result = worker.sender.send(services.pin(2))
    assert result == BatchResult(1, [ItemResult("idempotency_conflict", "Same key.")] * 2)


@pytest.mark.parametrize(
    "failure",
    [BROKEN, BUSY, UNKNOWN, NO_ANSWER, Accepts(), Accepts(BROKEN), page(502), page(200), GARBLED],
    ids=lambda each: type(each).__name__ if isinstance(each, Accepts) else f"{each.status}",
)
def test_a_call_without_a_definite_answer_is_repeated_under_its_key(
    services: Services, worker: SendingWorker, failure: ApiResponse | Accepts
) -> None:
    services.resend.answer(failure)
    result = result_of(worker.sender.send(services.pin()))
    assert {item.outcome for item in result.items} == {"sent"}
    assert services.resend.suffixes == ["", ""]
    assert result.attempts == 2
    services.resend.ids()


def test_an_answer_that_cannot_be_read_three_times_is_given_up(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(*[Accepts(GARBLED)] * 9)
    result = result_of(worker.sender.send(services.pin()))
    assert {item.outcome for item in result.items} == {"provider_error"}
    assert services.resend.suffixes == ["", "", ""]


# The rate limit


@pytest.mark.parametrize(("asked", "at_least_s"), [({}, 0.1), ({"retry_after": "7"}, 7.0)])
def test_a_rate_limited_account_pauses(
    services: Services, worker: SendingWorker, asked: dict[str, str], at_least_s: float
) -> None:
    services.resend.answer(error(429, "rate_limit_exceeded", "Slow down.", **asked))
    result = result_of(worker.sender.send(services.pin()))
    assert result.attempts == 1  # it costs nobody an attempt
    first, second = services.resend.calls
    assert at_least_s <= second.at - first.at < at_least_s + 1
    assert services.limiter.record_failure(ACCOUNT, "b", "c").failures == 1


def test_a_long_pause_holds_the_account_until_it_is_over(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(error(429, "rate_limit_exceeded", "Slow down.", retry_after="3600"))
    put_off = deferred(worker.sender.send(services.pin()))
    assert put_off == Deferred(Parked(Scope.of_hold(ACCOUNT, None)), not_accepted=True)
    hold = held(services)
    assert (hold.reason, hold.detail) == ("rate_limit_exceeded", "Slow down.")
    assert hold.until is not None
    assert hold.until == hold.since + timedelta(hours=1)


# Trouble with the account


def test_trouble_with_the_account_holds_it(services: Services, worker: SendingWorker) -> None:
    services.resend.answer(BAD_KEY)
    batch = services.pin()
    put_off = deferred(worker.sender.send(batch))
    assert put_off == Deferred(Parked(Scope.of_hold(ACCOUNT, None)), not_accepted=True)
    hold = held(services)
    assert (hold.by, hold.reason, hold.until) == (By.ANSWER, "invalid_api_key", None)
    assert hold.drawn_by is not None
    assert (hold.drawn_by.batch_id, hold.drawn_by.status) == (batch.ref.batch_id, 403)
    # The batch tests whether it is over.
    assert services.holds.next_batch(ACCOUNT, None) == batch.ref


def test_trouble_with_the_senders_domain_holds_that_alone(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(BAD_DOMAIN)
    put_off = deferred(worker.sender.send(services.pin()))
    assert put_off.parked == Parked(Scope.of_hold(ACCOUNT, DOMAIN))
    assert held(services, DOMAIN).reason == "domain_not_verified"


def test_trouble_told_in_a_success_is_not_tested_with_its_key(
    services: Services, worker: SendingWorker
) -> None:
    """Resend repeats that answer for the key, even once the trouble is over."""
    errors = [{"index": index, "message": "API key is invalid"} for index in range(4)]
    services.resend.answer(ApiResponse(200, "", "", {"data": [], "errors": errors}, {}))
    assert deferred(worker.sender.send(services.pin())).not_accepted
    assert held(services).reason == "invalid_api_key"
    assert services.holds.next_batch(ACCOUNT, None) is None


def test_a_split_batch_tests_no_hold(services: Services, worker: SendingWorker) -> None:
    """It takes more than one call."""
    services.resend.answer(REJECTED, QUOTA)
    put_off = deferred(worker.sender.send(services.pin()))
    assert put_off.not_accepted
    assert services.holds.next_batch(ACCOUNT, None) is None


def test_a_batch_of_which_a_part_was_accepted_is_not_sent_anew(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(REJECTED, to="")
    services.resend.answer(QUOTA, to=".1")
    batch = services.pin()
    assert not deferred(worker.sender.send(batch)).not_accepted
    assert set(stored(services, batch).split_progress.parts) == {".0"}


def test_a_conflict_in_one_half_leaves_the_batch_maybe_accepted(
    services: Services, worker: SendingWorker
) -> None:
    for suffix, reply in {"": REJECTED, ".0": CONFLICT, ".1": QUOTA}.items():
        services.resend.answer(reply, to=suffix)
    batch = services.pin()
    assert not deferred(worker.sender.send(batch)).not_accepted
    progress = stored(services, batch).split_progress
    conflicts = [ItemResult("idempotency_conflict", "Same key.")] * 2
    assert (progress.rejected, progress.parts) == ({""}, {".0": conflicts})


@pytest.mark.parametrize(
    ("failure", "not_accepted"), [(BROKEN, False), (NO_ANSWER, False), (UNKNOWN, True)]
)
def test_a_hold_after_a_failure_knows_whether_it_may_have_been_accepted(
    services: Services, worker: SendingWorker, failure: ApiResponse, not_accepted: bool
) -> None:
    services.resend.answer(failure, QUOTA)
    assert deferred(worker.sender.send(services.pin())).not_accepted is not_accepted


def test_an_account_without_a_key_is_held(
    services: Services, worker: SendingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TESTS_API_KEY")
    assert deferred(worker.sender.send(services.pin())).not_accepted
    assert held(services).reason == "missing_api_key"
    assert services.resend.calls == []


# Held before the call


@pytest.mark.parametrize("domain", [None, DOMAIN])
def test_nothing_is_sent_for_a_held_account_or_domain(
    services: Services, worker: SendingWorker, domain: str | None
) -> None:
    services.hold(domain=domain)
    put_off = deferred(worker.sender.send(services.pin()))
    assert put_off == Deferred(Parked(Scope.of_hold(ACCOUNT, domain)), not_accepted=True)
    assert services.resend.calls == []


def test_a_hold_of_another_domain_stops_nothing(services: Services, worker: SendingWorker) -> None:
    services.hold(domain="other.test")
    assert set(words(worker.sender.send(services.pin()))) == {"sent"}


# Waits


def test_a_failed_call_is_repeated_after_a_growing_wait(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(*[BROKEN] * 4)
    worker.sender.send(services.pin())
    at = [call.at for call in services.resend.calls]
    # Slots are a tenth of a second apart, and calls take less.
    for number, (one, next_one) in enumerate(pairwise(at)):
        assert next_one - one <= 0.5 * 2**number + 0.3


@pytest.mark.parametrize("asked", ["29", "3"])
def test_a_failure_that_asks_for_a_wait_gets_it(
    services: Services, worker: SendingWorker, asked: str
) -> None:
    services.resend.answer(error(503, "service_unavailable", "Later.", retry_after=asked))
    worker.sender.send(services.pin())
    first, second = services.resend.calls
    assert int(asked) <= second.at - first.at < int(asked) + 1


def test_a_long_wait_that_a_failure_asks_for_defers_the_batch(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(error(503, "service_unavailable", "Later.", retry_after="1800"))
    put_off = deferred(worker.sender.send(batch := services.pin()))
    until_ms = round((services.clock.time() + 1800) * 1000)
    assert put_off.parked.scope == Scope.of_batch(*batch.ref)
    assert put_off.parked.until_ms == pytest.approx(until_ms, abs=10)
    assert not put_off.not_accepted


@pytest.mark.parametrize("domain", [None, DOMAIN])
def test_a_hold_ends_the_wait_for_a_retry(
    services: Services, worker: SendingWorker, domain: str | None
) -> None:
    services.resend.answer(error(503, "service_unavailable", "Later.", retry_after="29"))

    def put() -> None:
        services.hold(domain=domain)
        worker.account_states.refresh()

    services.clock.after(5.0, put)
    started = services.clock.monotonic()
    put_off = deferred(worker.sender.send(services.pin()))
    assert put_off.parked == Parked(Scope.of_hold(ACCOUNT, domain))
    assert 5.0 <= services.clock.monotonic() - started < 6


@pytest.mark.parametrize("failure", ["retry", "circuit"])
def test_a_stop_ends_every_wait(services: Services, worker: SendingWorker, failure: str) -> None:
    if failure == "retry":
        services.resend.answer(error(503, "service_unavailable", "Later.", retry_after="29"))
    else:
        services.limiter.pause(ACCOUNT, 29.0)
    services.clock.after(5.0, worker.waiter.stop)
    started = services.clock.monotonic()
    with pytest.raises(StoppedError):
        worker.sender.send(services.pin())
    assert services.clock.monotonic() - started < 6


def test_an_open_circuit_is_waited_for(services: Services, worker: SendingWorker) -> None:
    for _ in range(OUTAGE_FAILURES + 10):
        services.another_fails()
    assert set(words(worker.sender.send(services.pin()))) == {"sent"}
    assert services.clock.monotonic() >= 5
    # A success after failures is told at once, and closes it.
    assert services.holds.read([ACCOUNT])[ACCOUNT].failures == 0


def test_redis_is_waited_for(services: Services, worker: SendingWorker) -> None:
    services.resend.answer(BROKEN)
    for call in ("take", "acquire_permit", "record_failure", "record_success"):
        services.accounts.faults.refuse(call, 3)
    assert set(words(worker.sender.send(services.pin()))) == {"sent"}
    assert worker.waiter.redis_problem is None


# A batch that fails while others do not


def fails_alone(services: Services, *, reply: ApiResponse = BROKEN) -> None:
    """Every call for the batch fails, and after its first one others succeed."""
    services.resend.decide = lambda call: reply
    services.resend.before_leaving = lambda: (
        services.others_succeed() if services.resend.calls else None
    )


def test_a_batch_that_fails_alone_is_deferred(services: Services, worker: SendingWorker) -> None:
    fails_alone(services)
    batch = services.pin()
    put_off = deferred(worker.sender.send(batch))
    assert put_off.parked.scope == Scope.of_batch(*batch.ref)
    # It keeps its pin, and its age with it.
    assert not put_off.not_accepted
    assert 20 <= services.clock.monotonic() < 30
    assert set(services.resend.suffixes) == {""}


def test_a_batch_that_fails_with_others_is_deferred_later(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.decide = lambda call: BROKEN
    services.another_fails()
    deferred(worker.sender.send(services.pin()))
    assert 60 <= services.clock.monotonic() < 70


def test_an_old_batch_that_fails_alone_is_given_up(
    services: Services, worker: SendingWorker
) -> None:
    fails_alone(services)
    old = replace(services.pin(), age_s=3600.0)
    sender = SendingWorker(services, safe_window_s=7200).sender
    result = result_of(sender.send(old))
    assert set(result.items) == {ItemResult("provider_error", "application_error: It broke.")}


def test_a_deferral_ends_the_wait_for_a_retry(services: Services, worker: SendingWorker) -> None:
    """It becomes due when other calls succeed meanwhile, or when many records are blocked."""
    down = error(503, "service_unavailable", "Later.", retry_after="29")
    services.resend.answer(BROKEN, down)
    services.resend.before_leaving = lambda: (
        services.others_succeed() if services.resend.calls else None
    )

    def press() -> None:
        worker.failures.under_backpressure = True

    services.clock.after(5.0, press)
    batch = services.pin()
    put_off = deferred(worker.sender.send(batch))
    assert put_off.parked.scope == Scope.of_batch(*batch.ref)
    assert 5 <= services.clock.monotonic() < 6


def test_a_deferral_ends_the_wait_for_a_slot(services: Services, worker: SendingWorker) -> None:
    fails_alone(services)

    def pause() -> None:
        if services.resend.calls:
            services.others_succeed()
        if len(services.resend.calls) == 1:
            services.limiter.pause(ACCOUNT, 29.0)

    services.resend.before_leaving = pause
    batch = services.pin()
    put_off = deferred(worker.sender.send(batch))
    assert put_off.parked.scope == Scope.of_batch(*batch.ref)
    assert len(services.resend.calls) == 2
    assert 20 <= services.clock.monotonic() < 22


def test_an_old_batch_is_given_up_rather_than_deferred_during_a_wait(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(BROKEN, error(503, "service_unavailable", "Later.", retry_after="29"))
    services.resend.before_leaving = lambda: (
        services.others_succeed() if services.resend.calls else None
    )
    services.resend.decide = lambda call: BROKEN
    old = replace(services.pin(), age_s=3600.0)
    sender = SendingWorker(services, safe_window_s=7200).sender
    assert {item.outcome for item in result_of(sender.send(old)).items} == {"provider_error"}
    assert len(services.resend.calls) == 3


def test_each_half_is_measured_from_its_own_first_failure(
    services: Services, worker: SendingWorker
) -> None:
    """The whole batch failed for longer than what would defer the half."""
    services.resend.answer(BROKEN, BROKEN, to="")
    services.resend.answer(BROKEN, to=".0")

    def decide(call: ReceivedCall) -> ApiResponse | None:
        services.others_succeed()
        if call.suffix:
            return None
        services.clock.advance(25.0)
        return REJECTED

    services.resend.decide = decide
    result = worker.sender.send(services.pin())
    assert set(words(result)) == {"sent"}


def test_an_organization_is_watched_from_its_second_failure_on(
    services: Services, worker: SendingWorker
) -> None:
    seen: list[int | None] = []
    batch = services.pin()

    def look() -> None:
        seen.append(worker.failures.max_batches(batch.ref.organization, 2, 0.0))

    services.resend.before_leaving = look
    services.resend.answer(BROKEN, BROKEN)
    worker.sender.send(batch)
    look()
    assert seen == [None, None, 2, None]


def test_a_batch_is_forgotten_however_its_sending_ends(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.decide = lambda call: BROKEN
    services.clock.after(10.0, worker.waiter.stop)
    batch = services.pin()
    with pytest.raises(StoppedError):
        worker.sender.send(batch)
    assert worker.failures.max_batches(batch.ref.organization, 2, 0.0) is None


# An outage


def test_in_an_outage_an_account_beside_others_is_held(services: Services) -> None:
    worker = SendingWorker(services, organizations={ACCOUNT: None, "other": ["else"]})
    services.resend.decide = lambda call: BROKEN
    services.another_fails()
    batch = services.pin()
    put_off = deferred(worker.sender.send(batch))
    assert put_off == Deferred(Parked(Scope.of_hold(ACCOUNT, None)), not_accepted=False)
    assert held(services).reason == "outage"
    assert len(services.resend.calls) >= OUTAGE_FAILURES - 1
    assert services.holds.next_batch(ACCOUNT, None) == batch.ref


def test_in_an_outage_a_refusal_for_an_unknown_reason_accepted_nothing(
    services: Services,
) -> None:
    worker = SendingWorker(services, organizations={ACCOUNT: None, "other": ["else"]})
    services.resend.decide = lambda call: UNKNOWN
    services.another_fails()
    put_off = deferred(worker.sender.send(services.pin()))
    assert put_off == Deferred(Parked(Scope.of_hold(ACCOUNT, None)), not_accepted=True)


def test_in_an_outage_a_single_account_keeps_trying(
    services: Services, worker: SendingWorker
) -> None:
    services.another_fails()
    services.resend.answer(*[BROKEN] * 8)
    assert set(words(worker.sender.send(services.pin()))) == {"sent"}
    assert services.holds.read([ACCOUNT])[ACCOUNT].holds == {}


def test_a_busy_key_says_nothing_about_the_account(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(*[BUSY] * 9)
    worker.sender.send(services.pin())
    assert "record_failure" not in services.accounts.faults.made


# The window


def test_no_call_is_made_after_the_window(services: Services, worker: SendingWorker) -> None:
    late = replace(services.pin(), age_s=3600.0)
    assert set(words(worker.sender.send(late))) == {"window_closed"}
    assert services.resend.calls == []


def test_a_batch_that_fails_until_its_window_closes_is_window_closed(
    services: Services,
) -> None:
    worker = SendingWorker(services, safe_window_s=15)
    services.resend.decide = lambda call: BROKEN
    assert set(words(worker.sender.send(services.pin()))) == {"window_closed"}
    assert services.resend.calls[-1].at < 15


def test_a_window_that_closes_in_the_socket_lets_nothing_out(services: Services) -> None:
    worker = SendingWorker(services, safe_window_s=15)
    services.resend.before_leaving = lambda: services.clock.advance(15.0)
    assert set(words(worker.sender.send(services.pin()))) == {"window_closed"}
    assert services.resend.calls == []


def test_the_window_goes_on_while_the_machine_is_suspended(services: Services) -> None:
    worker = SendingWorker(services, safe_window_s=15)
    batch = services.pin()
    services.clock.suspend(15.0)
    assert set(words(worker.sender.send(batch))) == {"window_closed"}
    assert services.resend.calls == []


def test_what_is_known_of_a_half_stays_known_when_the_window_closes(
    services: Services,
) -> None:
    worker = SendingWorker(services, safe_window_s=15)
    services.resend.answer(REJECTED, to="")
    services.resend.answer(*[BROKEN] * 99, to=".1")
    result = worker.sender.send(services.pin())
    assert words(result) == ["sent", "sent", "window_closed", "window_closed"]


@given(st.lists(st.sampled_from([BROKEN, BUSY, NO_ANSWER, Accepts(), UNKNOWN]), max_size=30))
def test_no_call_leaves_late_whatever_is_answered(
    answers: list[ApiResponse | Accepts],
) -> None:
    services = Services()
    worker = SendingWorker(services, safe_window_s=8)
    services.resend.answer(*answers)
    sent = worker.sender.send(services.pin())
    assert all(call.at < 8 for call in services.resend.calls)
    mailed = services.resend.ids()
    if isinstance(sent, BatchResult):
        for number, item in enumerate(sent.items):
            address = f"user{number}@b.test"
            assert item.outcome == "window_closed" or mailed[address] == item.text


# The owner


def test_a_batch_that_was_taken_over_is_not_sent(services: Services, worker: SendingWorker) -> None:
    batch = services.pin()
    adopted(services, batch)
    services.clock.advance(6.0)
    for call in (worker.sender.send, worker.sender.test_hold):
        with pytest.raises(TakenOverError):
            call(batch)
    assert services.resend.calls == []


def test_a_call_that_was_held_up_for_too_long_is_checked_and_made_again(
    services: Services, worker: SendingWorker
) -> None:
    """After five seconds another worker may have adopted the batch."""

    def once() -> None:
        services.resend.before_leaving = lambda: None
        services.clock.advance(5.1)

    services.resend.before_leaving = once
    batch = services.pin()
    assert set(words(worker.sender.send(batch))) == {"sent"}
    assert services.ledger.faults.made == ["pin", "own"]
    assert services.resend.suffixes == [""]


def test_what_is_learned_by_a_worker_that_lost_the_batch_is_not_kept(
    services: Services, worker: SendingWorker
) -> None:
    """The adopter goes on at the halves: sent whole, the first half would go out twice."""
    services.resend.answer(REJECTED, to="")
    services.resend.answer(BROKEN, REJECTED, to=".1")
    batch = services.pin()

    def take_over() -> None:
        if services.resend.suffixes.count(".1") == 1:
            services.ledger.adopt(*batch.ref, "another")

    services.resend.before_leaving = take_over
    with pytest.raises(TakenOverError):
        worker.sender.send(batch)
    services.resend.before_leaving = lambda: None
    services.resend.calls.clear()
    result = worker.sender.send(adopted(services, batch))
    assert services.resend.suffixes == [".1"]
    assert set(words(result)) == {"sent"}
    services.resend.ids()


def test_a_rejection_is_final_only_once_no_earlier_owners_call_can_arrive(
    services: Services, worker: SendingWorker
) -> None:
    """A call of the earlier owner may arrive after this one, and be accepted."""
    services.resend.answer(REJECTED)
    batch = adopted(services, services.pin(), alone_in_s=7.0)
    result = worker.sender.send(batch)
    assert set(words(result)) == {"sent"}
    assert services.resend.suffixes == ["", ""]
    assert services.resend.calls[1].at >= 7


def test_an_adopted_batch_is_split_once_no_earlier_owners_call_can_arrive(
    services: Services, worker: SendingWorker
) -> None:
    refuse(services, 0, reply=REJECTED)
    batch = adopted(services, services.pin(), alone_in_s=7.0)
    assert words(worker.sender.send(batch)) == ["rejected", "sent", "sent", "sent"]
    assert services.resend.suffixes[:3] == ["", "", ".0"]
    assert services.resend.calls[1].at >= 7


def test_an_adopter_waits_for_as_long_as_a_call_can_take(services: Services) -> None:
    batch = services.pin()
    services.clock.advance(3.0)
    found = adopt(services.ledger, batch.ref, "me", 30.0, services.clock)
    assert found is not None
    assert found.age_s == 3
    # The earlier owner's last call left within five seconds of its last confirmation.
    assert found.sole_owner_from == pytest.approx(3 + 5 + 30 + 1)


# Refused for a reason that nobody knows


@pytest.mark.parametrize("guilty", range(4))
def test_a_mail_refused_for_an_unknown_reason_is_found_and_blamed(
    services: Services, worker: SendingWorker, guilty: int
) -> None:
    refuse(services, guilty)
    result = result_of(worker.sender.send(services.pin()))
    assert words(result) == ["rejected" if n == guilty else "sent" for n in range(4)]
    assert result.items[guilty].text == "Not with this one."
    services.resend.ids()


def test_it_takes_few_keys_to_find_one_of_a_hundred(
    services: Services, worker: SendingWorker
) -> None:
    refuse(services, 37, reply=error(413, "validation_error", "Too large."))
    result = worker.sender.send(services.pin(100))
    assert words(result) == ["rejected" if n == 37 else "sent" for n in range(100)]
    assert len(set(services.resend.suffixes)) <= 15
    services.resend.ids()


def test_nobody_is_blamed_where_every_mail_is_refused(
    services: Services, worker: SendingWorker
) -> None:
    refuse(services, *range(4))
    services.resend.before_leaving = services.others_succeed
    batch = services.pin()
    assert not deferred(worker.sender.send(batch)).not_accepted  # its age counts on
    # It is halved once on each level, not down to each mail.
    assert set(services.resend.suffixes) == {"", ".0", ".0.0", ".0.1", ".1"}
    services.resend.calls.clear()
    # It comes back, and all but one are accepted: what is known of the parts was kept.
    refuse(services, 2)
    result = worker.sender.send(adopted(services, batch))
    assert words(result) == ["sent", "sent", "rejected", "sent"]
    assert "" not in services.resend.suffixes


def test_what_nobody_is_to_blame_for_is_given_up_in_the_end(services: Services) -> None:
    worker = SendingWorker(services, safe_window_s=7200)
    refuse(services, *range(4))
    services.resend.before_leaving = services.others_succeed
    old = replace(services.pin(), age_s=3600.0)
    assert set(words(worker.sender.send(old))) == {"provider_error"}


@pytest.mark.parametrize("unknown_end", [BROKEN, NO_ANSWER, Accepts()])
def test_what_may_have_been_accepted_is_sent_under_no_other_key(
    services: Services, worker: SendingWorker, unknown_end: ApiResponse | Accepts
) -> None:
    services.resend.answer(UNKNOWN, unknown_end, *[UNKNOWN] * 99)
    assert not deferred(worker.sender.send(services.pin())).not_accepted
    assert set(services.resend.suffixes) == {""}


def test_an_adopter_does_not_know_how_earlier_calls_ended(
    services: Services, worker: SendingWorker
) -> None:
    refuse(services, 1)
    deferred(worker.sender.send(adopted(services, services.pin())))
    assert set(services.resend.suffixes) == {""}


def test_an_adopter_splits_no_half_that_may_have_been_accepted(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(REJECTED, to="")
    services.resend.answer(BROKEN, to=".0")
    services.resend.before_leaving = lambda: (
        worker.waiter.stop() if services.resend.suffixes == [""] else None
    )
    batch = services.pin()
    with pytest.raises(StoppedError):
        worker.sender.send(batch)
    assert stored(services, batch).split_progress.unsure == {".0"}
    services.resend.calls.clear()
    services.resend.before_leaving = lambda: None
    refuse(services, 0, 1, 2)
    deferred(SendingWorker(services).sender.send(adopted(services, batch)))
    assert set(services.resend.suffixes) == {".0"}


def test_nobody_is_blamed_while_other_batches_fail_too(
    services: Services, worker: SendingWorker
) -> None:
    """Something on the way broke, after a part had been accepted."""
    services.resend.answer(REJECTED, to="")
    for suffix in (".1", ".1.0"):
        services.resend.answer(*[UNKNOWN] * 99, to=suffix)
    services.resend.before_leaving = lambda: (
        services.another_fails() if services.resend.calls else None
    )
    batch = services.pin()
    deferred(worker.sender.send(batch))
    assert services.resend.suffixes[:3] == ["", ".0", ".1"]
    assert set(stored(services, batch).split_progress.parts) == {".0"}


def test_a_refusal_that_an_earlier_owners_call_may_cross_splits_nothing(
    services: Services, worker: SendingWorker
) -> None:
    """An earlier owner's call for the half may arrive after this one, and be accepted."""
    batch = services.pin()
    batch.split_progress.rejected.add("")
    services.ledger.own(*batch.ref, "", batch.split_progress)
    refuse(services, 0)
    worker.sender.send(adopted(services, batch, alone_in_s=7.0))
    assert services.resend.suffixes[:3] == [".0", ".0", ".0.0"]
    assert services.resend.calls[1].at >= 7


# Tests of a hold


def test_a_hold_is_tested_with_one_call(services: Services, worker: SendingWorker) -> None:
    services.hold()
    batch = services.pin(2)
    result = worker.sender.test_hold(batch)
    assert isinstance(result, BatchResult)
    assert (result.attempts, [item.outcome for item in result.items]) == (1, ["sent", "sent"])
    assert services.resend.suffixes == [""]
    assert services.limiter.successes(ACCOUNT) == 1  # told at once: it closes the circuit


@pytest.mark.parametrize(
    ("answer", "disposition"),
    [
        (QUOTA, Suspended("monthly_quota_exceeded", "Quota.")),
        (REJECTED, Rejected("Invalid `to` field.")),
        (BUSY, Retry("concurrent_idempotent_requests")),
    ],
)
def test_a_test_of_a_hold_returns_what_was_answered(
    services: Services, worker: SendingWorker, answer: ApiResponse, disposition: object
) -> None:
    services.resend.answer(answer)
    assert worker.sender.test_hold(services.pin()) == disposition
    assert services.limiter.successes(ACCOUNT) == 0


def test_a_hold_is_not_tested_with_a_batch_whose_window_has_closed(
    services: Services, worker: SendingWorker
) -> None:
    batch = services.pin()
    assert worker.sender.test_hold(replace(batch, age_s=3600.0)) is None
    services.resend.before_leaving = lambda: services.clock.advance(1.0)
    assert worker.sender.test_hold(replace(batch, age_s=3599.0)) is None
    assert services.resend.calls == []


def test_a_test_that_was_held_up_takes_another_slot(
    services: Services, worker: SendingWorker
) -> None:
    """Despite the hold that it tests."""
    services.hold()

    def once() -> None:
        services.resend.before_leaving = lambda: None
        services.clock.advance(5.1)

    services.resend.before_leaving = once
    assert isinstance(worker.sender.test_hold(services.pin()), BatchResult)
    assert services.accounts.faults.made.count("take") == 1


# Mails of templates


def test_mails_of_a_missing_template_are_rejected_together(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(error(404, "not_found", "Template not found"))
    payload = Payload(
        [
            orjson.dumps({"to": [f"user{number}@b.test"], "template": {"id": "t1"}})
            for number in range(4)
        ]
    )
    result = worker.sender.send(services.pin(payload=payload))
    assert result == BatchResult(1, [ItemResult("rejected", "Template not found")] * 4)
