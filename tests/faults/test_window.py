"""No call is sent after its batch's safe window, however late Redis replies."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.stack import Stack
from tests.faults.lane import Lane
from tests.faults.scenes import SCENES
from tests.kit.points import Point, PointKind

_SCENES = {scene.name: scene for scene in SCENES}


@pytest.fixture
def lane(stack: Stack, tmp_path: Path) -> Iterator[Lane]:
    """A lane with a safe window shorter than the delay of late Redis replies, without timeouts."""
    found = Lane(12, stack, tmp_path, window_s=1, redis_waits_s=5.0)
    yield found
    found.close()


def test_no_call_is_made_after_the_safe_window(lane: Lane) -> None:
    for scene, name, number in (("main", "acquire_permit", 2), ("hold", "take_slot", 3)):
        point = Point(PointKind.REDIS, name, number)
        result = lane.lap(_SCENES[scene], point, "reply_late")
        assert not result.broken, f"{scene}:{point}: {result.broken}"
        assert result.reached
