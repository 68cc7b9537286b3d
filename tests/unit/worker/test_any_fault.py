"""Whatever fails, and whoever dies when: nobody is mailed twice, and nobody is lost.

Records are delivered by one worker after another, and by two at once, while calls to Redis and
Resend fail in every way, and workers die before, during and after any of them.
"""

from collections.abc import Callable
from contextlib import suppress
from enum import Enum, auto
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from redis import exceptions

from streamer.ledger.holds import By
from streamer.model.reasons import Reason, Status
from streamer.model.record import Outcome, Record
from streamer.provider.client import ApiResponse
from streamer.worker.waiter import StoppedError
from tests.kit.fakes.clock import FakeClock
from tests.kit.fakes.faults import CallFaults
from tests.kit.fakes.resend import (
    NO_ANSWER,
    Accepts,
    FakeResend,
    ReceivedCall,
    Reply,
    error,
    page,
)
from tests.kit.fakes.sending import ACCOUNT, ORGANIZATION, SendingWorker, Services, make_record
from tests.kit.properties import examples

RECORDS = 8
ADDRESSES = 6
REJECTED = error(422, "validation_error", "Invalid `to` field.")
BROKEN = error(500, "application_error", "It broke.")
UNKNOWN = error(422, "something_new", "Not with this one.")
TIMEOUT_S = 30.0


class Fault(Enum):
    """What befalls a call."""

    NONE = auto()
    NOT_REACHED = auto()
    REPLY_LOST = auto()
    DIES_BEFORE = auto()
    DIES_AFTER = auto()
    ANOTHER_WORKER = auto()
    """Meanwhile another worker delivers the same records."""
    STANDS_STILL = auto()
    """For longer than a worker is sure of its batches."""


FAULTS = st.lists(st.sampled_from([Fault.NONE] * 6 + list(Fault)), max_size=60)
CALLS = st.lists(st.sampled_from([Fault.NONE] * 2 + list(Fault)), max_size=10)
ANSWERS = st.lists(
    st.sampled_from(
        [
            None,
            BROKEN,
            NO_ANSWER,
            Accepts(),
            Accepts(BROKEN),
            Accepts(ApiResponse(200, "", "", {"data": "?"}, {})),
            page(403),
            error(429, "rate_limit_exceeded", "Slow down."),
            error(429, "rate_limit_exceeded", "Slow down.", retry_after="120"),
            error(429, "monthly_quota_exceeded", "Quota."),
            error(403, "validation_error", "The acme.test domain is not verified."),
            error(503, "service_unavailable", "Later.", retry_after="120"),
        ]
    ),
    max_size=20,
)


class DiedError(Exception):
    """The worker is dead: nothing of what it did next has happened."""


class Refusal(NamedTuple):
    """Batches with some addresses are refused, up to some call.

    Attributes:
        reply: the answer to them.
        calls: after how many calls it is over.
    """

    addresses: frozenset[str]
    reply: ApiResponse
    calls: int


REFUSALS = st.builds(
    Refusal,
    st.frozensets(st.sampled_from([f"user{n}@b.test" for n in range(ADDRESSES)]), max_size=3),
    st.sampled_from([REJECTED, UNKNOWN]),
    st.sampled_from([3, 6, 12, 10_000]),
)


class UnreliableResend(FakeResend):
    """Of some calls the caller dies; the request may still be on its way then, for a time-out.

    What it has accepted under a key it does not reject under that key; trouble with the account,
    or what nobody knows, may come before it looks at the key.

    Attributes:
        while_still: called while a caller stands still, right before its call leaves.
    """

    def __init__(
        self, clock: FakeClock, answers: list[Reply | None], calls: list[Fault], refusal: Refusal
    ) -> None:
        super().__init__(clock)
        self._script, self._faults, self._refusal = answers, calls, refusal
        self.decide = self._next_answer
        self.while_still: Callable[[], None] = lambda: None

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse:
        fault = self._faults.pop() if self._faults else Fault.NONE
        if fault is Fault.STANDS_STILL:
            self._clock.advance(6.0)
            self.while_still()
        if fault is Fault.DIES_BEFORE and may_send():
            send = super().send_batch
            self._clock.after(TIMEOUT_S, lambda: send(key, idempotency_key, body, lambda: True))
            raise DiedError
        response = super().send_batch(key, idempotency_key, body, may_send)
        if fault is Fault.DIES_AFTER:
            raise DiedError
        return NO_ANSWER if fault is Fault.REPLY_LOST and not response.withheld else response

    def _next_answer(self, call: ReceivedCall) -> Reply | None:
        is_known = (call.api_key, call.batch_id + call.suffix) in self._remembered
        may_be_refused = self._refusal.reply is UNKNOWN or not is_known
        is_refused = self._refusal.addresses.intersection(call.addresses)
        if may_be_refused and is_refused and len(self.calls) <= self._refusal.calls:
            return self._refusal.reply
        return self._script.pop() if self._script else None


class Storm:
    """Some records, and all that befalls their deliveries."""

    def __init__(
        self,
        faults: list[Fault],
        calls: list[Fault],
        answers: list[Reply | None],
        refusal: Refusal,
    ) -> None:
        self.services = Services()
        resend = UnreliableResend(self.services.clock, answers, calls, refusal)
        resend.while_still = self._meanwhile
        self.services.resend = resend
        self.committed: dict[int, Outcome] = {}
        self._faults = faults
        self._depth = 0
        for server in (self.services.ledger.faults, self.services.accounts.faults):
            self._inject(server)

    def deliver(self, numbers: list[int], *, dies_at_the_end: bool = False) -> None:
        """Let a new worker deliver records that have no outcome yet, and commit the outcomes."""
        given = {n: _record(n) for n in numbers if n not in self.committed}
        if not given:
            return
        worker = SendingWorker(self.services, give_up_s=60.0, timeout_s=TIMEOUT_S)
        # The one inside another has faults already.
        with suppress(exceptions.ConnectionError, exceptions.TimeoutError):
            worker.account_states.refresh()
        self._depth += 1
        try:
            worker.deliver(*given.values())
        except (DiedError, StoppedError):
            return
        finally:
            self._depth -= 1
        if not dies_at_the_end:
            self._commit(given)

    def calm(self) -> None:
        """Nothing fails any more."""
        self._faults.clear()
        while len(self.committed) < RECORDS:
            assert self.services.clock.monotonic() < 1e6, "somebody is lost"
            for domain in self.services.holds.read([ACCOUNT])[ACCOUNT].holds:
                self.services.holds.release(ACCOUNT, domain, By.OPERATOR)
            self.deliver(list(range(RECORDS)))
            self.services.clock.advance(30.0)

    def _meanwhile(self) -> None:
        """Let another worker deliver the same records."""
        if self._depth == 1:
            self.deliver(list(range(RECORDS)))

    def _commit(self, given: dict[int, Record]) -> None:
        for number, record in given.items():
            if isinstance(record.resolution, Outcome):
                self.committed.setdefault(number, record.resolution)

    def _inject(self, server: CallFaults) -> None:
        after: list[Fault] = []

        def before_call(name: str) -> None:
            fault = self._faults.pop() if self._faults and self._depth else Fault.NONE
            match fault:
                case Fault.NOT_REACHED:
                    raise exceptions.ConnectionError
                case Fault.DIES_BEFORE:
                    raise DiedError
                case Fault.STANDS_STILL:
                    self.services.clock.advance(6.0)
                case Fault.ANOTHER_WORKER:
                    self._meanwhile()
                case Fault.REPLY_LOST | Fault.DIES_AFTER:
                    after.append(fault)

        def after_call(name: str) -> None:
            match after.pop() if after else Fault.NONE:
                case Fault.REPLY_LOST:
                    raise exceptions.TimeoutError
                case Fault.DIES_AFTER:
                    raise DiedError

        server.before, server.after = before_call, after_call


def _record(number: int) -> Record:
    return make_record(number, f"user{number % ADDRESSES}@b.test")


@settings(max_examples=examples(300))
@given(
    faults=FAULTS,
    calls=CALLS,
    answers=ANSWERS,
    refusal=REFUSALS,
    deliveries=st.lists(
        st.tuples(st.sets(st.integers(0, RECORDS - 1), min_size=1), st.booleans()), max_size=5
    ),
    suppressed=st.sets(st.integers(0, ADDRESSES - 1), max_size=2),
)
def test_nobody_is_mailed_twice_and_nobody_is_lost(
    faults: list[Fault],
    calls: list[Fault],
    answers: list[Reply | None],
    refusal: Refusal,
    deliveries: list[tuple[set[int], bool]],
    suppressed: set[int],
) -> None:
    storm = Storm(faults, calls, answers, refusal)
    unwanted = {f"user{number}@b.test" for number in suppressed}
    storm.services.ledger.suppress(ORGANIZATION, *unwanted)
    for numbers, dies_at_the_end in deliveries:
        storm.deliver(sorted(numbers), dies_at_the_end=dies_at_the_end)
    storm.calm()
    mailed = storm.services.resend.ids()  # nobody twice
    assert not unwanted & mailed.keys()
    sent: dict[str, str | None] = {}
    told: dict[str, set[str | None]] = {}
    for number, outcome in storm.committed.items():
        address = _record(number).required_address
        if outcome.status is Status.SENT:
            assert address not in sent
            sent[address] = outcome.email_id
        told.setdefault(address, set()).add(outcome.reason)
    for address, reasons in told.items():
        reasons = reasons - {Reason.DUPLICATE}
        if address in sent:
            assert (sent[address], reasons) == (mailed[address], {None})
        elif address in unwanted:
            assert reasons == {Reason.SUPPRESSED}
        else:
            # Whoever was mailed without being told so is said to be unknown.
            (reason,) = reasons
            if address in mailed or address not in refusal.addresses:
                assert reason in (Reason.PROVIDER_ERROR, Reason.WINDOW_CLOSED)
            else:
                assert reason in (Reason.REJECTED, Reason.PROVIDER_ERROR, Reason.WINDOW_CLOSED)
