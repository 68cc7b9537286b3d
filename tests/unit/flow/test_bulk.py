"""Bulk failures against their definition: more than a share of the last mails, for one reason."""

from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.bulk import Bulk, BulkFailures

CAMPAIGN = ("acme", "spring")
_mails = st.lists(st.sampled_from([None, "render_error", "rejected"]), max_size=40)


@given(st.integers(1, 12), st.floats(0, 1), st.lists(_mails, max_size=6))
def test_it_says_so_when_more_than_the_share_of_the_last_failed(
    size: int, share: float, chunks: list[list[str | None]]
) -> None:
    failures = BulkFailures(size, share)
    seen: list[str | None] = []
    quiet_until = 0
    for chunk in chunks:
        expected = None
        for reason in chunk:
            seen.append(reason)
            failed = seen[-size:].count(reason) if reason is not None else 0
            if failed > size * share and len(seen) > quiet_until:
                quiet_until = len(seen) + size
                expected = Bulk(reason or "", failed)
        assert failures.ended(CAMPAIGN, 0, chunk) == expected


def test_it_takes_more_than_a_few_at_the_start_and_one_reason_alone() -> None:
    failures = BulkFailures(1000, 0.5)
    assert failures.ended(CAMPAIGN, 0, ["render_error"] * 500 + ["rejected"] * 500) is None
    other = ("acme", "summer")
    assert failures.ended(other, 0, ["render_error"] * 500) is None
    assert failures.ended(other, 0, ["render_error"]) == Bulk("render_error", 501)


def test_a_resumed_campaign_gets_a_fresh_count() -> None:
    failures = BulkFailures(10, 0.5)
    assert failures.ended(CAMPAIGN, 0, ["rejected"] * 5) is None
    assert failures.ended(CAMPAIGN, 1, ["rejected"] * 5) is None
    assert failures.ended(CAMPAIGN, 1, ["rejected"]) == Bulk("rejected", 6)
    assert failures.ended(CAMPAIGN, 1, ["rejected"] * 9) is None  # said already
    assert failures.ended(CAMPAIGN, 2, ["rejected"] * 6) == Bulk("rejected", 6)


def test_what_it_remembers_is_bounded() -> None:
    failures = BulkFailures(2, 0.5)
    for number in range(3_000):
        assert failures.ended((str(number), "c"), 0, ["rejected"]) is None
    assert len(failures._campaigns) == 1_000
    assert failures.ended(("0", "c"), 0, ["rejected"]) is None  # forgotten
    for number in range(3_000):
        failures.ended((str(number), "c"), 0, [None, None])
    assert not failures._campaigns
