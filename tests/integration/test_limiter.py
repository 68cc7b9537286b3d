"""An account's slots and its circuit, shared by all workers: the scripts on the real Redis."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from redis import exceptions

from streamer.flow.failure_stats import OUTAGE_FAILURES, AccountHealth, circuit_pause_s
from streamer.ledger import keys
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.holds import BatchRef, By, Hold, Holds, PlacedHold, ProbeTurn
from streamer.ledger.limiter import Held, Limiter, Slot, SlotUnavailable, Successes
from streamer.provider.accounts import Accounts
from streamer.settings import AccountSettings
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer, Stack
from streamer.worker.account_states import AccountStateCache
from streamer.worker.slots import Slots
from streamer.worker.waiter import Waiter

FAST = 1000.0


@pytest.fixture
def other_client(stack: Stack) -> Iterator[Client]:
    one = connect(RedisSettings(url=stack.redis_url))
    yield one
    one.close()


@pytest.fixture
def limiter(client: Client) -> Limiter:
    return Limiter(client, Epoch.establish(client, ()))


@pytest.fixture
def other(other_client: Client) -> Limiter:
    """Another worker's."""
    return Limiter(other_client, Epoch.establish(other_client, ()))


@pytest.fixture
def account() -> str:
    return f"account-{secrets.token_hex(4)}"


def _hold(by: By = By.ANSWER) -> Hold:
    return Hold(by=by, reason="a test", detail="", since=datetime.now(UTC))


def _pause_s(client: Client, account: str) -> float:
    """The pause that the scripts keep for the account now; 0 where there is none."""
    value = client.hget(keys.account_health(account), "pause")
    return int(value) / 1_000_000 if isinstance(value, bytes) else 0.0


def _fail(limiter: Limiter, account: str) -> AccountHealth:
    return limiter.record_failure(account, "b", secrets.token_hex(8))


def _succeed(limiter: Limiter, account: str) -> None:
    """A call of a worker's gets through, the first that it makes."""
    limiter.record_success(account, Successes(secrets.token_hex(8), 0, 1), after_failures=True)


def _open(limiter: Limiter, account: str) -> None:
    """Open the circuit for longer than a slow machine takes for a few commands."""
    for _ in range(OUTAGE_FAILURES + 10):
        _fail(limiter, account)


# The circuit


def test_the_scripts_pauses_match_the_rule(client: Client, limiter: Limiter, account: str) -> None:
    for failures in range(1, 20):
        health = _fail(limiter, account)
        assert health.failures == failures
        assert _pause_s(client, account) == pytest.approx(circuit_pause_s(failures))
    answer = limiter.take(account, FAST)
    assert isinstance(answer, SlotUnavailable)
    assert 0 < answer.wait_s <= circuit_pause_s(19)


def test_the_circuit_is_shared_and_closes_on_success(
    limiter: Limiter, other: Limiter, account: str
) -> None:
    for number in range(1, OUTAGE_FAILURES):
        each = (limiter, other)[number % 2]
        assert isinstance(each.take(account, FAST), Slot)
        assert _fail(each, account).failures == number
    assert isinstance(limiter.take(account, FAST), Slot)
    _open(limiter, account)
    assert isinstance(limiter.take(account, FAST), SlotUnavailable)
    assert isinstance(other.take(account, FAST), SlotUnavailable)
    assert _fail(other, account).failing_s < 60
    _succeed(other, account)
    for each in (limiter, other):
        slot = each.take(account, FAST)
        assert isinstance(slot, Slot)
        assert (slot.failures, slot.successes) == (0, 1)
    assert limiter.successes(account) == 1
    # It counts from one again.
    assert _fail(limiter, account).failures == 1


def test_an_open_circuit_grants_one_slot_per_pause(
    stack: Stack, limiter: Limiter, account: str
) -> None:
    """Of eight workers who ask all the time, one gets a slot when the pause is over."""
    failures = OUTAGE_FAILURES + 1
    for _ in range(failures):
        _fail(limiter, account)
    taken: list[tuple[Slot, int, int]] = []
    over = threading.Event()

    def ask() -> None:
        own = connect(RedisSettings(url=stack.redis_url))
        mine = Limiter(own, Epoch.establish(own, ()))
        while not over.is_set():
            before = _now_us(own)
            answer = mine.take(account, FAST)
            if isinstance(answer, Slot):
                taken.append((answer, before, _now_us(own)))
                if len(taken) >= 2:
                    over.set()
        own.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert over.wait(30)
    for thread in threads:
        thread.join()
    first, second, *_ = sorted(taken, key=lambda each: each[1])
    assert first[0].failures == second[0].failures == failures
    # By Redis' own clock, and from outside: no less than a whole pause lies between them.
    assert second[2] - first[1] >= circuit_pause_s(failures) * 1_000_000


def _now_us(client: Client) -> int:
    seconds, micros = client.time()
    return seconds * 1_000_000 + micros


def test_each_account_has_its_own_circuit(limiter: Limiter, account: str) -> None:
    _open(limiter, account)
    assert isinstance(limiter.take(account, FAST), SlotUnavailable)
    assert isinstance(limiter.take(f"{account}-2", FAST), Slot)


def test_repeated_successes_are_counted_once(limiter: Limiter, account: str) -> None:
    # Of one worker's threads, whose reports cross; and of another's.
    for told, total in [(0, 3), (0, 3), (0, 7), (3, 5), (7, 7)]:
        limiter.record_success(account, Successes("w1", told, total), after_failures=False)
    assert limiter.successes(account) == 7
    limiter.record_success(account, Successes("w2", 0, 2), after_failures=False)
    assert limiter.successes(account) == 9


def test_only_new_successes_are_counted_after_state_expired(
    client: Client, limiter: Limiter, account: str
) -> None:
    limiter.record_success(account, Successes("w1", 0, 7), after_failures=False)
    client.delete(keys.account_told(account))  # as after a day without calls
    limiter.record_success(account, Successes("w1", 7, 8), after_failures=False)
    assert limiter.successes(account) == 8


def test_earlier_calls_do_not_close_the_circuit(limiter: Limiter, account: str) -> None:
    _open(limiter, account)
    limiter.record_success(account, Successes("w1", 0, 1), after_failures=False)
    assert isinstance(limiter.take(account, FAST), SlotUnavailable)
    assert _fail(limiter, account).successes == 1


def test_a_repeated_failure_is_counted_once(
    client: Client, limiter: Limiter, other: Limiter, account: str
) -> None:
    for _ in range(2):
        health = limiter.record_failure(account, "b1", "call 1")
        assert (health.failures, health.others_failing) == (1, 0)
    for _ in range(2):
        assert other.record_failure(account, "b2", "call 1").failures == 2
    for number in range(3, OUTAGE_FAILURES + 1):
        health = limiter.record_failure(account, "b1", f"call {number}")
        assert (health.failures, health.others_failing) == (number, 1)
    probe_at = client.hget(keys.account_health(account), "probe_at")
    assert limiter.record_failure(account, "b1", f"call {number}").failures == OUTAGE_FAILURES
    assert client.hget(keys.account_health(account), "probe_at") == probe_at


class _RepliesLost(Limiter):
    """Of each way to tell of a call, the first reply is lost."""

    def __init__(self, client: Client, epoch: Epoch) -> None:
        super().__init__(client, epoch)
        self._lost: set[str] = set()

    def record_failure(self, account: str, batch_id: str, call: str) -> AccountHealth:
        health = super().record_failure(account, batch_id, call)
        self._lose("failed")
        return health

    def record_success(self, account: str, successes: Successes, *, after_failures: bool) -> None:
        super().record_success(account, successes, after_failures=after_failures)
        self._lose("succeeded")

    def _lose(self, name: str) -> None:
        if name not in self._lost:
            self._lost.add(name)
            raise exceptions.TimeoutError("the reply is lost")


def _slots(client: Client, limiter: Limiter, account: str) -> Slots:
    accounts = Accounts({account: AccountSettings(api_key_env="RESEND_API_KEY")})
    return Slots(
        accounts, limiter, AccountStateCache(Holds(client), limiter, accounts, 30.0), Waiter()
    )


def test_each_call_is_counted_once_despite_lost_replies(client: Client, account: str) -> None:
    limiter = _RepliesLost(client, Epoch.establish(client, ()))
    slots = _slots(client, limiter, account)
    assert slots.record_failure(account, "b", counts=True).failures == 1
    slots.record_success(account, after_failures=True)
    assert limiter.successes(account) == 1
    slots.record_success(account, after_failures=False)
    for _ in range(2):
        slots.tell()
    assert limiter.successes(account) == 2
    assert slots.record_failure(account, "b", counts=False).successes == 2


def test_old_successes_are_not_reported_as_new(
    client: Client, limiter: Limiter, account: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots = _slots(client, limiter, account)
    slots.record_success(account, after_failures=False)
    now = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now + 3600)
        slots.tell()
        assert limiter.successes(account) == 0
        slots.record_success(account, after_failures=False)
        slots.tell()
    assert limiter.successes(account) == 1


# Holds


@pytest.mark.parametrize("by", list(By))
def test_a_held_account_grants_no_slot(
    client: Client, limiter: Limiter, other: Limiter, account: str, by: By
) -> None:
    holds = Holds(client)
    assert holds.put(account, None, _hold(by)).is_new
    for each in (limiter, other):
        assert each.take(account, FAST, "acme.test") == Held(None)
        assert isinstance(each.take(account, FAST, "acme.test", ignore_hold=True), Slot)
    holds.release(account, None, By.OPERATOR)
    assert isinstance(other.take(account, FAST, "acme.test"), Slot)


def test_a_held_domain_blocks_only_its_own_mails(
    client: Client, limiter: Limiter, account: str
) -> None:
    Holds(client).put(account, "new.test", _hold())
    assert limiter.take(account, FAST, "new.test") == Held("new.test")
    assert isinstance(limiter.take(account, FAST, "acme.test"), Slot)


def test_a_denied_permit_takes_no_slot(client: Client, limiter: Limiter, account: str) -> None:
    holds = Holds(client)
    holds.put(account, None, _hold())
    for _ in range(50):
        limiter.take(account, 1.0)
    holds.release(account, None, By.ANSWER)
    slot = limiter.take(account, 1.0)
    assert isinstance(slot, Slot)
    assert slot.wait_s == 0


def test_only_the_operator_releases_an_operator_hold(client: Client, account: str) -> None:
    holds, batch = Holds(client), BatchRef("acme", "ab" * 12)
    holds.put(account, None, _hold(By.OPERATOR))
    assert not holds.put(account, None, _hold(By.ANSWER), 0, batch).is_new
    assert holds.due(account, None, 0) is None
    assert holds.release(account, None, By.ANSWER) is False
    assert holds.read([account])[account].holds[None].by is By.OPERATOR
    assert holds.release(account, None, By.OPERATOR) is True
    assert not holds.read([account])[account].holds


def test_an_operator_hold_replaces_a_responses_hold(client: Client, account: str) -> None:
    holds = Holds(client)
    holds.put(account, None, _hold(By.ANSWER))
    holds.put(account, None, _hold(By.OPERATOR))
    assert holds.release(account, None, By.ANSWER) is False


def test_one_worker_at_a_time_tests_a_hold(client: Client, account: str) -> None:
    holds, long_s = Holds(client), 3600.0
    first, second = (BatchRef("acme", name * 12) for name in ("ab", "cd"))
    hold = _hold()
    for batch in (first, second, first):  # it is tested with each in turn, the last comes last
        holds.put(account, None, hold, long_s, batch)
    for batch in (second, first, second):
        assert holds.due(account, None, long_s) is None
        client.hset(keys.account_probes(account), "*", 0)
        assert holds.due(account, None, long_s) == ProbeTurn(batch)
    holds.put(account, None, _hold(), 0, first)
    assert holds.due(account, None, long_s) is None  # another answer puts no test forward
    tests = holds.tests(account, None)
    assert tests.batches == [second, first]
    assert tests.due is not None
    assert tests.due > datetime.now(UTC)
    holds.forget(account, None, second)
    assert holds.next_batch(account, None) == first
    holds.forget(account, None, first)
    assert holds.next_batch(account, None) is None


def test_repeating_put_after_a_lost_reply_reports_a_new_hold(client: Client, account: str) -> None:
    holds, hold, later = Holds(client), _hold(), _hold()
    assert holds.put(account, None, hold) == PlacedHold(None, True)
    assert holds.put(account, None, hold) == PlacedHold(None, True)
    assert holds.put(account, None, later) == PlacedHold(None, False)
    assert holds.read([account])[account].holds == {None: hold}


def test_a_replaced_hold_is_not_released_by_its_old_test(client: Client, account: str) -> None:
    holds, hold = Holds(client), _hold()
    other = hold.model_copy(update={"reason": "another", "since": datetime.now(UTC)})
    holds.put(account, None, hold)
    assert holds.put(account, None, other) == PlacedHold(None, True)
    assert holds.read([account])[account].holds == {None: other}
    assert not holds.release(account, None, By.ANSWER, hold)
    assert holds.release(account, None, By.ANSWER, other)


def test_after_a_release_the_same_answer_holds_only_the_domain(
    client: Client, account: str
) -> None:
    holds = Holds(client)
    batches = [BatchRef("acme", f"{number}" * 24) for number in range(3)]
    holds.put(account, None, _hold(), 0, batches[0], "bad.test")
    assert holds.release(account, None, By.OPERATOR)
    assert holds.put(account, None, _hold(), 0, batches[1], "bad.test").domain == "bad.test"
    assert holds.tests(account, "bad.test").batches == [batches[1]]
    # Another domain draws it too: so it is the account.
    assert holds.put(account, None, _hold(), 0, batches[2], "good.test").domain is None
    assert holds.put(account, None, _hold(), 0, batches[0], "bad.test").domain is None
    assert set(holds.read([account])[account].holds) == {None, "bad.test"}


# The rate


def test_a_pause_is_shared_and_never_shortened(
    limiter: Limiter, other: Limiter, account: str
) -> None:
    limiter.pause(account, 30.0)
    other.pause(account, 1.0)
    later = other.take(account, FAST)
    assert isinstance(later, SlotUnavailable)
    assert 25 < later.wait_s <= 30


def test_the_limit_from_headers_is_shared(
    client: Client, limiter: Limiter, other: Limiter, account: str
) -> None:
    holds = Holds(client)
    assert holds.read([account])[account].limit is None
    limiter.set_advertised_limit(account, 10)
    assert holds.read([account])[account].limit == 10
    other.set_advertised_limit(account, 2)
    _fail(limiter, account)
    _succeed(limiter, account)  # what closes the circuit leaves the limit
    assert holds.read([account])[account].limit == 2


# What was lost


@pytest.mark.parametrize("lost", ["everything", "the account's slot and the epoch"])
def test_no_slot_is_granted_without_the_epoch(
    make_redis: Callable[[], RedisServer], account: str, lost: str
) -> None:
    client = connect(RedisSettings(url=make_redis().url))
    limiter = Limiter(client, Epoch.establish(client, ()))
    assert isinstance(limiter.take(account, FAST), Slot)
    if lost == "everything":
        client.flushall()
    else:
        client.delete(keys.EPOCH, keys.account_epoch(account))
    with pytest.raises(LedgerLostError):
        limiter.take(account, FAST)
    client.close()


def test_a_new_account_gets_the_epoch(client: Client, limiter: Limiter, account: str) -> None:
    client.delete(keys.account_epoch(account))
    assert isinstance(limiter.take(account, FAST), Slot)
    assert client.get(keys.account_epoch(account)) == client.get(keys.EPOCH)


def test_a_slot_of_another_ledger_is_detected(
    client: Client, limiter: Limiter, account: str
) -> None:
    client.set(keys.account_epoch(account), "another")
    with pytest.raises(LedgerLostError):
        limiter.take(account, FAST)


def test_a_redis_clock_set_back_does_not_stop_calls(
    client: Client, limiter: Limiter, account: str
) -> None:
    assert isinstance(limiter.take(account, 10.0), Slot)
    _fail(limiter, account)
    ahead = round((time.time() + 7200) * 1_000_000)
    client.set(keys.account_limiter(account), ahead)
    client.hset(keys.account_health(account), mapping={"probe_at": ahead, "pause": 200_000})
    later = limiter.take(account, 10.0)
    assert isinstance(later, SlotUnavailable)
    assert later.wait_s <= 0.2
    client.hdel(keys.account_health(account), "probe_at", "pause")
    slot = limiter.take(account, 10.0)
    assert isinstance(slot, Slot)
    assert slot.wait_s < 0.2
