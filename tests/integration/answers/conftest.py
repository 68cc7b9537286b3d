"""What the tests of answers share."""

from collections.abc import Callable

import pytest

from tests.kit.world import World


@pytest.fixture
def own_world(make_redis: Callable[..., object], make_world: Callable[..., World]) -> World:
    """A world whose account no other test shares."""
    world = make_world(redis=make_redis())
    world.settings |= {
        "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
        "STREAMER_DELIVERY__SET_ASIDE_S": "120",
        "STREAMER_BATCH__LINGER_MS": "1000",
    }
    return world
