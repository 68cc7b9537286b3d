"""The one mail that spoils its batch, looked for by two workers in turn."""

import signal

import pytest

from streamer.sandbox import Faults
from tests.integration.answers.table import MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED, Words
from tests.kit.world import World, wait_until


@pytest.mark.parametrize("is_over", [False, True], ids=["it is refused still", "it is over"])
def test_killed_while_it_looks_for_the_guilty_one_the_next_goes_on_there(
    own_world: World, is_over: bool
) -> None:
    """Sent as a whole again, with the refusal over, halves that were taken would go out twice."""
    sandbox = own_world.sandbox
    guilty_one = "user87@example.com"
    sandbox.order(Faults(guilty=frozenset({guilty_one}), latency_ms=150))
    own_world.produce((own_world.event(number) for number in range(100)), partition=0)
    doomed = own_world.start_worker()
    wait_until(lambda: len(sandbox.calls()) >= 6, 30, "it is half-way")
    doomed.kill()
    assert doomed.process.returncode == -signal.SIGKILL
    wait_until(lambda: sandbox.stats().in_flight == 0, 10, "no call is under way")
    assert sandbox.stats().accepted >= 50
    before = [call.idempotency_key for call in sandbox.calls()]
    assert 6 <= len(before) < MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    if is_over:
        sandbox.calm()
    with own_world.worker():
        own_world.await_endings(100, 40)
    after = [call.idempotency_key for call in sandbox.calls()][len(before) :]
    # The last one's answer may not have been kept yet; and what is refused to who adopted the
    # batch is asked once more.
    assert len(set(before) & set(after)) <= 1
    assert len(set(before) | set(after)) <= MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    stats = sandbox.stats()
    assert (stats.accepted_twice, sandbox.repeats()) == (0, [])
    rejected: Words = {} if is_over else {("failed", "rejected"): 1}
    assert own_world.words() == {("sent", None): 100 - len(rejected), **rejected}
    own_world.judge()
