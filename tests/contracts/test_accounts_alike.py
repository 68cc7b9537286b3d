"""Limits and holds in memory answer whatever is asked of them as those in Redis do."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from streamer.ledger.connection import Client
from streamer.ledger.holds import BatchRef, By, Hold
from streamer.ledger.limiter import Slot, SlotUnavailable, Successes
from tests.contracts.account_ledgers import (
    AccountsInMemory,
    AccountsInRedis,
    AccountsUnderTest,
)

FAST = 1000.0
LONG_S = 10.0
"""Longer than any pause of the circuit: what was to come is past, however slow the machine is."""
START = datetime(2030, 1, 1, tzinfo=UTC)
REFS = st.sampled_from([BatchRef("acme", f"{number}" * 24) for number in range(3)])
DOMAINS = st.sampled_from([None, "one.test", "two.test"])
SENDERS = st.sampled_from(["one.test", "two.test"])
HOLDS = st.builds(
    lambda by, reason, second: Hold(
        by=by, reason=reason, detail="", since=START + timedelta(seconds=second)
    ),
    st.sampled_from(By),
    st.sampled_from(["quota", "key"]),
    st.integers(0, 2),
)
Question = Callable[[AccountsUnderTest], object]


class AccountsAlike(RuleBasedStateMachine):
    """Asks both the same, in any order."""

    client: ClassVar[Client]

    def __init__(self) -> None:
        super().__init__()
        self._memory, self._redis = AccountsInMemory(), AccountsInRedis(self.client)
        self._memory.account = self._redis.account

    @rule(sender=SENDERS, ignore_hold=st.booleans())
    def take(self, sender: str, ignore_hold: bool) -> None:
        self._ask(lambda a: _shown(a.limiter.take(a.account, FAST, sender, ignore_hold)))

    @rule(batch=st.sampled_from("ab"), call=st.integers(0, 5))
    def fail(self, batch: str, call: int) -> None:
        def ask(a: AccountsUnderTest) -> object:
            health = a.limiter.record_failure(a.account, batch, str(call))
            return health.failures, health.successes, health.others_failing

        self._ask(ask)

    @rule(
        worker=st.sampled_from("vw"),
        told=st.integers(0, 3),
        more=st.integers(0, 3),
        after_failures=st.booleans(),
    )
    def succeed(self, worker: str, told: int, more: int, after_failures: bool) -> None:
        successes = Successes(worker, told, told + more)
        self._ask(
            lambda a: a.limiter.record_success(a.account, successes, after_failures=after_failures)
        )
        self._ask(lambda a: a.limiter.successes(a.account))

    @rule()
    def pause(self) -> None:
        self._ask(lambda a: a.limiter.pause(a.account, 2.5 * LONG_S))

    @rule(limit=st.integers(1, 9))
    def advertise(self, limit: int) -> None:
        self._ask(lambda a: a.limiter.set_advertised_limit(a.account, limit))

    @rule(domain=DOMAINS, hold=HOLDS, batch=st.none() | REFS, sender=SENDERS)
    def put(self, domain: str | None, hold: Hold, batch: BatchRef | None, sender: str) -> None:
        self._ask(lambda a: a.holds.put(a.account, domain, hold, LONG_S / 2, batch, sender))

    @rule(domain=DOMAINS)
    def is_due(self, domain: str | None) -> None:
        self._ask(lambda a: a.holds.due(a.account, domain, LONG_S / 2))

    @rule(domain=DOMAINS, by=st.sampled_from(By), meant=st.none() | HOLDS)
    def release(self, domain: str | None, by: By, meant: Hold | None) -> None:
        self._ask(lambda a: a.holds.release(a.account, domain, by, meant))

    @rule(domain=DOMAINS, batch=REFS)
    def forget(self, domain: str | None, batch: BatchRef) -> None:
        self._ask(lambda a: a.holds.forget(a.account, domain, batch))

    @rule(domain=DOMAINS)
    def next_batch(self, domain: str | None) -> None:
        self._ask(lambda a: a.holds.next_batch(a.account, domain))

    @rule()
    def read(self) -> None:
        self._ask(lambda a: a.holds.read([a.account]))
        fields = (None, "one.test", "two.test")
        self._ask(lambda a: [a.holds.tests(a.account, each).batches for each in fields])

    @rule()
    def advance(self) -> None:
        for accounts in (self._memory, self._redis):
            accounts.advance(LONG_S)

    def _ask(self, question: Question) -> None:
        answers = [question(accounts) for accounts in (self._memory, self._redis)]
        assert answers[0] == answers[1]


def _shown(slot: object) -> object:
    """A slot without its time, which differs by how long Redis took."""
    if isinstance(slot, Slot):
        return slot.failures, slot.successes
    return SlotUnavailable if isinstance(slot, SlotUnavailable) else slot


@pytest.mark.real
def test_memory_and_redis_answer_alike(redis: Client) -> None:
    AccountsAlike.client = redis
    run_state_machine_as_test(
        AccountsAlike, settings=settings(max_examples=60, stateful_step_count=40)
    )
