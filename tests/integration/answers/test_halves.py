"""The mail that spoils its batch: looked for by two workers in turn, and where nobody knows why
it does."""

import signal

import pytest

from streamer.sandbox import Faults
from tests.integration.answers.table import (
    FEW,
    MAX_CALLS_TO_FIND_ONE_OF_A_HUNDRED,
    Words,
    json_error,
)
from tests.kit.harness import Harness, wait_until


@pytest.mark.parametrize("is_over", [False, True], ids=["it is refused still", "it is over"])
def test_the_next_owner_continues_halving_after_a_crash(
    own_harness: Harness, is_over: bool
) -> None:
    """Sent as a whole again, with the refusal over, halves that were taken would go out twice."""
    sandbox = own_harness.sandbox
    rejected_one = "user87@example.com"
    sandbox.set_faults(Faults(reject_addresses=frozenset({rejected_one}), latency_ms=150))
    # Who adopts the batch waits for as long as a call can be under way.
    own_harness.settings["STREAMER_DELIVERY__TIMEOUT_S"] = "5"
    own_harness.produce((own_harness.event(number) for number in range(100)), partition=0)
    doomed = own_harness.start_worker()
    wait_until(lambda: len(sandbox.calls()) >= 6, 30, "it is half-way")
    doomed.kill()
    assert doomed.process.returncode == -signal.SIGKILL
    wait_until(lambda: sandbox.stats().in_flight == 0, 10, "no call is under way")
    assert sandbox.stats().accepted >= 50
    before = [call.idempotency_key for call in sandbox.calls()]
    assert 6 <= len(before) < MAX_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    if is_over:
        sandbox.reset_faults()
    with own_harness.worker():
        own_harness.await_resolutions(100, 40)
    after = [call.idempotency_key for call in sandbox.calls()][len(before) :]
    # The last one's answer may not have been kept yet; and what is refused to who adopted the
    # batch is asked once more.
    assert len(set(before) & set(after)) <= 1
    assert len(set(before) | set(after)) <= MAX_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    stats = sandbox.stats()
    assert (stats.accepted_twice, sandbox.repeats()) == (0, [])
    rejected: Words = {} if is_over else {("failed", "rejected"): 1}
    assert own_harness.status_counts() == {("sent", None): 100 - len(rejected), **rejected}
    own_harness.assert_exactly_once()


@pytest.mark.slow
def test_an_unknown_rejection_of_every_call_rejects_no_mail(own_harness: Harness) -> None:
    own_harness.settings["STREAMER_DELIVERY__SET_ASIDE_S"] = "1"
    own_harness.sandbox.play(json_error(422, "Not now.", name="something_new"))
    own_harness.produce((own_harness.event(number) for number in range(FEW)), partition=0)
    with own_harness.worker():
        wait_until(own_harness.parked, 60, "it is set aside")
        assert own_harness.resolutions() == []
        own_harness.sandbox.reset_faults()
        own_harness.await_resolutions(FEW, 90)
    assert own_harness.status_counts() == {("sent", None): FEW}
    assert own_harness.sandbox.repeats() == []
    own_harness.assert_exactly_once()
