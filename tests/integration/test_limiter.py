"""An account's slots in Redis, as no stand-in shows them: many clients at once, and lost data.

What workers rely on otherwise is in tests/contracts.
"""

import secrets
import threading
import time
from collections.abc import Callable

import pytest

from streamer.flow.failure_stats import OUTAGE_FAILURES, AccountHealth, circuit_pause_s
from streamer.ledger import keys
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.limiter import Limiter, Slot, SlotUnavailable
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer, Stack

FAST = 1000.0


@pytest.fixture
def limiter(client: Client) -> Limiter:
    return Limiter(client, Epoch.establish(client, ()))


@pytest.fixture
def account() -> str:
    return f"account-{secrets.token_hex(4)}"


def _fail(limiter: Limiter, account: str) -> AccountHealth:
    return limiter.record_failure(account, "b", secrets.token_hex(8))


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
    epoch = Epoch.establish(client, ())
    assert client.get(keys.account_epoch(account)) == epoch.in_slots.encode()


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
