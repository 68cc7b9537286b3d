"""One call for a pinned batch: in its turn, as its owner, before its deadline."""

from functools import partial
from itertools import cycle

import pytest

from streamer.ledger.claims import TakenOverError
from streamer.provider.client import ApiResponse
from streamer.worker.calling import Caller
from streamer.worker.pinned import Ownership, PinnedBatch
from streamer.worker.waiter import StoppedError
from tests.kit.fakes.resend import FakeResend, error
from tests.kit.fakes.sending import ACCOUNT, DOMAIN, KEY_VARIABLE, SendingWorker, Services

LATER = 3600.0


def make_caller(services: Services, worker: SendingWorker) -> Caller:
    return Caller(
        worker.accounts,
        services.resend,
        worker.slots,
        worker.account_states,
        Ownership(services.ledger, worker.waiter),
        worker.waiter,
    )


def call(
    services: Services, worker: SendingWorker, batch: PinnedBatch, deadline: float = LATER
) -> ApiResponse:
    caller = make_caller(services, worker)
    return caller.call(batch, batch.ref.batch_id, batch.payload, deadline)


def test_the_pinned_bytes_are_sent_under_the_key(services: Services, worker: SendingWorker) -> None:
    batch = services.pin(2)
    assert call(services, worker, batch).status == 200
    (made,) = services.resend.calls
    assert (made.api_key, made.batch_id, made.suffix) == ("re_key", batch.ref.batch_id, "")
    assert made.addresses == ("user0@b.test", "user1@b.test")


def test_without_a_key_nothing_is_called(
    services: Services, worker: SendingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    response = call(services, worker, services.pin())
    assert (response.status, response.name) == (401, "missing_api_key")
    assert KEY_VARIABLE in response.message
    assert services.resend.calls == []
    assert services.accounts.faults.made == []


def test_a_call_after_its_deadline_is_withheld(services: Services, worker: SendingWorker) -> None:
    services.clock.advance(1.0)
    batch = services.pin()
    assert call(services, worker, batch, deadline=1.0).withheld
    assert not call(services, worker, batch, deadline=1.1).withheld
    # A withheld call says nothing about the account, and does not move its calls.
    assert services.limiter.notes(ACCOUNT) == {}


def test_the_deadline_is_checked_once_the_connection_is_open(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.before_leaving = lambda: services.clock.advance(1.0)
    assert call(services, worker, services.pin(), deadline=1.0).withheld
    assert services.resend.calls == []


# Ownership


@pytest.mark.parametrize(("age_s", "checks"), [(2.4, 0), (2.6, 1)])
def test_ownership_is_confirmed_once_it_is_old(
    services: Services, worker: SendingWorker, age_s: float, checks: int
) -> None:
    batch = services.pin()
    services.clock.advance(age_s)
    assert call(services, worker, batch).status == 200
    assert services.ledger.faults.made.count("own") == checks
    assert batch.asked_at == (age_s if checks else 0.0)


def test_a_call_leaves_within_what_its_owner_is_sure_of(
    services: Services, worker: SendingWorker
) -> None:
    """After that another worker may count on no call being under way."""
    batch = services.pin()
    services.resend.before_leaving = lambda: services.clock.advance(5.0)
    assert call(services, worker, batch).withheld
    services.resend.before_leaving = lambda: services.clock.advance(4.9)
    assert call(services, worker, batch).status == 200


def test_ownership_counts_from_when_it_was_asked_for(
    services: Services, worker: SendingWorker
) -> None:
    """The reply may take long, and the batch may be adopted meanwhile."""
    batch = services.pin()
    services.clock.advance(4.0)
    services.ledger.faults.after = lambda name: services.clock.advance(2.0)
    services.resend.before_leaving = lambda: services.clock.advance(3.0)
    assert call(services, worker, batch).withheld
    assert batch.asked_at == 4.0


def test_nothing_is_called_for_a_batch_that_was_taken_over(
    services: Services, worker: SendingWorker
) -> None:
    batch = services.pin()
    services.ledger.adopt(*batch.ref, "another")
    services.clock.advance(3.0)
    with pytest.raises(TakenOverError):
        call(services, worker, batch)
    assert services.resend.calls == []


def test_a_lost_confirmation_is_asked_for_again(services: Services, worker: SendingWorker) -> None:
    batch = services.pin()
    services.clock.advance(3.0)
    services.ledger.faults.lose_reply("own", 2)
    assert call(services, worker, batch).status == 200
    assert services.ledger.faults.made.count("own") == 3
    assert batch.asked_at > 3.0  # as of the last time that it was asked for


# The rate limit


def test_a_call_leaves_when_it_is_permitted(services: Services, worker: SendingWorker) -> None:
    batch = services.pin()
    for _ in range(11):
        call(services, worker, batch)
    at = [each.at for each in services.resend.calls]
    assert at[9] < 1
    assert at[10] == pytest.approx(1 / 0.99, abs=1e-6)


def test_a_stop_ends_the_wait_for_the_permit(services: Services, worker: SendingWorker) -> None:
    batch = services.pin()
    for _ in range(10):
        call(services, worker, batch)
    worker.waiter.stop()
    with pytest.raises(StoppedError):
        call(services, worker, batch)


def test_a_call_that_leaves_late_delays_those_after_it(services: Services) -> None:
    worker = SendingWorker(services, requests_per_second=1.0)
    batch = services.pin()
    services.resend.before_leaving = lambda: services.clock.advance(0.8)
    call(services, worker, batch)
    services.resend.before_leaving = lambda: None
    call(services, worker, batch)
    first, second = (each.at for each in services.resend.calls)
    assert second - first >= 1.0


@pytest.mark.parametrize("rate", [1.0, 3.0, 10.0, 50.0])
@pytest.mark.parametrize("slow_ms", [[0], [0, 0, 180, 0, 7, 0, 0, 400, 0]])
def test_two_workers_together_never_exceed_the_limit(
    services: Services, rate: float, slow_ms: list[int]
) -> None:
    """However long it takes to open the connection of some calls."""
    services.resend = FakeResend(services.clock, latency_s=0)
    workers = [SendingWorker(services, requests_per_second=rate) for _ in range(2)]
    for number, delay_ms in zip(range(round(10 * rate)), cycle(slow_ms), strict=False):
        services.resend.before_leaving = partial(services.clock.advance, delay_ms / 1000)
        workers[number % 2].slots.take(ACCOUNT, DOMAIN)
        call(services, workers[number % 2], services.pin())
    at = [each.at for each in services.resend.calls]
    # In no second are there more calls than the limit, wherever the second begins.
    assert all(late - early >= 1.0 for early, late in zip(at, at[round(rate) :], strict=False))
    if slow_ms == [0]:
        assert at[-1] == pytest.approx((len(at) - 1) / (rate * 0.985), rel=0.01)  # used in full


# What a response says about the account


def test_a_success_is_not_noted(services: Services, worker: SendingWorker) -> None:
    call(services, worker, services.pin())
    assert services.limiter.notes(ACCOUNT) == {}


def test_another_response_is_noted(services: Services, worker: SendingWorker) -> None:
    services.resend.answer(error(500, "application_error", "It broke."))
    call(services, worker, services.pin())
    assert services.limiter.notes(ACCOUNT) == {"application_error": "It broke."}


def test_the_limit_that_a_response_advertises_is_learned(
    services: Services, worker: SendingWorker
) -> None:
    batch = services.pin()
    services.resend.answer(
        *(
            error(500, "application_error", "It broke.", ratelimit_limit=limit)
            for limit in ("2", "many", "0", "-1", "")
        )
    )
    for _ in range(5):
        call(services, worker, batch)
    assert worker.account_states.limit(ACCOUNT) == 2
    assert services.holds.read([ACCOUNT])[ACCOUNT].limit == 2


def test_what_is_only_shown_may_get_lost(services: Services, worker: SendingWorker) -> None:
    services.resend.answer(error(500, "application_error", "It broke.", ratelimit_limit="2"))
    for name in ("note", "set_advertised_limit", "adjust_permit"):
        services.accounts.faults.refuse(name)
    services.resend.before_leaving = lambda: services.clock.advance(0.5)
    assert call(services, worker, services.pin()).status == 500
    assert worker.account_states.limit(ACCOUNT) is None  # the next response advertises it again
