"""What became of committed records is counted under its own name."""

from prometheus_client import REGISTRY

from streamer.model.parking import Scope
from streamer.model.reasons import DeadReason, Reason, Status
from streamer.model.record import DeadLetter, Outcome, Parked, Record, RecordId, Resolution
from streamer.worker.endings import count_endings


def _counted() -> list[float]:
    asked: list[tuple[str, dict[str, str]]] = [
        ("streamer_outcomes_total", {"status": "sent", "reason": ""}),
        ("streamer_outcomes_total", {"status": "skipped", "reason": "duplicate"}),
        ("streamer_dead_letters_total", {"reason": "undecodable"}),
        ("streamer_parked_total", {"kind": "campaign"}),
    ]
    return [REGISTRY.get_sample_value(name, labels) or 0.0 for name, labels in asked]


def test_each_ending_is_counted_under_its_own_name() -> None:
    endings: list[Resolution] = [
        *3 * [Outcome(Status.SENT, email_id="1")],
        *2 * [Outcome.of(Reason.DUPLICATE, "of an earlier one")],
        *2 * [DeadLetter(DeadReason.UNDECODABLE, "not JSON")],
        Parked(Scope.of_campaign("acme", "spring-26")),
    ]
    records = [Record(RecordId("t", 0, at), None, b"", None, 0.0) for at in range(len(endings))]
    for record, ending in zip(records, endings, strict=True):
        record.resolve(ending, 0.0)
    before = _counted()
    count_endings(records)
    assert [now - then for now, then in zip(_counted(), before, strict=True)] == [3, 2, 2, 1]
