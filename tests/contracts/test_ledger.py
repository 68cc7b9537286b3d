"""What workers rely on about claims and batches: in memory and in Redis."""

import secrets
from datetime import UTC, datetime

import pytest

from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.claims import Claim, Conflict, Pinned, StoredBatch, TakenOverError
from streamer.ledger.epoch import LedgerLostError
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult, SplitProgress
from tests.contracts.ledgers import (
    LedgerInMemory,
    LedgerInRedis,
    LedgerUnderTest,
    make_payload,
)

RESULT = BatchResult(2, [ItemResult.sent("id-0"), ItemResult("rejected", "no")])
PROGRESS = SplitProgress({"", ".1"}, {".0": [ItemResult.sent("x")]}, 3, {".1.0"})


@pytest.fixture(params=["fake", "real"])
def ledger(request: pytest.FixtureRequest) -> LedgerUnderTest:
    if request.param == "fake":
        return LedgerInMemory()
    return LedgerInRedis(request.getfixturevalue("redis"))


def new_id() -> str:
    return secrets.token_hex(12)


def pin(
    ledger: LedgerUnderTest,
    records: list[Record],
    batch: str = "",
    expires_at: datetime | None = None,
) -> Pinned | Conflict:
    return ledger.batches.pin(
        ledger.organization,
        batch or new_id(),
        "main",
        "acme.test",
        records,
        make_payload(records),
        expires_at,
    )


def load(ledger: LedgerUnderTest, batch: str) -> StoredBatch:
    stored = ledger.batches.load(ledger.organization, batch)
    assert stored is not None
    return stored


def adopt(ledger: LedgerUnderTest, batch: str, owner: str) -> StoredBatch:
    stored = ledger.batches.adopt(ledger.organization, batch, owner)
    assert stored is not None
    return stored


@pytest.fixture
def old_batch(ledger: LedgerUnderTest) -> str:
    """A batch of user1 and user2 that was pinned an hour ago."""
    batch = new_id()
    assert pin(ledger, ledger.records(1, 2), batch) == Pinned()
    ledger.make_older(batch, 3600)
    return batch


# The pin


def test_a_pin_stores_the_batch_as_it_is(ledger: LedgerUnderTest) -> None:
    batch, records = new_id(), ledger.records(1) + ledger.records(2, campaign="autumn")
    expires_at = datetime(2030, 1, 2, 3, 4, 5, 678_900, UTC)
    assert pin(ledger, records, batch, expires_at) == Pinned()
    stored = load(ledger, batch)
    assert stored.payload is not None
    assert stored.payload.body == make_payload(records).body
    assert stored.payload.lengths == make_payload(records).lengths
    assert stored.addresses == ["user1@b.test", "user2@b.test"]
    assert (stored.account, stored.sender) == ("main", "acme.test")
    assert stored.campaigns == ("spring", "autumn")
    assert stored.expires_at == datetime(2030, 1, 2, 3, 4, 5, 679_000, UTC)
    assert (stored.result, stored.split_progress) == (None, SplitProgress())
    assert (stored.deferred, stored.unpinned) == (False, False)
    assert 0 <= stored.age_s < 60


def test_a_pinned_address_is_claimed_in_its_campaign_alone(ledger: LedgerUnderTest) -> None:
    batch, records = new_id(), ledger.records(1, 2)
    pin(ledger, records, batch)
    found = ledger.lookup.of(ledger.organization, [*records, *ledger.records(2, first=100)])
    mine = [Claim(batch, item, RecordId("t", 3, item + 1)) for item in range(2)]
    assert found.claims == {0: mine[0], 1: mine[1], 2: mine[1]}
    assert [mine[1].is_of(records[1]), mine[1].is_of(ledger.records(2, first=100)[0])] == [
        True,
        False,
    ]
    other = ledger.records(1, campaign="autumn")
    assert ledger.lookup.of(ledger.organization, other).claims == {}
    assert pin(ledger, other) == Pinned()


def test_a_pin_is_all_or_nothing(ledger: LedgerUnderTest) -> None:
    first, second = new_id(), new_id()
    pin(ledger, ledger.records(5), first)
    ledger.suppress("user6@b.test")
    asked = [*ledger.records(4), *ledger.records(5, first=100), *ledger.records(6)]
    conflict = pin(ledger, asked, second)
    assert conflict == Conflict(frozenset({2}), {1: Claim(first, 0, RecordId("t", 3, 5))})
    assert ledger.lookup.of(ledger.organization, asked[:1]).claims == {}
    assert ledger.batches.load(ledger.organization, second) is None


def test_a_repeated_pin_changes_nothing(ledger: LedgerUnderTest) -> None:
    """As after a lost reply."""
    batch = new_id()
    for number in (1, 2):
        assert pin(ledger, ledger.records(number), batch) == Pinned()
    assert load(ledger, batch).addresses == ["user1@b.test"]
    assert ledger.lookup.of(ledger.organization, ledger.records(2)).claims == {}


def test_a_pin_repeated_after_an_adoption_is_told_so(
    ledger: LedgerUnderTest, old_batch: str
) -> None:
    adopt(ledger, old_batch, "one")
    with pytest.raises(TakenOverError):
        pin(ledger, ledger.records(1, 2), old_batch)


def test_a_retry_takes_over_the_claim_of_the_batch_that_it_names(
    ledger: LedgerUnderTest, old_batch: str
) -> None:
    retries = ledger.records(1, 2, first=100)
    retries[0].replaces, retries[1].replaces = old_batch, new_id()
    assert set(ledger.lookup.of(ledger.organization, retries).claims) == {1}
    conflict = pin(ledger, retries)
    assert isinstance(conflict, Conflict)
    assert set(conflict.claims) == {1}
    batch = new_id()
    assert pin(ledger, retries[:1], batch) == Pinned()
    claims = ledger.lookup.of(ledger.organization, ledger.records(1)).claims
    assert claims == {0: Claim(batch, 0, RecordId("t", 3, 101))}


# The lookup


def test_a_lookup_finds_who_is_suppressed(ledger: LedgerUnderTest) -> None:
    ledger.suppress("user1@b.test", "")
    asked = ledger.records(1, 2, 3)
    asked[2].address = None
    found = ledger.lookup.of(ledger.organization, asked)
    # A record without an address is looked up as if that were empty: others decide about it.
    assert found.suppressed == {0, 2}
    assert found.campaigns == {"spring": CampaignProbe(None, None)}


# Adoption


def test_a_batch_ages_across_adoptions(ledger: LedgerUnderTest, old_batch: str) -> None:
    """Whoever had it before may have sent it."""
    assert adopt(ledger, old_batch, "one").age_s >= 3600
    assert ledger.batches.defer(ledger.organization, old_batch, "one") is False
    assert adopt(ledger, old_batch, "two").age_s >= 3600


def test_the_age_of_a_deferred_batch_restarts_for_one_owner(
    ledger: LedgerUnderTest, old_batch: str
) -> None:
    assert ledger.batches.defer(ledger.organization, old_batch, "")
    assert load(ledger, old_batch).deferred
    for _ in range(2):  # the first reply may be lost
        assert adopt(ledger, old_batch, "one").age_s < 60
    assert not load(ledger, old_batch).deferred
    ledger.make_older(old_batch, 3600)
    # The one may have sent it.
    assert adopt(ledger, old_batch, "two").age_s >= 3600


def test_an_adopted_batch_can_be_deferred_again_if_it_was_deferred_before(
    ledger: LedgerUnderTest, old_batch: str
) -> None:
    assert ledger.batches.defer(ledger.organization, old_batch, "")
    adopt(ledger, old_batch, "one")
    assert ledger.batches.defer(ledger.organization, old_batch, "") is False  # too late
    assert ledger.batches.defer(ledger.organization, old_batch, "one")


def test_an_adopted_batch_comes_with_what_its_owners_learned(
    ledger: LedgerUnderTest, old_batch: str
) -> None:
    progress = SplitProgress({"", ".1"}, {".0": [ItemResult.sent("x")]}, 3, {".1.0"})
    ledger.batches.own(ledger.organization, old_batch, "", progress)
    progress.rejected.add(".0.0")  # what is not saved is not known
    assert load(ledger, old_batch).split_progress == PROGRESS
    adopted = adopt(ledger, old_batch, "one")
    assert adopted.split_progress == PROGRESS
    assert adopted.payload is not None
    assert adopted.payload.body == make_payload(ledger.records(1, 2)).body
    assert (adopted.account, adopted.sender) == ("main", "acme.test")


def test_only_the_owner_learns_and_resolves(ledger: LedgerUnderTest, old_batch: str) -> None:
    batches, organization = ledger.batches, ledger.organization
    batches.own(organization, old_batch, "")
    adopt(ledger, old_batch, "one")
    for progress in (None, PROGRESS):
        with pytest.raises(TakenOverError):
            batches.own(organization, old_batch, "", progress)
    assert load(ledger, old_batch).split_progress == SplitProgress()
    with pytest.raises(TakenOverError):
        batches.resolve(organization, old_batch, "", RESULT)
    batches.own(organization, old_batch, "one", PROGRESS)
    assert batches.resolve(organization, old_batch, "one", RESULT) == RESULT


# The result


def test_the_first_result_counts(ledger: LedgerUnderTest, old_batch: str) -> None:
    batches, organization = ledger.batches, ledger.organization
    assert batches.resolve(organization, old_batch, "", RESULT) == RESULT
    late = BatchResult(1, [ItemResult("window_closed", None)] * 2)
    for owner in ("", "one"):
        assert batches.resolve(organization, old_batch, owner, late) == RESULT
    stored = load(ledger, old_batch)
    assert (stored.payload, stored.result, stored.campaigns) == (None, RESULT, ())
    assert stored.split_progress == SplitProgress()


def test_a_resolved_batch_has_nothing_to_send(ledger: LedgerUnderTest, old_batch: str) -> None:
    batches, organization = ledger.batches, ledger.organization
    batches.resolve(organization, old_batch, "", RESULT)
    with pytest.raises(TakenOverError):
        batches.own(organization, old_batch, "")
    assert batches.defer(organization, old_batch, "") is False
    adopted = adopt(ledger, old_batch, "one")
    assert (adopted.payload, adopted.result) == (None, RESULT)


def test_a_batch_that_is_not_there(ledger: LedgerUnderTest) -> None:
    batches, organization, batch = ledger.batches, ledger.organization, new_id()
    assert batches.load(organization, batch) is None
    assert batches.adopt(organization, batch, "one") is None
    assert batches.resolve(organization, batch, "", RESULT) is None
    assert batches.defer(organization, batch, "") is False
    with pytest.raises(TakenOverError):
        batches.own(organization, batch, "")
    assert batches.load(organization, batch) is None  # none of these made it


# Undoing a pin


def test_the_members_of_a_deferred_batch_can_be_decided_anew(ledger: LedgerUnderTest) -> None:
    batches, organization, batch = ledger.batches, ledger.organization, new_id()
    records = ledger.records(1) + ledger.records(2, campaign="autumn")
    pin(ledger, records, batch)
    assert not batches.unpin(organization, batch, load(ledger, batch))  # it is being sent
    assert batches.defer(organization, batch, "")
    stored = load(ledger, batch)
    for _ in range(2):  # the first reply may be lost
        assert batches.unpin(organization, batch, stored)
    gone = load(ledger, batch)
    assert (gone.unpinned, gone.payload, gone.result) == (True, None, None)
    assert batches.adopt(organization, batch, "one") is None
    assert ledger.lookup.of(organization, records).claims == {}
    assert pin(ledger, records) == Pinned()


def test_undoing_a_pin_leaves_the_claims_of_others(ledger: LedgerUnderTest, old_batch: str) -> None:
    batches, organization, other = ledger.batches, ledger.organization, new_id()
    retry = ledger.records(1, first=100)
    retry[0].replaces = old_batch
    assert pin(ledger, retry, other) == Pinned()
    assert batches.defer(organization, old_batch, "")
    assert batches.unpin(organization, old_batch, load(ledger, old_batch))
    claims = ledger.lookup.of(organization, ledger.records(1, 2)).claims
    assert claims == {0: Claim(other, 0, RecordId("t", 3, 101))}


# A ledger that lost its data


def test_a_ledger_that_lost_an_organization_answers_nothing_about_it(
    ledger: LedgerUnderTest, old_batch: str
) -> None:
    ledger.lose()
    batches, organization = ledger.batches, ledger.organization
    for call in (
        lambda: pin(ledger, ledger.records(7)),
        lambda: ledger.lookup.of(organization, ledger.records(7)),
        lambda: batches.load(organization, old_batch),
        lambda: batches.adopt(organization, old_batch, "one"),
        lambda: batches.own(organization, old_batch, ""),
        lambda: batches.defer(organization, old_batch, ""),
        lambda: batches.resolve(organization, old_batch, "", RESULT),
    ):
        with pytest.raises(LedgerLostError):
            call()
