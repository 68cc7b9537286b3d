"""The ledger in memory answers whatever is asked of it as the one in Redis does."""

import secrets
from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from streamer.ledger.claims import StoredBatch, TakenOverError
from streamer.ledger.connection import Client
from streamer.model.record import Record
from streamer.model.result import BatchResult, ItemResult, SplitProgress
from tests.contracts.ledgers import LedgerInMemory, LedgerInRedis, LedgerUnderTest, make_payload

NUMBERS = st.integers(0, 4)
CAMPAIGNS = st.sampled_from(["spring", "autumn"])
OWNERS = st.sampled_from(["", "one", "two"])
BATCHES = [secrets.token_hex(12) for _ in range(4)]
BATCH = st.sampled_from(BATCHES)
PROGRESSES = st.builds(
    SplitProgress,
    st.sets(st.sampled_from(["", ".0", ".1"])),
    st.dictionaries(st.sampled_from([".0", ".1.0"]), st.just([ItemResult.sent("x")])),
    st.integers(0, 5),
    st.sets(st.sampled_from([".0", ".1"])),
)
Answer = Callable[[LedgerUnderTest], object]


class LedgersAlike(RuleBasedStateMachine):
    """Asks both the same, in any order."""

    client: ClassVar[Client]

    def __init__(self) -> None:
        super().__init__()
        self._memory, self._redis = LedgerInMemory(), LedgerInRedis(self.client)
        self._offset = 0

    @initialize()
    def share_an_organization(self) -> None:
        self._memory.organization = self._redis.organization

    @rule(
        batch=BATCH,
        members=st.lists(st.tuples(NUMBERS, CAMPAIGNS), min_size=1, max_size=3, unique=True),
        replaces=st.none() | BATCH,
    )
    def pin(self, batch: str, members: list[tuple[int, str]], replaces: str | None) -> None:
        records = self._records(members, replaces)
        self._ask(
            lambda ledger: ledger.batches.pin(
                ledger.organization,
                batch,
                "main",
                "acme.test",
                records,
                make_payload(records),
            )
        )

    @rule(
        members=st.lists(st.tuples(NUMBERS, CAMPAIGNS), min_size=1, max_size=5),
        replaces=st.none() | BATCH,
    )
    def look_up(self, members: list[tuple[int, str]], replaces: str | None) -> None:
        records = self._records(members, replaces)
        self._ask(lambda ledger: ledger.lookup.of(ledger.organization, records))

    @rule(number=NUMBERS)
    def suppress(self, number: int) -> None:
        self._ask(lambda ledger: ledger.suppress(f"user{number}@b.test"))

    @rule(batch=BATCH)
    def load(self, batch: str) -> None:
        self._ask(lambda ledger: _shown(ledger.batches.load(ledger.organization, batch)))

    @rule(batch=BATCH, owner=OWNERS)
    def adopt(self, batch: str, owner: str) -> None:
        self._ask(lambda ledger: _shown(ledger.batches.adopt(ledger.organization, batch, owner)))

    @rule(batch=BATCH, owner=OWNERS, progress=st.none() | PROGRESSES)
    def own(self, batch: str, owner: str, progress: SplitProgress | None) -> None:
        self._ask(lambda ledger: ledger.batches.own(ledger.organization, batch, owner, progress))

    @rule(batch=BATCH, owner=OWNERS)
    def defer(self, batch: str, owner: str) -> None:
        self._ask(lambda ledger: ledger.batches.defer(ledger.organization, batch, owner))

    @rule(batch=BATCH)
    def unpin(self, batch: str) -> None:
        def ask(ledger: LedgerUnderTest) -> object:
            stored = ledger.batches.load(ledger.organization, batch)
            if stored is None or stored.payload is None:
                return None
            return ledger.batches.unpin(ledger.organization, batch, stored)

        self._ask(ask)

    @rule(batch=BATCH, owner=OWNERS, attempts=st.integers(1, 3))
    def resolve(self, batch: str, owner: str, attempts: int) -> None:
        result = BatchResult(attempts, [ItemResult.sent("id-0")])
        self._ask(lambda ledger: ledger.batches.resolve(ledger.organization, batch, owner, result))

    @rule()
    def make_older(self) -> None:
        self._memory.make_older(BATCHES[0], 3600)
        for batch in BATCHES:
            self._redis.make_older(batch, 3600)

    def _records(self, members: list[tuple[int, str]], replaces: str | None) -> list[Record]:
        self._offset += 10
        records = [
            self._redis.records(number, campaign=campaign, first=self._offset)[0]
            for number, campaign in members
        ]
        records[0].replaces = replaces or ""
        return records

    def _ask(self, question: Answer) -> None:
        answers = [_answer(question, ledger) for ledger in (self._memory, self._redis)]
        assert answers[0] == answers[1]


def _answer(question: Answer, ledger: LedgerUnderTest) -> object:
    try:
        return question(ledger)
    except TakenOverError:
        return TakenOverError


def _shown(stored: StoredBatch | None) -> object:
    """What is the same of a batch wherever it is: its age only in hours."""
    if stored is None:
        return None
    payload = None if stored.payload is None else (stored.payload.body, stored.payload.lengths)
    return (
        payload,
        stored.result,
        stored.account,
        stored.sender,
        round(stored.age_s / 3600),
        stored.split_progress,
        stored.deferred,
        stored.unpinned,
        stored.campaigns,
        stored.expires_at,
    )


@pytest.mark.real
def test_memory_and_redis_answer_alike(redis: Client) -> None:
    LedgersAlike.client = redis
    run_state_machine_as_test(
        LedgersAlike, settings=settings(max_examples=60, stateful_step_count=40)
    )
