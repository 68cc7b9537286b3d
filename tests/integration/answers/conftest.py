"""What the tests of answers share."""

from collections.abc import Callable

import pytest

from tests.kit.harness import Harness


@pytest.fixture
def own_harness(make_redis: Callable[..., object], make_harness: Callable[..., Harness]) -> Harness:
    """A world whose account no other test shares."""
    harness = make_harness(redis=make_redis())
    harness.settings |= {
        "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
        "STREAMER_DELIVERY__SET_ASIDE_S": "120",
        "STREAMER_BATCH__LINGER_MS": "1000",
    }
    return harness
