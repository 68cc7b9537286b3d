"""The reference in a mail's tags: nothing is lost, and it costs 40 bytes."""

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from streamer.model.record import RecordId
from streamer.model.reference import TAG, Reference, campaign_check, place, read_reference

_PARTITIONS = st.integers(0, 2**20 - 1)
_OFFSETS = st.integers(0, 2**44 - 1)
_IDS = st.from_regex(r"\A[A-Za-z0-9._:@-]{1,128}\Z")


@given(_IDS, _IDS, _PARTITIONS, _OFFSETS)
def test_references_round_trip(
    organization: str, campaign: str, partition: int, offset: int
) -> None:
    check = campaign_check(organization, campaign)
    text = check + place(RecordId("campaign.recipients", partition, offset))
    assert read_reference(text) == Reference(check, partition, offset)


@given(st.tuples(_PARTITIONS, _OFFSETS), st.tuples(_PARTITIONS, _OFFSETS))
def test_no_two_records_share_one(one: tuple[int, int], other: tuple[int, int]) -> None:
    assume(one != other)
    assert place(RecordId("t", *one)) != place(RecordId("t", *other))


def test_campaigns_that_their_tags_confuse_are_told_apart() -> None:
    names = [("acme", "a.b"), ("acme", "a:b"), ("acme", "a_b"), ("acme", "a@b"), ("ac.me", "a_b")]
    assert len({campaign_check(*name) for name in names}) == len(names)


def test_it_is_as_long_as_is_said() -> None:
    text = campaign_check("acme", "spring") + place(RecordId("t", 2**20 - 1, 2**44 - 1))
    assert len(orjson.dumps({"name": TAG, "value": text})) + len(",") == 40


def test_a_place_out_of_range_is_left_out() -> None:
    assert place(RecordId("t", 2**20, 0)) == place(RecordId("t", 0, 2**44)) == ""
    check = campaign_check("acme", "spring")
    assert read_reference(check) == Reference(check, None, None)


@given(st.text())
def test_arbitrary_text_is_no_reference(text: str) -> None:
    read = read_reference(text)
    assert read is None or read_reference(text) == read


def test_another_text_of_the_same_bits_is_refused() -> None:
    text = campaign_check("acme", "spring") + place(RecordId("t", 3, 7))
    assert read_reference(text) is not None
    for other in (
        text[:-1] + chr(ord(text[-1]) + 1),
        text[:-1],
        f"{text}=",
        f" {text}",
        "",
        "é" * 15,
    ):
        assert read_reference(other) is None
