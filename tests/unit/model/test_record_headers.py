"""Headers that refer to other records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import record_headers
from streamer.model.record import RecordId
from streamer.model.wire import source_headers

coordinates = st.builds(
    RecordId,
    st.text(st.sampled_from("abz019._-"), min_size=1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
)


@given(coordinates)
def test_record_ids_round_trip(where: RecordId) -> None:
    assert record_headers.parse_record_id(str(where)) == where
    assert record_headers.source_id(record_headers.decode_headers(source_headers(where))) == where


@pytest.mark.parametrize(
    "text", ["", "t", "t/1", "/1/2", "t/-1/2", "t/1/x", "t/1/2/3", "t/\u0661/2"]
)
def test_invalid_record_ids_are_none(text: str) -> None:
    assert record_headers.parse_record_id(text) is None


def test_attempt_header() -> None:
    assert record_headers.attempt({}) == 0
    assert record_headers.attempt({record_headers.ATTEMPT: "3"}) == 3
    assert record_headers.attempt({record_headers.ATTEMPT: "three"}) == 0


def test_user_headers_exclude_streamer_headers() -> None:
    own = [("trace", b"1"), ("trace", b"2"), ("empty", None)]
    ours = [(record_headers.REPLAY_OF, b"t/0/0"), ("streamer-reason", b"undecodable")]
    assert record_headers.user_headers([*own, *ours]) == own
    assert record_headers.decode_headers([*own, *ours])["trace"] == "2"
