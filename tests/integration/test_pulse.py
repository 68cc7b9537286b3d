"""The ledger's pulse: a ledger that lacks its latest writes is noticed, whichever part of it does.

Workers that meet such a ledger are in `test_old_snapshot.py`.
"""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from streamer.ledger import keys
from streamer.ledger.confirming import Argument, UnconfirmedError
from streamer.ledger.connection import Client, NotNowError, connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.limiter import Limiter
from streamer.ledger.pulse import Pulse, StaleLedgerError, accept, read_pulses
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import Stack
from tests.kit.harness import wait_until
from tests.kit.redis_replicas import ReplicaSet

_ACCOUNT = "main"


class PulseBench:
    """What a worker does with the pulse, by its account's slot."""

    def __init__(self, client: Client, group: str, *committed: int) -> None:
        epoch = Epoch.establish(client, ())
        self.limiter = Limiter(client, epoch)
        self.pulse = Pulse(client, epoch, group)
        self.pulse.begin(committed)

    def work(self, account: str = _ACCOUNT) -> int:
        """Use a slot, and beat; return the pulse to commit."""
        self.limiter.take(account, 1_000.0)
        self.pulse.beat()
        return self.pulse.value


def _forget(client: Client, group: str, since: int) -> None:
    """What was drawn after this pulse is lost."""
    client.set(keys.pulse(group), since)
    client.zremrangebyscore(keys.drawn_pulses(group), f"({since}", "+inf")


@pytest.fixture
def group() -> str:
    return f"g-{secrets.token_hex(4)}"


@pytest.fixture
def worker(client: Client, group: str) -> PulseBench:
    return PulseBench(client, group)


def test_it_grows_with_each_beat_that_follows_work(worker: PulseBench) -> None:
    first = worker.pulse.value
    worker.pulse.beat()
    assert worker.pulse.value == first > 1_700_000_000_000
    second = worker.work()
    third = worker.work()
    assert first < second < third
    worker.pulse.beat()
    assert worker.pulse.value == third


def test_it_grows_though_the_clock_of_redis_is_set_back(
    worker: PulseBench, client: Client, group: str
) -> None:
    future = worker.pulse.value + 10_000_000
    client.set(keys.pulse(group), future)
    assert worker.work() == future + 1
    assert worker.work() == future + 2


def test_several_workers_raise_it(worker: PulseBench, client: Client, group: str) -> None:
    other = PulseBench(client, group, worker.work())
    values = [each.work() for each in (worker, other, other, worker)]
    assert values == sorted({*values})
    slot = keys.account_epoch(_ACCOUNT)
    status = read_pulses(client, group)
    assert status.pulse == values[-1]
    assert status.slots == status.expected == {slot: values[-1]}
    assert status.behind(values[-1]) == {}


def test_it_is_that_of_one_group(worker: PulseBench, client: Client, group: str) -> None:
    value = worker.work()
    stranger = PulseBench(client, f"{group}-other", 0)
    client.delete(keys.pulse(group))
    stranger.work()
    with pytest.raises(StaleLedgerError, match="all that was written is missing"):
        PulseBench(client, group, value)


def _assert_noticed(
    how: str, worker: PulseBench, client: Client, group: str, old: int, committed: int
) -> None:
    """The worker, or one that starts, learns that what was written since `old` is missing."""
    act: dict[str, Callable[[], object]] = {
        "start": lambda: PulseBench(client, group, committed),
        "assigned": lambda: worker.pulse.verify([committed]),
        "beat": worker.pulse.beat,
        "work": worker.work,
    }
    with pytest.raises(StaleLedgerError, match="is missing, of the last") as caught:
        act[how]()
    assert caught.value.since_ms == old


@pytest.mark.parametrize("how", ["start", "assigned", "beat", "work"])
def test_a_pulse_below_the_committed_one_is_noticed(
    worker: PulseBench, client: Client, group: str, how: str
) -> None:
    old = worker.work()
    committed = worker.work()
    _forget(client, group, old)
    _assert_noticed(how, worker, client, group, old, committed)
    assert client.get(keys.pulse(group)) == str(old).encode()


@pytest.mark.parametrize("how", ["start", "assigned", "beat", "work"])
def test_a_lost_pulse_is_noticed_though_another_worker_has_raised_it_since(
    worker: PulseBench, client: Client, group: str, how: str
) -> None:
    """The other has not raised it between the snapshot and its restoration: it misses nothing."""
    other = PulseBench(client, group)
    old = other.work()
    committed = worker.work()
    _forget(client, group, old)
    wait_until(lambda: client.time() > divmod(1000 * committed + 999, 10**6), 5, "it is later")
    assert other.work() > committed
    _assert_noticed(how, worker, client, group, old, committed)
    with pytest.raises(StaleLedgerError):
        other.work()
    with pytest.raises(StaleLedgerError):
        PulseBench(client, group, committed)
    assert read_pulses(client, group, [committed]).behind(committed) == {keys.EPOCH: old}
    accept(client, group, other.pulse.value)
    assert PulseBench(client, group, old, committed).work() > other.pulse.value


def test_pulses_that_are_too_many_to_be_kept_count_as_known(
    worker: PulseBench, client: Client, group: str
) -> None:
    values = [worker.work() for _ in range(2_003)]
    assert client.zcard(keys.drawn_pulses(group)) == 2_000
    PulseBench(client, group, *values)


@pytest.mark.parametrize("how", ["start", "work"])
@pytest.mark.parametrize("lost", [True, False])
def test_a_slot_that_lacks_writes_is_noticed(
    worker: PulseBench, client: Client, group: str, how: str, lost: bool
) -> None:
    """As where one node of a cluster fails over: the slot of the epoch lacks nothing."""
    account = f"a-{secrets.token_hex(4)}"
    old = worker.work(account)
    committed = worker.work(account)
    slot = keys.slot_pulse(keys.account_epoch(account), group)
    if lost:
        client.delete(slot)
    else:
        client.set(slot, old)
    act: dict[str, Callable[[], object]] = {
        "start": lambda: PulseBench(client, group, committed),
        "work": lambda: worker.work(account),
    }
    with pytest.raises(StaleLedgerError, match=keys.account_epoch(account)):
        act[how]()
    # Each time: the slot is raised only when the ledger is rebuilt.
    with pytest.raises(StaleLedgerError):
        PulseBench(client, group, committed)


def test_what_an_earlier_version_committed_says_nothing(client: Client, group: str) -> None:
    assert PulseBench(client, group, 0).pulse.value > 0


def test_work_that_could_not_be_noted_is_noted_later(
    worker: PulseBench, client: Client, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> object:
        raise OSError

    worker.work()
    monkeypatch.setattr(worker.pulse, "_note", fail)
    before = worker.pulse.value
    with pytest.raises(OSError):  # noqa: PT011 - the test's own
        worker.work()
    assert worker.pulse.value == before
    monkeypatch.undo()
    worker.pulse.beat()
    assert worker.pulse.value > before
    assert read_pulses(client, group).behind(worker.pulse.value) == {}


def test_nobody_works_while_it_is_rebuilt(worker: PulseBench, client: Client, group: str) -> None:
    client.set(keys.rebuild(group), 1_000)
    for act in (worker.pulse.beat, lambda: PulseBench(client, group)):
        with pytest.raises(StaleLedgerError, match="is being rebuilt"):
            act()
    client.delete(keys.rebuild(group))
    worker.work()


def test_a_pulse_that_is_not_confirmed_is_not_committed(
    worker: PulseBench, stack: Stack, client: Client, group: str
) -> None:
    """There is no replica, so it could be forgotten."""
    strict = connect(RedisSettings(url=stack.redis_url, replicas=1))
    pulse = Pulse(strict, Epoch.establish(strict, [Epoch.establish(client, ()).name]), group)
    with pytest.raises(UnconfirmedError, match="0 of 1 replicas"):
        pulse.begin([worker.pulse.value])
    assert pulse.value == 0
    strict.close()


def test_a_failover_while_it_is_raised_is_no_loss(
    worker: PulseBench, client: Client, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server takes over that has all but what was drawn just now."""
    before = worker.work()
    each = worker.pulse._raise.each

    def fail_over(calls: Sequence[tuple[str, list[Argument]]]) -> list[object]:
        _forget(client, group, before)
        return each(calls)

    monkeypatch.setattr(worker.pulse._raise, "each", fail_over)
    with pytest.raises(NotNowError):
        worker.work()
    monkeypatch.undo()
    assert worker.pulse.value == before
    worker.pulse.beat()
    assert worker.pulse.value > before
    assert read_pulses(client, group).behind(worker.pulse.value) == {}


def test_raises_are_confirmed_on_the_server_that_executed_them(tmp_path: Path, group: str) -> None:
    replicas = ReplicaSet(tmp_path, 1)
    replicas.start()
    try:
        settings = replicas.redis_settings()
        worker = PulseBench(connect(settings), group)
        value = worker.work()
        replicas.primary.cut_off_replicas()
        with pytest.raises(UnconfirmedError):
            worker.work()
        assert worker.pulse.value == value
        replicas.primary.heal()
        wait_until(lambda: replicas.primary.replicas() == 1, 30, "it is back")
        assert worker.work() > value
    finally:
        replicas.stop()
