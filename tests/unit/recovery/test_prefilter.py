"""Filtering before parsing leaves nothing out."""

import json

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.outcome import read_names, same_address
from streamer.recovery.prefilter import may_have_address, may_have_addresses, may_have_id
from streamer.recovery.trace import RecipientQuery

_LOCALS = st.text("abkzABKZ\u212a09.+'/\"\\ é", max_size=4)
_ADDRESSES = st.builds(
    "{}{}{}".format, _LOCALS, st.sampled_from(["@", ""]), st.sampled_from(["b.test", "B.Test", ""])
)
_IDS = st.text("abAB01._:@-", min_size=1, max_size=3)


def _written(recipient_id: str, email: str, ascii_only: bool) -> bytes:
    event = {"organization_id": "o", "recipient_id": recipient_id, "email": email}
    return json.dumps(event, ensure_ascii=ascii_only).encode()


@given(_IDS, _ADDRESSES, _ADDRESSES, st.booleans())
def test_no_record_of_an_address_is_left_out(
    recipient_id: str, email: str, asked: str, ascii_only: bool
) -> None:
    for address in {same_address(email), same_address(asked)}:
        value = _written(recipient_id, email, ascii_only)
        names = read_names(value)
        if RecipientQuery(None, address).is_of(names.recipient_id, names.email):
            assert may_have_address(address)(value)


@given(_IDS, _IDS, _ADDRESSES, st.booleans())
def test_no_record_of_an_id_is_left_out(
    recipient_id: str, asked: str, email: str, ascii_only: bool
) -> None:
    value = _written(recipient_id, email, ascii_only)
    if RecipientQuery(asked, None).is_of(read_names(value).recipient_id, email):
        assert may_have_id(asked)(value)


def _outcome(email: str) -> bytes:
    begin = {"organization_id": "o", "campaign_id": "c", "recipient_id": "r", "email": email}
    return orjson.dumps({**begin, "status": "sent"})


@given(_ADDRESSES | st.from_regex(r"[a-z.+-]{1,3}@([a-z-]{1,4}\.){1,2}[a-z-]{1,4}", fullmatch=True))
def test_no_outcome_of_several_addresses_is_left_out(email: str) -> None:
    assert may_have_addresses({same_address(email)})(_outcome(email))


def test_outcomes_of_other_addresses_are_left_out() -> None:
    assert not may_have_addresses({"ann@b.test"})(_outcome("bob@b.test"))
    assert may_have_addresses({"ann@b.test"})(b"not as a worker writes it")


def test_what_is_escaped_is_parsed() -> None:
    value = rb'{"recipient_id":"r\u002d1","email":"\u0061nn@b.test"}'
    assert may_have_id("r-1")(value)
    assert may_have_address("ann@b.test")(value)


def test_records_of_others_are_left_out() -> None:
    value = _written("r-2", "Bob@b.test", ascii_only=False)
    assert not may_have_id("r-1")(value)
    assert not may_have_address("ann@b.test")(value)
    assert may_have_address("bob@b.test")(value)


def test_what_becomes_ascii_by_normalisation_is_parsed() -> None:
    kelvin = "\u212a@b.test"
    assert same_address(kelvin) == "k@b.test"
    assert may_have_address("k@b.test")(_written("r-1", kelvin, ascii_only=False))
