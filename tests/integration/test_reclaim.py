"""Claims of a ledger that forgot them are written again: each kind of record over each claim."""

import secrets

import pytest

from streamer.ledger import claim_reader, keys
from streamer.ledger.claims import Claims
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.reclaim import Change, Fate, KnownRecord, Reclaimer
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.model.result import BatchResult, ItemResult

_TOPIC, _CAMPAIGN = "t", "c"
_ADDRESS = "ann@example.com"
_MINE, _OTHERS = RecordId(_TOPIC, 3, 70_000), RecordId(_TOPIC, 0, 1)
_SENT = BatchResult(1, [ItemResult("sent", "x")])


class ReclaimBench:
    """An organization of its own, whose claims a test prepares."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.epoch = Epoch.establish(client, ())
        self.organization = f"org-{secrets.token_hex(4)}"
        self.claims = Claims(client, self.epoch, 90_000)
        self.reclaimer = Reclaimer(client, self.epoch, 90_000)

    def pin(self, record_id: RecordId, *, resolved: bool) -> str:
        """Let a record have the claim on the address; return its batch."""
        record = Record(record_id, None, None, None, 0.0)
        record.address, record.campaign_id = _ADDRESS, _CAMPAIGN
        batch = secrets.token_hex(12)
        self.claims.pin(self.organization, batch, "a", "d.test", [record], Payload([b"{}"]))
        if resolved:
            self.claims.resolve(self.organization, batch, "", _SENT)
        return batch

    def reclaim(self, fate: Fate, batch: str | None = None, replaces: str = "") -> Change:
        """Claim this record again, twice: the second time must change nothing more."""
        member = KnownRecord(
            fate, _CAMPAIGN, _ADDRESS, batch or secrets.token_hex(12), _MINE, replaces
        )
        (change,) = self.reclaimer.reclaim(self.organization, [member])
        before = self.holder()
        (again,) = self.reclaimer.reclaim(self.organization, [member])
        assert self.holder() == before
        assert again is (change if change is Change.LOST else Change.KEPT)
        return change

    def holder(self) -> tuple[RecordId, str] | None:
        """The record that has the claim, and its batch."""
        found = claim_reader.find(self.client, self.organization, _CAMPAIGN, _ADDRESS)
        return None if found is None else (found.claim.record_id, found.claim.batch_id)

    def exists(self, batch: str) -> bool:
        """Whether the ledger has the batch."""
        return self.claims.load(self.organization, batch) is not None


@pytest.fixture
def bench(client: Client) -> ReclaimBench:
    return ReclaimBench(client)


@pytest.mark.parametrize(
    ("fate", "change"),
    [
        (Fate.SENT, Change.CLAIMED),
        (Fate.DECIDED, Change.CLAIMED),
        (Fate.UNKNOWN, Change.LOST),
        (Fate.SKIPPED, Change.KEPT),
    ],
)
def test_an_address_without_a_claim(bench: ReclaimBench, fate: Fate, change: Change) -> None:
    batch = secrets.token_hex(12)
    assert bench.reclaim(fate, batch) is change
    assert bench.holder() == (None if fate is Fate.SKIPPED else (_MINE, batch))
    assert not bench.exists(batch)


@pytest.mark.parametrize("fate", [Fate.SENT, Fate.DECIDED])
def test_the_claim_of_an_outcome_of_the_same_batch_stays(bench: ReclaimBench, fate: Fate) -> None:
    for resolved in (True, False):
        batch = bench.pin(_MINE, resolved=resolved) if resolved else bench.holder()[1]  # type: ignore[index]  # there is one
        assert bench.reclaim(fate, batch) is Change.KEPT
        assert bench.holder() == (_MINE, batch)
        assert bench.exists(batch)


@pytest.mark.parametrize("fate", [Fate.SENT, Fate.DECIDED, Fate.UNKNOWN, Fate.SKIPPED])
def test_a_batch_without_a_result_is_never_sent_again(bench: ReclaimBench, fate: Fate) -> None:
    batch = bench.pin(_MINE, resolved=False)
    change = bench.reclaim(fate, batch)
    assert not bench.exists(batch)
    expected = {Fate.UNKNOWN: Change.LOST, Fate.SKIPPED: Change.REMOVED}
    assert change is expected.get(fate, Change.KEPT)
    assert bench.holder() == (None if fate is Fate.SKIPPED else (_MINE, batch))


@pytest.mark.parametrize("fate", [Fate.UNKNOWN, Fate.SKIPPED])
def test_a_batch_with_a_result_keeps_it(bench: ReclaimBench, fate: Fate) -> None:
    batch = bench.pin(_MINE, resolved=True)
    assert bench.reclaim(fate) is Change.KEPT
    assert bench.holder() == (_MINE, batch)
    assert bench.exists(batch)


@pytest.mark.parametrize("fate", [Fate.SENT, Fate.DECIDED])
def test_a_record_that_was_pinned_anew_gets_the_later_batch(
    bench: ReclaimBench, fate: Fate
) -> None:
    before, batch = bench.pin(_MINE, resolved=False), secrets.token_hex(12)
    assert bench.reclaim(fate, batch) is Change.CLAIMED
    assert bench.holder() == (_MINE, batch)
    assert not bench.exists(before)


@pytest.mark.parametrize("resolved", [True, False])
@pytest.mark.parametrize("fate", list(Fate))
def test_an_address_that_another_record_has(
    bench: ReclaimBench, fate: Fate, resolved: bool
) -> None:
    before, batch = bench.pin(_OTHERS, resolved=resolved), secrets.token_hex(12)
    change = bench.reclaim(fate, batch)
    takes = fate is Fate.SENT or (fate is Fate.DECIDED and resolved)
    assert change is (Change.CLAIMED if takes else Change.KEPT)
    assert bench.holder() == ((_MINE, batch) if takes else (_OTHERS, before))
    # What was sent since must not be sent again with an older batch.
    assert bench.exists(before) == (resolved or fate is not Fate.SENT)


def test_a_retry_in_flight_takes_over_the_claim_that_it_may(bench: ReclaimBench) -> None:
    before = bench.pin(_OTHERS, resolved=True)
    assert bench.reclaim(Fate.UNKNOWN, replaces=secrets.token_hex(12)) is Change.KEPT
    batch = secrets.token_hex(12)
    assert bench.reclaim(Fate.UNKNOWN, batch, replaces=before) is Change.LOST
    assert bench.holder() == (_MINE, batch)


def test_many_claims_are_found_by_workers_and_stay_compact(bench: ReclaimBench) -> None:
    count = 3_000
    members = [
        KnownRecord(
            Fate.SENT,
            _CAMPAIGN,
            f"u{n}@example.com",
            f"{n // 100:024x}",
            RecordId(_TOPIC, n % 7, n),
        )
        for n in range(count)
    ]
    for start in range(0, count, 100):
        assert set(bench.reclaimer.reclaim(bench.organization, members[start : start + 100])) == {
            Change.CLAIMED
        }
    for member in members:
        found = claim_reader.find(bench.client, bench.organization, _CAMPAIGN, member.address)
        assert found is not None
        assert found.claim.record_id == member.record_id
        assert found.claim.batch_id == member.batch_id
    head = keys.claims(bench.organization, _CAMPAIGN)
    sizes = [bench.client.hlen(key) for key in bench.client.scan_iter(f"{head}/*")]
    assert sum(sizes) == count
    assert max(sizes) < 3 * 64
    lives = [bench.client.ttl(key) for key in bench.client.scan_iter(f"{head}/*")]
    assert all(90_000 < life <= bench.client.ttl(head) <= 90_000 + 2 * 3_600 for life in lives)


def test_what_is_claimed_again_never_shortens_the_life_of_claims(bench: ReclaimBench) -> None:
    bench.pin(_OTHERS, resolved=True)
    head = keys.claims(bench.organization, _CAMPAIGN)
    for key in (head, f"{head}/0"):  # by a worker with other settings
        bench.client.expire(key, 900_000)
    assert bench.reclaim(Fate.SENT) is Change.CLAIMED
    assert all(bench.client.ttl(key) > 800_000 for key in (head, f"{head}/0"))


def test_a_slot_that_lost_its_epoch_gets_it_back(bench: ReclaimBench) -> None:
    bench.pin(_OTHERS, resolved=True)
    slot = keys.organization_epoch(bench.organization)
    bench.client.delete(slot, keys.claims(bench.organization, _CAMPAIGN))
    with pytest.raises(LedgerLostError):
        bench.claims.load(bench.organization, "ab" * 12)
    bench.reclaim(Fate.SENT)
    assert bench.claims.load(bench.organization, "ab" * 12) is None
    bench.client.set(slot, "another")
    with pytest.raises(LedgerLostError):
        bench.reclaim(Fate.SENT)
