"""Every discrepancy of an act is reported."""

import math
from collections import Counter

import pytest

from streamer.demo.acts import Act, address, suppressed
from streamer.demo.histogram import parse, quantile
from streamer.demo.reports import ActReport, Resolutions, report
from streamer.sandbox import Acceptance, Call

_ACT = Act("small", 10, 1, False, None)


def _acceptance(number: int, email_id: str | None = None) -> Acceptance:
    to = address(_ACT, number)
    return Acceptance(
        "acme", _ACT.campaign_id, to, email_id or f"id-{number}", "key", "default", 0.0, 0.0
    )


class _Scene:
    """Ten records with correct outcomes; number 7 is suppressed."""

    def __init__(self) -> None:
        self.inputs = {(0, number) for number in range(10)}
        self.resolutions = Resolutions()
        self.acceptances = []
        self.gone: set[str] = set()
        for number in range(10):
            if address(_ACT, number) in suppressed(_ACT):
                self.resolutions.outcome((0, number), "skipped", None)
            else:
                self.resolutions.outcome((0, number), "sent", f"id-{number}")
                self.acceptances.append(_acceptance(number))

    def report(self) -> ActReport:
        calls = [
            Call("default", 0.0, 0.0, 200, "", len(self.acceptances), "key"),
            Call("default", 0.0, 0.0, 429, "rate_limit_exceeded", 0, "key"),
        ]
        return report(
            _ACT,
            self.resolutions,
            self.inputs,
            self.acceptances,
            calls,
            1.0,
            2.0,
            0,
            gone=self.gone,
        )


@pytest.fixture
def scene() -> _Scene:
    return _Scene()


def test_an_act_that_adds_up_has_no_problems(scene: _Scene) -> None:
    found = scene.report()
    assert (found.sent, found.skipped, found.accepted, found.accepted_twice) == (9, 1, 9, 0)
    assert (found.calls, found.fill, found.problems) == (2, 9.0, [])


def test_missing_records_are_named(scene: _Scene) -> None:
    scene.inputs.add((3, 14))
    assert scene.report().problems == [
        "1 records have no outcome or dead letter: partition 3 offset 14"
    ]


def test_a_second_result_of_a_record_is_reported(scene: _Scene) -> None:
    scene.resolutions.dead_letter((0, 2))
    (problem,) = scene.report().problems
    assert "more than one result: partition 0 offset 2" in problem


def test_a_result_without_record_is_reported(scene: _Scene) -> None:
    scene.resolutions.outcome((5, 5), "skipped", None)
    (problem,) = scene.report().problems
    assert "partition 5 offset 5" in problem


def test_a_sent_mail_that_was_not_accepted_is_reported(scene: _Scene) -> None:
    scene.acceptances.pop()
    assert scene.report().problems == ["1 mails have a sent outcome but were not accepted"]


def test_a_second_mail_to_an_address_is_reported(scene: _Scene) -> None:
    scene.acceptances.append(_acceptance(3, "another"))
    found = scene.report()
    assert found.accepted_twice == 1
    assert found.problems == [
        "1 mails were accepted but have no sent outcome",
        f"1 addresses were mailed twice: {address(_ACT, 3)}",
    ]


def test_a_mail_to_a_suppressed_address_is_reported(scene: _Scene) -> None:
    scene.acceptances.append(_acceptance(7))
    assert f"1 suppressed addresses were mailed: {address(_ACT, 7)}" in scene.report().problems


def test_a_mail_to_somebody_who_left_is_reported(scene: _Scene) -> None:
    scene.gone = {address(_ACT, 3), "x@example.com"}
    assert scene.report().problems == [
        f"1 who bounced or unsubscribed were mailed again: {address(_ACT, 3)}"
    ]


def test_an_act_writes_again_to_the_readers_of_another() -> None:
    again = Act("again", 12, 1, False, None, again=_ACT)
    addresses = [address(again, number) for number in range(12)]
    assert addresses[:10] == [address(_ACT, number) for number in range(10)]
    assert len(set(addresses)) == 12


def test_a_shared_email_id_is_reported(scene: _Scene) -> None:
    scene.inputs.add((0, 10))
    scene.resolutions.outcome((0, 10), "sent", "id-1")
    assert scene.report().problems == ["10 sent outcomes have 9 different ids"]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.25, 0.005), (0.5, 0.01), (0.75, 0.03), (0.99, 0.05)]
)
def test_quantiles_are_interpolated_within_a_bucket(share: float, expected: float) -> None:
    buckets = Counter({0.01: 50, 0.05: 100, math.inf: 100})
    assert quantile(buckets, share) == pytest.approx(expected, abs=0.001)


def test_quantiles_are_capped_at_the_last_bound() -> None:
    assert quantile(Counter({0.01: 1, math.inf: 100}), 0.99) == 0.01


def test_a_quantile_of_no_values_is_zero() -> None:
    assert quantile(Counter(), 0.99) == 0.0
    assert quantile(Counter({0.01: 0, math.inf: 0}), 0.99) == 0.0


def test_a_histogram_is_parsed_with_its_process_start() -> None:
    exposition = """# TYPE process_start_time_seconds gauge
process_start_time_seconds 1.5e+09
# TYPE check_seconds histogram
check_seconds_bucket{le="0.1"} 3.0
check_seconds_bucket{le="+Inf"} 4.0
check_seconds_count 4.0
check_seconds_sum 0.5
"""
    assert parse(exposition, "check_seconds") == (1.5e9, Counter({0.1: 3, math.inf: 4}))
