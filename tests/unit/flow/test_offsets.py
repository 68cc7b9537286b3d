"""Who has left: sets of offsets, and their text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.offsets import OffsetSet, OffsetSpan

_MOST = 60
offsets = st.integers(0, _MOST)
spans = st.lists(st.builds(lambda a, b: OffsetSpan(min(a, b), max(a, b) + 1), offsets, offsets))


def members(gone: OffsetSet) -> set[int]:
    return {offset for offset in range(_MOST + 5) if offset in gone}


@given(spans)
def test_it_contains_what_was_added(left: list[OffsetSpan]) -> None:
    gone = OffsetSet(0, left)
    assert members(gone) == {offset for span in left for offset in range(*span)}
    # Spans are apart from each other and from the base, or the text would be longer than need be.
    ends = [gone.base, *(span.end for span in gone.spans)]
    assert all(span.start > end for span, end in zip(gone.spans, ends, strict=False))
    assert gone.scattered == len(members(gone)) - gone.base
    for offset in range(_MOST + 5):
        found = [span for span in gone.spans if span.start <= offset < span.end]
        assert gone.span_of(offset) == (found[0] if found else None)


@given(spans, st.integers(0, 2**62))
def test_encoding_round_trips(left: list[OffsetSpan], by: int) -> None:
    gone = OffsetSet(by, [OffsetSpan(start + by, end + by) for start, end in left])
    assert OffsetSet.decode(gone.base, gone.encode()) == gone
    assert (gone.encode() == "") == (not gone.spans)


@given(spans, spans)
def test_a_union_contains_either(one: list[OffsetSpan], other: list[OffsetSpan]) -> None:
    first, second = OffsetSet(0, one), OffsetSet(0, other)
    kept = first.copy()
    assert members(first.union(second)) == members(first) | members(second)
    assert first == kept


@pytest.mark.parametrize("text", ["epoch", "1:", "1:no", "1:~~~~~", "2:abc", "1:\u00e9"])
def test_invalid_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        OffsetSet.decode(0, text)


def test_a_transactions_offsets_fit_into_the_metadata() -> None:
    """Five hundred who leave one by one, as far apart as is likely to be."""
    gone = OffsetSet(0, [OffsetSpan(at * 1_000_003, at * 1_000_003 + 1) for at in range(1, 501)])
    assert len(gone.encode()) < 3_200
