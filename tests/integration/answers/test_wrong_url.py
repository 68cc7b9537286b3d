"""A URL that is not Resend's: the account is held until it is right again."""

from streamer.ledger.holds import Holds
from tests.integration.answers.table import FEW, sent
from tests.kit.world import World, wait_until


def _call_wrong_url(world: World, path: str) -> str:
    """Let a worker call a wrong URL; returns the reason of the hold."""
    world.produce(world.event(number) for number in range(FEW))
    wrong = world.start_worker(RESEND_API_URL=world.sandbox.url + path)
    wait_until(lambda: len(world.parked()) == FEW, 30, "all are parked")
    assert wrong.stop() == 0
    assert world.endings() == []
    holds = Holds(world.redis).read(["default"])["default"].holds
    assert set(holds) == {None}
    return holds[None].reason


def test_not_found(own_world: World) -> None:
    assert _call_wrong_url(own_world, "/wrong") == "not_found"
    with own_world.worker():  # the URL is right again
        own_world.await_endings(FEW, 30)
    assert own_world.words() == sent()
    own_world.judge()


def test_method_not_allowed(own_world: World) -> None:
    assert _call_wrong_url(own_world, "/domains?") == "method_not_allowed"
    own_world.judge()
