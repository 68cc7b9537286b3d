"""A URL that is not Resend's: the account is held until it is right again."""

from streamer.ledger.holds import Holds
from tests.integration.answers.table import FEW, sent
from tests.kit.harness import Harness, wait_until


def _call_wrong_url(harness: Harness, path: str) -> str:
    """Let a worker call a wrong URL; returns the reason of the hold."""
    harness.produce(harness.event(number) for number in range(FEW))
    wrong = harness.start_worker(RESEND_API_URL=harness.sandbox.url + path)
    wait_until(lambda: len(harness.parked()) == FEW, 30, "all are parked")
    assert wrong.stop() == 0
    assert harness.resolutions() == []
    holds = Holds(harness.redis).read(["default"])["default"].holds
    assert set(holds) == {None}
    return holds[None].reason


def test_not_found(own_harness: Harness) -> None:
    assert _call_wrong_url(own_harness, "/wrong") == "not_found"
    with own_harness.worker():  # the URL is right again
        own_harness.await_resolutions(FEW, 30)
    assert own_harness.status_counts() == sent()
    own_harness.assert_exactly_once()


def test_method_not_allowed(own_harness: Harness) -> None:
    assert _call_wrong_url(own_harness, "/domains?") == "method_not_allowed"
    own_harness.assert_exactly_once()
