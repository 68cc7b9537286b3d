"""Batches are filled with mails; records that get none are resolved on the way."""

from datetime import timedelta

import pytest

from streamer.ledger.campaigns import CampaignProbe
from streamer.model.campaign import CampaignState
from streamer.model.reasons import Reason
from streamer.model.record import Outcome, Parked, Record
from streamer.settings import BatchSettings
from streamer.worker.assembly import BatchAssembly
from streamer.worker.batch import Batch
from streamer.worker.filling import with_spare
from tests.kit.fakes.sending import ORGANIZATION, SendingWorker, Services, make_record


def small(services: Services, size: int = 3, max_bytes: int = 8_000_000) -> SendingWorker:
    return SendingWorker(services, batch=BatchSettings(size=size, max_bytes=max_bytes))


def records(*numbers: int) -> list[Record]:
    return [make_record(number) for number in numbers]


def reason_of(record: Record) -> str | None:
    assert isinstance(record.resolution, Outcome)
    return record.resolution.reason


def queue(worker: SendingWorker, *queued: Record) -> None:
    worker.batcher.add(queued)


def members(assembly: BatchAssembly) -> list[int]:
    return [record.record_id.offset for record in assembly.batch.records]


# Who gets a mail


def test_mails_are_in_the_order_of_their_records(worker: SendingWorker) -> None:
    given = records(3, 1, 2)
    assembly = worker.filler.begin(ORGANIZATION, given)
    assert assembly.batch.records == given
    assert [b"user3@b.test" in mail for mail in assembly.batch.mails] == [True, False, False]
    assert assembly.batch.sender == "acme.test"
    assert all(record.resolution is None for record in given)


def test_records_that_get_no_mail_are_resolved(services: Services, worker: SendingWorker) -> None:
    services.ledger.suppress(ORGANIZATION, "user1@b.test")
    broken = make_record(2, name=None)
    broken.value = (broken.value or b"").replace(b"{{ name }}", b"{{ nobody }}")
    broken.forget_event()
    large = make_record(3, name="x" * 100_000)
    given = [*records(0, 1), broken, large]
    assembly = worker.filler.begin(ORGANIZATION, given)
    assert members(assembly) == [0]
    assert [reason_of(record) for record in given[1:]] == [
        Reason.SUPPRESSED,
        Reason.RENDER_ERROR,
        Reason.TOO_LARGE,
    ]
    assert assembly.resolved == given[1:]
    worker.filler.check_bulk_failures(assembly)
    assert (worker.resolved.records, assembly.resolved) == (given[1:], [])


def test_a_claimed_address_is_a_duplicate_unless_the_claim_is_its_own(
    services: Services, worker: SendingWorker
) -> None:
    worker.deliver(*records(1, 2))
    batch = services.ledger.batches[0].batch_id
    again, other = make_record(2), make_record(7, "user1@b.test")
    assembly = worker.filler.begin(ORGANIZATION, [again, other, make_record(3)])
    assert members(assembly) == [3]
    assert assembly.adoptions == {batch: [(again, 1)]}
    assert reason_of(other) == Reason.DUPLICATE
    assert again.resolution is None


def test_a_claim_of_its_own_goes_before_all_other_checks(
    services: Services, worker: SendingWorker
) -> None:
    """It may have been mailed before a crash, and suppressed or cancelled since."""
    worker.deliver(make_record(1))
    services.ledger.suppress(ORGANIZATION, "user1@b.test")
    cancelled = CampaignProbe(CampaignState.CANCELLED, None)
    services.ledger.campaigns[ORGANIZATION, "spring"] = cancelled
    again = make_record(1, expires_at="2020-01-01T00:00:00Z")
    assembly = worker.filler.begin(ORGANIZATION, [again])
    assert [claimed for claimed, _ in next(iter(assembly.adoptions.values()))] == [again]


def test_a_second_record_of_an_address_waits_for_the_first(worker: SendingWorker) -> None:
    twin, namesake = make_record(2, "user1@b.test"), make_record(3, "user1@b.test", campaign="b")
    assembly = worker.filler.begin(ORGANIZATION, [make_record(1), twin, namesake])
    assert members(assembly) == [1, 3]  # in another campaign it is no duplicate
    assert assembly.same_address == [twin]


def test_a_batch_has_mails_of_one_sender(worker: SendingWorker) -> None:
    other = make_record(2, sender="b@other.test")
    assembly = worker.filler.begin(ORGANIZATION, [make_record(1), other, make_record(3)])
    assert members(assembly) == [1, 3]
    assert assembly.other_senders == [other]


def test_records_of_a_paused_campaign_are_parked(services: Services, worker: SendingWorker) -> None:
    services.ledger.campaigns[ORGANIZATION, "spring"] = CampaignProbe(CampaignState.PAUSED, None)
    paused = make_record(1)
    assembly = worker.filler.begin(ORGANIZATION, [paused, make_record(2, campaign="autumn")])
    assert members(assembly) == [2]
    assert isinstance(paused.resolution, Parked)


def test_a_batch_expires_with_the_first_of_its_mails(
    services: Services, worker: SendingWorker
) -> None:
    now = services.clock.utc()
    given = [
        make_record(1),
        *(make_record(n, expires_at=(now + timedelta(hours=n)).isoformat()) for n in (3, 2)),
    ]
    assembly = worker.filler.begin(ORGANIZATION, given)
    assert assembly.batch.expires_at == now + timedelta(hours=2)


def test_redis_is_asked_until_it_answers(services: Services, worker: SendingWorker) -> None:
    services.ledger.faults.refuse("of", 3)
    assert members(worker.filler.begin(ORGANIZATION, records(1))) == [1]


# How full


def test_a_full_batch_leaves_the_rest_in_the_queue(services: Services) -> None:
    worker = small(services)
    assembly = worker.filler.begin(ORGANIZATION, records(1, 2, 3, 4, 5))
    assert members(assembly) == [1, 2, 3]
    rest = worker.batcher.take(ORGANIZATION, 10)
    assert [record.record_id.offset for record in rest] == [4, 5]


def test_a_batch_closes_before_its_request_is_too_large(services: Services) -> None:
    one = small(services).filler.begin(ORGANIZATION, records(1)).batch.mails[0]
    worker = small(services, 100, max_bytes=2 * len(one) + 3)
    assembly = worker.filler.begin(ORGANIZATION, records(1, 2, 3))
    assert members(assembly) == [1]
    assert assembly.batch.room == 0
    assert worker.batcher.queued(ORGANIZATION) == 2
    # By one byte more, two fit with the comma between them.
    assembly = small(services, 100, 2 * len(one) + 4).filler.begin(ORGANIZATION, records(1, 2, 3))
    assert members(assembly) == [1, 2]


def test_a_mail_that_is_too_large_for_any_batch_goes_alone(services: Services) -> None:
    worker = small(services, 100, max_bytes=10)
    assembly = worker.filler.begin(ORGANIZATION, records(1, 2))
    assert members(assembly) == [1]


def test_queued_records_replace_those_that_dropped_out(services: Services) -> None:
    worker = small(services)
    services.ledger.suppress(ORGANIZATION, "user1@b.test", "user2@b.test", "user4@b.test")
    queue(worker, *records(4, 5, 6, 7))
    assembly = worker.filler.begin(ORGANIZATION, records(1, 2, 3))
    assert members(assembly) == [3, 5, 6]
    assert worker.batcher.queued(ORGANIZATION) == 1


def test_filling_ends_after_a_second(services: Services) -> None:
    """A new recipient does not wait until a list that was produced again is looked through."""
    worker = small(services)
    worker.deliver(make_record(0, "had@b.test"))
    queue(worker, *(make_record(number, "had@b.test") for number in range(100, 200)))
    services.ledger.faults.before = lambda name: services.clock.advance(0.3)
    assembly = worker.filler.begin(ORGANIZATION, records(1))
    assert members(assembly) == [1]
    assert services.ledger.faults.made.count("of") == 6
    assert worker.batcher.queued(ORGANIZATION) > 80


def test_filling_ends_when_many_mails_come_from_other_senders(services: Services) -> None:
    worker = small(services)
    queue(worker, *(make_record(number, sender="b@other.test") for number in range(10, 60)))
    assembly = worker.filler.begin(ORGANIZATION, records(1))
    assert members(assembly) == [1]
    assert 9 <= len(assembly.other_senders) <= 12


def test_a_few_more_records_are_taken_than_there_is_room_for() -> None:
    assert [with_spare(room) for room in (1, 15, 16, 100)] == [2, 16, 18, 107]


# Whether it may wait


def make_assembly(worker: SendingWorker, *given: Record) -> BatchAssembly:
    assembly = BatchAssembly(Batch(ORGANIZATION, 3, 1_000_000))
    worker.filler.screen(assembly, list(given))
    return assembly


def test_a_batch_with_room_may_wait_until_a_record_is_overdue(
    services: Services, worker: SendingWorker
) -> None:
    given = [make_record(number, admitted_at=0.0) for number in (1, 2)]
    assembly = make_assembly(worker, *given)
    services.clock.advance(0.199)
    assert worker.filler.may_still_fill(assembly)
    services.clock.advance(0.001)
    assert not worker.filler.may_still_fill(assembly)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param([], id="empty"),
        pytest.param([1, 2, 3], id="full"),
    ],
)
def test_an_empty_or_full_batch_does_not_wait(worker: SendingWorker, given: list[int]) -> None:
    fresh = [make_record(number, admitted_at=1_000.0) for number in given]
    assert not worker.filler.may_still_fill(make_assembly(worker, *fresh) if fresh else _empty())


def test_a_batch_does_not_wait_for_mails_of_its_sender_among_others(
    worker: SendingWorker,
) -> None:
    given = [make_record(1, admitted_at=1_000.0)]
    given.append(make_record(2, sender="b@other.test", admitted_at=1_000.0))
    assert not worker.filler.may_still_fill(make_assembly(worker, *given))


def _empty() -> BatchAssembly:
    return BatchAssembly(Batch(ORGANIZATION, 3, 1_000_000))
