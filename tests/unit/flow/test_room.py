"""The bounds of what a worker holds."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.room import Intake, Room

_QUEUED, _BYTES, _HELD = 100, 1000, 500


def _room() -> Room:
    return Room(_QUEUED, _BYTES, _HELD)


def test_what_is_full_for_a_moment_waits_and_for_longer_pauses() -> None:
    room = _room()
    assert room.intake(100, 0, 100, 1.0) is Intake.WAIT
    assert room.intake(100, 0, 100, 1.5) is Intake.WAIT
    assert room.intake(100, 0, 100, 1.6) is Intake.PAUSE
    # Not full once, it begins anew.
    assert room.intake(99, 0, 100, 1.7) is Intake.AS_IS
    assert room.intake(100, 0, 100, 1.8) is Intake.WAIT


def test_what_was_paused_goes_on_when_half_the_queue_is_free() -> None:
    room = _room()
    assert room.intake(51, 0, 60, 1.0) is Intake.AS_IS
    assert room.intake(50, 501, 60, 1.0) is Intake.AS_IS
    assert room.intake(50, 500, 60, 1.0) is Intake.OPEN


def test_it_goes_on_although_nearly_all_that_may_be_held_is_decided() -> None:
    # Else one batch that is stuck, behind which much is decided, would stop the others for long.
    room = _room()
    assert [room.intake(0, 0, _HELD, now) for now in (1.0, 2.0)] == [Intake.WAIT, Intake.PAUSE]
    assert room.intake(0, 0, _HELD - 1, 3.0) is Intake.OPEN


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2 * _QUEUED),
            st.integers(0, 2 * _BYTES),
            st.integers(0, 2 * _HELD),
            st.floats(0, 1),
        )
    )
)
def test_records_are_taken_if_and_only_if_no_bound_is_reached(
    course: list[tuple[int, int, int, float]],
) -> None:
    room, now = _room(), 0.0
    for queued, size, held, later in course:
        now += later
        is_full = queued >= _QUEUED or size >= _BYTES or held >= _HELD
        assert (room.intake(queued, size, held, now) in (Intake.WAIT, Intake.PAUSE)) is is_full
