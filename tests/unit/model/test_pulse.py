"""What the metadata of offsets says about the ledger, and which shards lack writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.pulse import OffsetMetadata, behind

_NUMBERS = st.integers(0, 2**63 - 1)
_BROKERS_TAKE = 4_096
_PULSES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 5))


@given(st.from_regex(r"[0-9a-f]{16}", fullmatch=True), _NUMBERS, st.none() | _NUMBERS)
def test_what_is_written_is_read_back(epoch: str, pulse: int, reach: int | None) -> None:
    metadata = OffsetMetadata(epoch, pulse, reach)
    assert OffsetMetadata.parse(str(metadata)) == metadata
    assert len(str(metadata)) < _BROKERS_TAKE / 50


@given(st.text())
def test_any_other_text_is_an_epoch_that_no_ledger_has(text: str) -> None:
    found = OffsetMetadata.parse(text)
    assert text in (found.epoch, str(found)) or OffsetMetadata.parse(str(found)) == found


@pytest.mark.parametrize(
    "text", ["e 1", "e 1 2 3", "e one 2", "e 1 two", "e -1 2", "e \u0661 2", "e  "]
)
def test_malformed_metadata_is_no_known_epoch(text: str) -> None:
    assert OffsetMetadata.parse(text) == OffsetMetadata(text)


def test_metadata_of_earlier_versions_and_of_other_tools() -> None:
    assert OffsetMetadata.parse("0123456789abcdef") == OffsetMetadata("0123456789abcdef", 0, None)
    assert OffsetMetadata.parse("") == OffsetMetadata.parse(None) == OffsetMetadata("")


@given(_PULSES, _PULSES)
def test_a_shard_is_behind_if_its_pulse_is_missing_or_lower(
    found: dict[str, int], expected: dict[str, int]
) -> None:
    lost = behind(found, expected)
    assert lost.keys() <= expected.keys()
    for shard, least in expected.items():
        assert (shard in lost) == (found.get(shard, 0) < least)
        assert lost.get(shard, found.get(shard, 0)) == found.get(shard, 0)
    raised = {shard: max(found.get(shard, 0), least) for shard, least in expected.items()}
    assert not behind(raised, expected)
