"""A batch from its records to their outcomes: filled, pinned, sent, or adopted."""

from datetime import timedelta

import pytest

from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.epoch import LedgerLostError
from streamer.model.campaign import CampaignState
from streamer.model.parking import Scope
from streamer.model.reasons import Reason, Status
from streamer.model.record import Outcome, Parked, Record
from streamer.model.result import BatchResult, ItemResult
from streamer.provider.client import ApiResponse
from streamer.settings import BatchSettings
from streamer.worker import delivery
from streamer.worker.batch import new_id
from streamer.worker.waiter import StoppedError
from tests.kit.fakes.resend import Accepts, ReceivedCall, error
from tests.kit.fakes.sending import (
    ACCOUNT,
    ORGANIZATION,
    SendingWorker,
    Services,
    make_record,
)

QUOTA = error(429, "monthly_quota_exceeded", "Quota.")
BROKEN = error(500, "application_error", "It broke.")
PAUSED = CampaignProbe(CampaignState.PAUSED, None)


def records(*numbers: int) -> list[Record]:
    return [make_record(number) for number in numbers]


def outcome(record: Record) -> Outcome:
    assert isinstance(record.resolution, Outcome)
    return record.resolution


def reasons(*given: Record) -> list[str | None]:
    return [outcome(record).reason for record in given]


def assert_sent(services: Services, *given: Record) -> None:
    """Each has the id of its own mail."""
    mailed = services.resend.ids()
    for record in given:
        assert outcome(record).status is Status.SENT
        assert outcome(record).email_id == mailed[record.required_address]


# From the records to their outcomes


def test_records_are_sent_together(services: Services, worker: SendingWorker) -> None:
    given = records(*range(100))
    worker.deliver(*given)
    assert_sent(services, *given)
    assert len(services.resend.calls) == 1
    batch = services.ledger.batches[0].batch_id
    assert {(outcome(each).batch_id, outcome(each).attempts) for each in given} == {(batch, 1)}
    assert worker.resolved.records == given


def test_nothing_is_pinned_where_nobody_is_mailed(
    services: Services, worker: SendingWorker
) -> None:
    services.ledger.suppress(ORGANIZATION, "user1@b.test")
    (record,) = given = records(1)
    worker.deliver(*given)
    assert reasons(record) == [Reason.SUPPRESSED]
    assert (services.ledger.batches, services.accounts.faults.made) == ([], [])


def test_a_batch_that_may_wait_goes_back_to_the_queue(
    services: Services, worker: SendingWorker
) -> None:
    given = [make_record(n, admitted_at=services.clock.monotonic()) for n in (1, 2)]
    worker.delivery.run(ORGANIZATION, given)
    assert worker.batcher.take(ORGANIZATION, 10) == given
    assert (services.ledger.batches, services.resend.calls) == ([], [])
    services.clock.advance(0.2)
    worker.deliver(*given)
    assert_sent(services, *given)


def test_a_held_accounts_records_are_parked_unpinned(
    services: Services, worker: SendingWorker
) -> None:
    services.hold()
    given = records(1, 2)
    worker.deliver(*given)
    assert [record.resolution for record in given] == [Parked(Scope.of_hold(ACCOUNT, None))] * 2
    assert services.ledger.batches == []


def test_the_slot_is_taken_before_the_pin(services: Services, worker: SendingWorker) -> None:
    """The pin checks suppression, so that nobody is mailed who was suppressed before it."""
    services.limiter.pause(ACCOUNT, 20.0)
    services.clock.after(10.0, lambda: services.ledger.suppress(ORGANIZATION, "user1@b.test"))
    given = records(1, 2)
    worker.deliver(*given)
    assert reasons(*given) == [Reason.SUPPRESSED, None]
    assert list(services.resend.ids()) == ["user2@b.test"]


def test_after_a_wait_for_the_slot_the_records_are_decided_anew(
    services: Services, worker: SendingWorker
) -> None:
    services.limiter.pause(ACCOUNT, 20.0)
    campaigns = services.ledger.campaigns
    services.clock.after(10.0, lambda: campaigns.update({(ORGANIZATION, "spring"): PAUSED}))
    expires_at = (services.clock.utc() + timedelta(seconds=15)).isoformat()
    paused, expired, other = (
        make_record(1),
        make_record(2, campaign="autumn", expires_at=expires_at),
        make_record(3, campaign="autumn"),
    )
    worker.deliver(paused, expired, other)
    assert paused.resolution == Parked(Scope.of_campaign(ORGANIZATION, "spring"))
    assert reasons(expired) == [Reason.EXPIRED]
    assert_sent(services, other)


def test_after_a_short_wait_they_are_not(services: Services, worker: SendingWorker) -> None:
    for wait_s, lookups in ((0.4, 1), (0.6, 3)):
        services.limiter.pause(ACCOUNT, wait_s)
        worker.deliver(make_record(lookups))
        assert services.ledger.faults.made.count("of") == lookups


# The pin


def test_whoever_is_suppressed_at_the_pin_is_not_mailed(
    services: Services, worker: SendingWorker
) -> None:
    def before(name: str) -> None:
        if name == "pin":
            services.ledger.suppress(ORGANIZATION, "user1@b.test", "user3@b.test")

    services.ledger.faults.before = before
    given = records(1, 2, 3)
    worker.deliver(*given)
    assert reasons(*given) == [Reason.SUPPRESSED, None, Reason.SUPPRESSED]
    assert_sent(services, given[1])
    assert services.ledger.faults.made.count("pin") == 2


def test_a_member_claimed_meanwhile_is_a_duplicate(
    services: Services, worker: SendingWorker
) -> None:
    def before(name: str) -> None:
        if name == "pin":
            services.ledger.faults.before = lambda name: None
            SendingWorker(services).deliver(make_record(7, "user1@b.test"))

    services.ledger.faults.before = before
    given = records(1, 2)
    worker.deliver(*given)
    assert reasons(*given) == [Reason.DUPLICATE, None]
    assert outcome(given[0]).detail == "of t/0/7"
    assert list(services.resend.ids()) == ["user1@b.test", "user2@b.test"]


def test_a_member_that_was_pinned_before_is_adopted(
    services: Services, worker: SendingWorker
) -> None:
    """Its partition was revoked, and another worker has read it again."""

    def before(name: str) -> None:
        if name == "pin":
            services.ledger.faults.before = lambda name: None
            SendingWorker(services).deliver(make_record(1))

    services.ledger.faults.before = before
    given = records(1, 2)
    worker.deliver(*given)
    assert_sent(services, *given)
    assert outcome(given[0]).batch_id != outcome(given[1]).batch_id


def test_places_of_members_that_dropped_out_are_filled_again(services: Services) -> None:
    worker = SendingWorker(services, batch=BatchSettings(size=2))
    worker.batcher.add(queued := records(3, 4))

    def before(name: str) -> None:
        if name == "pin":
            services.ledger.suppress(ORGANIZATION, "user1@b.test")

    services.ledger.faults.before = before
    given = records(1, 2)
    worker.delivery.run(ORGANIZATION, given)
    assert reasons(*given) == [Reason.SUPPRESSED, None]
    assert_sent(services, given[1], queued[0])
    assert len(services.resend.calls) == 1


def test_a_pin_whose_reply_is_lost_is_made_once(services: Services, worker: SendingWorker) -> None:
    """Pinned again with what is next in the queue, its members would be `sent` unmailed."""
    services.ledger.faults.lose_reply("pin", 2)
    given, queued = records(*range(100)), records(*range(100, 200))
    worker.batcher.add(queued)
    worker.deliver(*given)
    assert_sent(services, *given, *queued)
    assert len(services.ledger.batches) == 2


def test_each_payload_is_pinned_under_an_id_of_its_own(
    services: Services, worker: SendingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused pin may have a lost reply too; its id is never used for another payload."""
    ids: list[str] = []
    services.ledger.faults.lose_reply("pin")

    def before(name: str) -> None:
        if name == "pin":
            services.ledger.suppress(ORGANIZATION, "user1@b.test")

    services.ledger.faults.before = before

    def noted_id() -> str:
        ids.append(new_id())
        return ids[-1]

    monkeypatch.setattr(delivery, "new_id", noted_id)
    worker.deliver(*records(1, 2))
    assert (len(set(ids)), services.ledger.faults.made.count("pin")) == (2, 3)
    assert [ref.batch_id for ref in services.ledger.batches] == ids[1:]


def test_a_batch_adopted_while_its_pin_was_repeated_is_left_to_its_adopter(
    services: Services, worker: SendingWorker
) -> None:
    result = BatchResult(4, [ItemResult.sent("theirs-1"), ItemResult.sent("theirs-2")])

    def adopt_it(name: str) -> None:
        """The reply is lost, and meanwhile another worker adopts the batch and sends it."""
        if name == "pin" and len(services.ledger.batches) == 1:
            ref = services.ledger.batches[0]
            services.ledger.faults.before = lambda name: None
            services.ledger.adopt(*ref, "another")
            services.ledger.resolve(*ref, "another", result)

    services.ledger.faults.lose_reply("pin")
    services.ledger.faults.before = adopt_it
    given = records(1, 2)
    worker.deliver(*given)
    assert [outcome(record).email_id for record in given] == ["theirs-1", "theirs-2"]
    assert services.resend.calls == []


def test_a_lost_ledger_ends_the_delivery(services: Services, worker: SendingWorker) -> None:
    for call in ("of", "pin"):
        given = records(1, 2)

        def before(name: str, call: str = call) -> None:
            if name == call:
                services.ledger.lose(ORGANIZATION)

        services.ledger.faults.before = before
        with pytest.raises(LedgerLostError):
            worker.deliver(*given)
        assert [record.resolution for record in given] == [None, None]
    assert services.resend.calls == []


def test_a_stop_leaves_the_records_undecided(services: Services, worker: SendingWorker) -> None:
    services.limiter.pause(ACCOUNT, 20.0)
    services.clock.after(5.0, worker.waiter.stop)
    given = records(1, 2)
    with pytest.raises(StoppedError):
        worker.deliver(*given)
    assert [record.resolution for record in given] == [None, None]
    assert services.ledger.batches == []


# Records that share a batch


def test_a_second_record_of_an_address_is_a_duplicate(
    services: Services, worker: SendingWorker
) -> None:
    first, twin = make_record(1), make_record(2, "user1@b.test")
    worker.deliver(first, twin)
    assert_sent(services, first)
    assert (outcome(twin).reason, outcome(twin).detail) == (Reason.DUPLICATE, "of t/0/1")


def test_a_record_that_was_read_twice_shares_the_result(
    services: Services, worker: SendingWorker
) -> None:
    given = [make_record(1), make_record(1)]
    worker.deliver(*given)
    assert_sent(services, *given)
    assert len(services.resend.accepted) == 1


def test_a_twin_of_a_member_that_dropped_out_is_decided_anew(
    services: Services, worker: SendingWorker
) -> None:
    def before(name: str) -> None:
        if name == "pin":
            services.ledger.suppress(ORGANIZATION, "user1@b.test")

    services.ledger.faults.before = before
    given = [make_record(1), make_record(2, "user1@b.test"), make_record(3)]
    worker.deliver(*given)
    # Two records of a suppressed address both end `suppressed`.
    assert reasons(*given) == [Reason.SUPPRESSED, Reason.SUPPRESSED, None]


def test_records_do_not_wait_for_a_batch_that_fails(
    services: Services, worker: SendingWorker
) -> None:
    """Those of another sender are sent meanwhile, and duplicates of its members end."""
    stuck = make_record(1)
    other = make_record(2, sender="b@other.test")
    twin = make_record(3, "user1@b.test")
    services.resend.decide = lambda call: BROKEN if "user1@b.test" in call.addresses else None

    def meanwhile() -> None:
        assert stuck.resolution is None
        assert reasons(twin) == [Reason.DUPLICATE]
        assert worker.batcher.take(ORGANIZATION, 10) == [other]
        SendingWorker(services).deliver(other)
        assert_sent(services, other)
        services.resend.decide = lambda call: None

    services.clock.after(5.0, meanwhile)
    worker.deliver(stuck, other, twin)
    assert_sent(services, stuck)


def test_each_mail_is_composed_once_though_there_are_two_senders(
    services: Services, worker: SendingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    composer = worker.filler._composer
    composed: list[str] = []
    compose = composer.compose

    def counted(event: object, address: str, *others: object) -> bytes:
        composed.append(address)
        return compose(event, address, *others)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(composer, "compose", counted)
    given = [
        make_record(number, sender=("a@acme.test", "b@other.test")[number % 2])
        for number in range(40)
    ]
    worker.deliver(*given)
    assert_sent(services, *given)
    assert sorted(composed) == sorted(record.required_address for record in given)
    assert len(services.resend.calls) == 2


# The result


def test_a_parked_batch_parks_its_records_with_it(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(QUOTA)
    given = records(1, 2)
    worker.deliver(*given)
    parked = Parked(Scope.of_hold(ACCOUNT, None), maybe_pinned=True)
    assert [record.resolution for record in given] == [parked, parked]


def test_whoever_is_suppressed_while_their_batch_is_deferred_is_not_mailed(
    services: Services, worker: SendingWorker
) -> None:
    services.resend.answer(QUOTA)
    worker.deliver(*records(1, 2))
    services.ledger.suppress(ORGANIZATION, "user1@b.test")
    services.holds.release(ACCOUNT, None, services.holds.read([ACCOUNT])[ACCOUNT].holds[None].by)
    returned = records(1, 2)
    SendingWorker(services).deliver(*returned)
    assert reasons(*returned) == [Reason.SUPPRESSED, None]
    assert list(services.resend.ids()) == ["user2@b.test"]


def test_a_redelivered_record_gets_the_result_of_its_batch(
    services: Services, worker: SendingWorker
) -> None:
    """Also if it was suppressed, or its campaign cancelled, since it was pinned."""
    services.resend.answer(Accepts())
    services.resend.while_running = worker.waiter.stop
    with pytest.raises(StoppedError):
        worker.deliver(*records(1, 2))
    services.ledger.suppress(ORGANIZATION, "user1@b.test")
    services.ledger.campaigns[ORGANIZATION, "spring"] = PAUSED
    again = records(1, 2)
    SendingWorker(services).deliver(*again)
    assert_sent(services, *again)


def test_records_of_a_batch_that_the_ledger_lacks_are_lost(
    services: Services, worker: SendingWorker
) -> None:
    worker.deliver(*records(1))
    (ref,) = services.ledger.batches
    services.ledger.forget(ref)
    again = records(1)
    SendingWorker(services).deliver(*again)
    assert reasons(*again) == [Reason.LEDGER_LOST]
    assert ref.batch_id in (outcome(again[0]).detail or "")


def test_a_retry_of_a_failed_recipient_is_sent(services: Services, worker: SendingWorker) -> None:
    services.resend.refused.add("user1@b.test")
    failed = make_record(1)
    worker.deliver(failed)
    assert outcome(failed).status is Status.FAILED
    services.resend.refused.clear()
    retry = make_record(7, "user1@b.test", replaces=outcome(failed).batch_id or "")
    worker.deliver(retry)
    assert_sent(services, retry)
    again = make_record(8, "user1@b.test", replaces=outcome(failed).batch_id or "")
    worker.deliver(again)
    assert reasons(again) == [Reason.DUPLICATE]


def test_a_batch_refused_for_one_mail_costs_the_others_nothing(
    services: Services, worker: SendingWorker
) -> None:
    def decide(call: ReceivedCall) -> ApiResponse | None:
        invalid = error(422, "validation_error", "Invalid `to` field.")
        return invalid if "user37@b.test" in call.addresses else None

    services.resend.decide = decide
    given = records(*range(100))
    worker.deliver(*given)
    assert [record.record_id.offset for record in given if outcome(record).reason] == [37]
    assert_sent(services, *given[:37], *given[38:])


def test_an_organization_without_an_account_is_no_batch(services: Services) -> None:
    worker = SendingWorker(services, organizations={ACCOUNT: ["else"]})
    record = make_record(1)
    worker.deliver(record)
    assert record.resolution == Parked(Scope("organization", ORGANIZATION))
