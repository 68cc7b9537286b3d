"""A pinned batch comes to one result, whoever has it, and whatever fails on the way."""

import logging
import threading
from collections.abc import Callable

import pytest

from streamer.ledger.claims import StoredBatch
from streamer.ledger.epoch import LedgerLostError
from streamer.ledger.limiter import Slot
from streamer.model.parking import Scope
from streamer.model.record import Parked
from streamer.model.result import BatchResult, ItemResult, SplitProgress
from streamer.worker.pinned import PinnedBatch, settling_s
from streamer.worker.single_flight import Finished, SingleFlight, Unpinned
from streamer.worker.waiter import StoppedError
from tests.kit.fakes.resend import NO_ANSWER, Accepts, error
from tests.kit.fakes.sending import ACCOUNT, DOMAIN, ORGANIZATION, SendingWorker, Services

SLOT = Slot(0.0, 0, 0)
HELD = Parked(Scope.of_hold(ACCOUNT, None))
BROKEN = error(500, "application_error", "It broke.")
QUOTA = error(429, "monthly_quota_exceeded", "Quota.")
THEIRS = BatchResult(7, [ItemResult.sent("theirs")] * 4)


@pytest.fixture
def batch(services: Services) -> PinnedBatch:
    return services.pin()


def sent(result: Finished) -> list[str]:
    """The ids of a batch all of whose mails were sent."""
    assert isinstance(result, BatchResult)
    assert {item.outcome for item in result.items} == {"sent"}
    return [item.text or "" for item in result.items]


def stored(services: Services, batch: PinnedBatch) -> StoredBatch:
    found = services.ledger.load(*batch.ref)
    assert found is not None
    return found


# A batch of one's own


def test_a_batch_is_sent_and_its_result_stored(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    result = worker.finisher.send(batch, SLOT)
    assert sent(result) == list(services.resend.ids().values())
    kept = stored(services, batch)
    assert (kept.result, kept.payload) == (result, None)
    assert worker.finisher.oldest() is None


def test_the_result_that_the_ledger_has_counts(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.clock.after(0.01, lambda: services.ledger.resolve(*batch.ref, "", THEIRS))
    assert worker.finisher.send(batch, SLOT) == THEIRS


def test_a_batch_that_resend_did_not_get_is_deferred(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.resend.answer(QUOTA)
    assert worker.finisher.send(batch, SLOT) == HELD
    assert stored(services, batch).deferred


@pytest.mark.parametrize("failure", [BROKEN, NO_ANSWER, Accepts()])
def test_a_batch_that_resend_may_have_keeps_its_pin(
    services: Services, worker: SendingWorker, batch: PinnedBatch, failure: Accepts
) -> None:
    services.resend.answer(failure, QUOTA)
    assert worker.finisher.send(batch, SLOT) == HELD
    kept = stored(services, batch)
    assert (kept.deferred, kept.payload is not None) == (False, True)


@pytest.mark.parametrize("call", ["defer", "resolve"])
@pytest.mark.parametrize("fault", ["refuse", "lose_reply"])
def test_redis_is_asked_until_it_has_the_result(
    services: Services, worker: SendingWorker, batch: PinnedBatch, call: str, fault: str
) -> None:
    if call == "defer":
        services.resend.answer(QUOTA)
    getattr(services.ledger.faults, fault)(call, 3)
    result = worker.finisher.send(batch, SLOT)
    assert services.ledger.faults.made.count(call) == 4
    kept = stored(services, batch)
    assert (kept.deferred, kept.result) == ((True, None) if call == "defer" else (False, result))


def test_a_lost_ledger_ends_the_sending(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.resend.while_running = lambda: services.ledger.lose(ORGANIZATION)
    with pytest.raises(LedgerLostError):
        worker.finisher.send(batch, SLOT)


def test_a_batch_is_logged_once_and_for_debugging_alone(
    services: Services,
    worker: SendingWorker,
    batch: PinnedBatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "streamer.worker.finishing"):
        worker.finisher.send(batch, SLOT)
    (line,) = caplog.records
    assert (line.getMessage(), line.levelno) == ("batch done", logging.DEBUG)
    assert vars(line)["batch"] == batch.ref.batch_id
    assert (vars(line)["mails"], vars(line)["result"]) == (4, "4 sent")


# Adoption


def test_a_batch_that_nobody_has_is_adopted_and_sent(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    result = worker.finisher.adopt(batch.ref)
    assert sent(result) == list(services.resend.ids().values())
    assert stored(services, batch).result == result


def test_an_adopter_gets_resends_answer_to_the_first_owner(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.resend.answer(Accepts())
    services.resend.while_running = worker.waiter.stop
    with pytest.raises(StoppedError):
        worker.finisher.send(batch, SLOT)
    mailed = list(services.resend.ids().values())
    assert sent(SendingWorker(services).finisher.adopt(batch.ref)) == mailed
    assert len(services.resend.accepted) == 4


def test_an_adopter_has_what_is_left_of_the_window(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.clock.advance(3599.0)
    services.resend.before_leaving = lambda: services.clock.advance(1.0)
    result = worker.finisher.adopt(batch.ref)
    assert isinstance(result, BatchResult)
    assert {item.outcome for item in result.items} == {"window_closed"}
    assert services.resend.calls == []


def test_an_adopter_goes_on_where_a_split_batch_was_left(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    parts = {".0": [ItemResult.sent("x"), ItemResult.sent("y")]}
    services.ledger.own(*batch.ref, "", SplitProgress({""}, parts, 2))
    assert sent(worker.finisher.adopt(batch.ref))[:2] == ["x", "y"]
    assert services.resend.suffixes == [".1"]


def test_a_resolved_batch_is_not_sent(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.ledger.resolve(*batch.ref, "", THEIRS)
    assert worker.finisher.adopt(batch.ref) == THEIRS
    assert services.resend.calls == []


def test_a_batch_that_the_ledger_does_not_have_is_lost(worker: SendingWorker) -> None:
    services = Services()
    assert worker.finisher.adopt(services.pin().ref) is None


def test_an_unpinned_batch_is_decided_anew(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.ledger.defer(*batch.ref, "")
    services.ledger.unpin(*batch.ref, stored(services, batch))
    assert worker.finisher.adopt(batch.ref) is Unpinned.UNPINNED


@pytest.mark.parametrize("fault", ["refuse", "lose_reply"])
@pytest.mark.parametrize("call", ["load", "adopt", "resolve"])
def test_an_adoption_survives_redis(
    services: Services, worker: SendingWorker, batch: PinnedBatch, call: str, fault: str
) -> None:
    getattr(services.ledger.faults, fault)(call, 3)
    sent(worker.finisher.adopt(batch.ref))
    assert services.ledger.faults.made.count(call) == 4
    assert len(services.resend.calls) == 1


# Holds


@pytest.mark.parametrize("domain", [None, DOMAIN])
def test_a_batch_of_a_held_account_is_not_adopted(
    services: Services, worker: SendingWorker, batch: PinnedBatch, domain: str | None
) -> None:
    """It has no owner while its records are parked."""
    services.hold(domain=domain)
    worker.account_states.refresh()
    assert worker.finisher.adopt(batch.ref) == Parked(Scope.of_hold(ACCOUNT, domain))
    assert "adopt" not in services.ledger.faults.made


def test_a_deferred_batch_is_unpinned_once_the_hold_is_over(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.ledger.defer(*batch.ref, "")
    for call in ("load", "unpin"):
        services.ledger.faults.lose_reply(call)
    assert worker.finisher.adopt(batch.ref) is Unpinned.UNPINNED
    assert stored(services, batch).unpinned
    assert services.resend.calls == []


def test_a_hold_does_not_concern_an_organization_that_left_the_account(
    services: Services, batch: PinnedBatch
) -> None:
    services.hold()
    moved = SendingWorker(services, organizations={ACCOUNT: None, "new": [ORGANIZATION]})
    moved.account_states.refresh()
    # What the old account may have sent already is finished there.
    assert moved.finisher.adopt(batch.ref) == HELD
    services.ledger.defer(*batch.ref, "")
    assert moved.finisher.adopt(batch.ref) is Unpinned.UNPINNED


def test_a_deferred_batch_of_a_held_account_stays_deferred(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    services.ledger.defer(*batch.ref, "")
    services.hold()
    worker.account_states.refresh()
    assert worker.finisher.adopt(batch.ref) == HELD
    assert stored(services, batch).deferred


# Take-overs


def taken_over_at_the_first_call(services: Services, batch: PinnedBatch) -> None:
    """Another worker adopts the batch while it is being called for."""

    def once() -> None:
        services.resend.before_leaving = lambda: None
        services.ledger.adopt(*batch.ref, "another")

    services.resend.before_leaving = once


def test_the_result_of_whoever_took_the_batch_over_is_waited_for(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    taken_over_at_the_first_call(services, batch)
    services.clock.after(9.0, lambda: services.ledger.resolve(*batch.ref, "another", THEIRS))
    assert worker.finisher.send(batch, SLOT) == THEIRS
    assert 9 <= services.clock.monotonic() < 9.5
    assert len(services.resend.calls) == 1


def test_a_batch_is_taken_back_if_no_result_comes(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    taken_over_at_the_first_call(services, batch)
    mailed = sent(worker.finisher.send(batch, SLOT))
    assert mailed == list(services.resend.ids().values())
    # Longer than the other has to wait before a refusal is final, or neither would come to an end.
    assert 10 <= services.clock.monotonic() - settling_s(30.0) < 11
    assert stored(services, batch).result is not None


def test_an_adopter_that_loses_the_batch_waits_for_its_result(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    taken_over_at_the_first_call(services, batch)
    services.clock.after(5.0, lambda: services.ledger.resolve(*batch.ref, "another", THEIRS))
    assert worker.finisher.adopt(batch.ref) == THEIRS
    assert services.ledger.faults.made.count("adopt") == 2  # its own, and the other's


def test_two_workers_that_send_a_batch_have_one_result(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    """The first one's call leaves after the other has sent the batch, and resolved it."""
    other, results = SendingWorker(services), list[Finished]()

    def intrude() -> None:
        services.resend.before_leaving = lambda: None
        services.clock.advance(3.0)
        results.append(other.finisher.adopt(batch.ref))

    services.resend.before_leaving = intrude
    results.append(worker.finisher.send(batch, SLOT))
    assert results[0] == results[1]
    assert sent(results[0]) == list(services.resend.ids().values())
    assert len(services.resend.calls) == 2


def test_a_stop_ends_the_wait_for_another_owner(
    services: Services, worker: SendingWorker, batch: PinnedBatch
) -> None:
    taken_over_at_the_first_call(services, batch)
    services.clock.after(2.0, worker.waiter.stop)
    with pytest.raises(StoppedError):
        worker.finisher.send(batch, SLOT)


# One thread at a time


def test_threads_of_one_process_share_a_delivery() -> None:
    flight, entered, released = SingleFlight(), threading.Event(), threading.Event()
    calls, results = list[int](), list[Finished]()

    def deliver() -> Finished:
        calls.append(1)
        entered.set()
        assert released.wait(10)
        return THEIRS

    def run() -> None:
        results.append(flight.do("b1", deliver))

    threads = [threading.Thread(target=run) for _ in range(4)]
    threads[0].start()
    assert entered.wait(10)
    for thread in threads[1:]:
        thread.start()
    assert flight.oldest() is not None
    assert flight.do("b2", lambda: None) is None  # another batch does not wait
    released.set()
    for thread in threads:
        thread.join(10)
    # A thread that came after the end would have delivered it again.
    assert len(calls) <= 4
    assert results == [THEIRS] * 4
    assert flight.oldest() is None


def test_threads_that_wait_get_the_error_of_the_delivery() -> None:
    flight = SingleFlight()
    errors: list[StoppedError] = []

    def stop() -> Finished:
        raise StoppedError

    def deliver(inner: Callable[[], Finished]) -> None:
        try:
            flight.do("b1", inner)
        except StoppedError as error:
            errors.append(error)

    deliver(stop)
    deliver(stop)
    assert len(errors) == 2
    assert flight.oldest() is None
