"""Headers that refer to other records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model import marks
from streamer.model.record import Coordinates
from streamer.model.wire import source_headers

coordinates = st.builds(
    Coordinates,
    st.text(st.sampled_from("abz019._-"), min_size=1),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
)


@given(coordinates)
def test_record_ids_round_trip(where: Coordinates) -> None:
    assert marks.parse_coordinates(str(where)) == where
    assert marks.source(marks.words(source_headers(where))) == where


@pytest.mark.parametrize(
    "text", ["", "t", "t/1", "/1/2", "t/-1/2", "t/1/x", "t/1/2/3", "t/\u0661/2"]
)
def test_invalid_record_ids_are_none(text: str) -> None:
    assert marks.parse_coordinates(text) is None


def test_attempt_header() -> None:
    assert marks.attempt({}) == 0
    assert marks.attempt({marks.ATTEMPT: "3"}) == 3
    assert marks.attempt({marks.ATTEMPT: "three"}) == 0


def test_user_headers_exclude_streamer_headers() -> None:
    own = [("trace", b"1"), ("trace", b"2"), ("empty", None)]
    ours = [(marks.REPLAY_OF, b"t/0/0"), ("streamer-reason", b"undecodable")]
    assert marks.own_headers([*own, *ours]) == own
    assert marks.words([*own, *ours])["trace"] == "2"
