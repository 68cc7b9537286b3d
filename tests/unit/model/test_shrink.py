"""Results rejected by Kafka can be shortened until they are accepted."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.model.event import parse
from streamer.model.parking import Scope
from streamer.model.reasons import DeadReason, Reason
from streamer.model.record import DeadLetter, Headers, Outcome, Parked, Record, RecordId, Resolution
from streamer.model.shrink import shrink
from streamer.model.wire import dead_letter_headers, outcome_value

_EVENT = parse(b'{"organization_id":"o","campaign_id":"c","recipient_id":"r","email":"e"}')
_MAX_STEPS = 5
_MIN_BYTES = 3_000
_texts = st.integers(0, 3).map(lambda size: size * 10_000)
_ENDINGS: tuple[Resolution, ...] = (
    DeadLetter(DeadReason.INVALID_EVENT, "x" * 10_000),
    DeadLetter(DeadReason.UNDECODABLE, ""),
    Parked(Scope.of_campaign("o", "c")),
    Outcome.of(Reason.INVALID_ADDRESS, "x" * 10_000),
    Outcome.of(Reason.EXPIRED),
)


def _written(record: Record) -> int:
    resolution, key = record.resolution, len(record.key or b"")
    if isinstance(resolution, Outcome):
        return key + len(outcome_value(record, resolution))
    assert isinstance(resolution, DeadLetter)
    headers = dead_letter_headers(record, resolution)
    return key + len(record.value or b"") + sum(len(n) + len(v or b"") for n, v in headers)


@given(st.sampled_from(_ENDINGS), _texts, _texts, _texts, _texts, st.booleans())
def test_any_result_can_be_shortened_enough(
    resolution: Resolution, key: int, value: int, header: int, email: int, pinned: bool
) -> None:
    headers: Headers | None = [("theirs", b"h" * header)] if header else None
    record = Record(RecordId("t", 0, 7), b"k" * key or None, b"v" * value or None, headers, 0.0)
    record.attach_event(_EVENT)
    record.email = "e" * email
    if isinstance(resolution, Parked):
        resolution = Parked(resolution.scope, maybe_pinned=pinned)
    record.resolve(resolution, 1.0)
    steps = 0
    while shrink(record) is not None:
        steps += 1
        assert steps <= _MAX_STEPS
    assert _written(record) <= _MIN_BYTES
    if isinstance(resolution, Parked):
        assert isinstance(record.resolution, Outcome)
        # If it may be pinned, its mail may have been sent or may still be sent.
        assert record.resolution.status == ("indeterminate" if pinned else "failed")
    else:
        assert isinstance(record.resolution, type(resolution))
        assert not isinstance(record.resolution, Parked)
        assert record.resolution.reason == resolution.reason


def test_a_dead_letter_drops_its_value_late() -> None:
    record = Record(RecordId("t", 0, 7), b"k", b"value", [("theirs", b"h")], 0.0)
    record.resolve(DeadLetter(DeadReason.INVALID_EVENT, "why"), 1.0)
    left = [shrink(record) for _ in range(5)]
    assert left == ["the detail", "the headers", "the value", "the key", None]
