"""The bounds of what a worker holds."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.admission import AdmissionControl, IntakeMode

_FULL, _BYTES = 16, 1000


def _room() -> AdmissionControl:
    return AdmissionControl(_FULL, _BYTES)


def test_a_brief_limit_waits_and_a_longer_one_pauses() -> None:
    room = _room()
    assert room.mode(_FULL, 100, 1.0) is IntakeMode.WAIT
    assert room.mode(_FULL, 100, 1.5) is IntakeMode.WAIT
    assert room.mode(_FULL, 100, 1.6) is IntakeMode.PAUSE
    # Not full once, it begins anew.
    assert room.mode(_FULL - 1, 100, 1.7) is IntakeMode.AS_IS
    assert room.mode(_FULL, 100, 1.8) is IntakeMode.WAIT


def test_reading_resumes_at_half_the_limit() -> None:
    room = _room()
    assert room.mode(_FULL // 2 + 1, 60, 1.0) is IntakeMode.AS_IS
    assert room.mode(_FULL // 2, 60, 1.0) is IntakeMode.OPEN


def test_reading_continues_until_batches_are_full_or_memory_is() -> None:
    room = _room()
    assert room.mode(0, _BYTES - 1, 1.0) is IntakeMode.OPEN
    assert room.mode(0, _BYTES, 1.0) is IntakeMode.WAIT


def test_reading_continues_past_many_resolved_records() -> None:
    # Else one batch that is stuck, behind which much is decided, would stop the others for long.
    room = _room()
    assert [room.mode(0, _BYTES, now) for now in (1.0, 2.0)] == [IntakeMode.WAIT, IntakeMode.PAUSE]
    assert room.mode(0, _BYTES - 1, 3.0) is IntakeMode.OPEN
    assert room.is_under_backpressure(_BYTES - 1)
    assert not room.is_under_backpressure(_BYTES // 2)


@given(
    st.lists(
        st.tuples(st.integers(0, 2 * _FULL), st.integers(0, 2 * _BYTES), st.floats(0, 1)),
    )
)
def test_records_are_admitted_below_every_limit_only(
    course: list[tuple[int, int, float]],
) -> None:
    room, now = _room(), 0.0
    for full_batches, size, later in course:
        now += later
        is_full = full_batches >= _FULL or size >= _BYTES
        assert (
            room.mode(full_batches, size, now) in (IntakeMode.WAIT, IntakeMode.PAUSE)
        ) is is_full
