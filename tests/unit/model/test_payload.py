"""Payloads: one JSON array of mails, which splits back into exactly the same bytes."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.payload import Payload

_MAILS = st.lists(
    st.dictionaries(st.text(max_size=3), st.text(), max_size=3).map(orjson.dumps), max_size=9
)


@given(_MAILS)
def test_payloads_round_trip_and_are_json(mails: list[bytes]) -> None:
    payload = Payload(mails)
    assert payload.mails() == mails
    assert len(payload) == len(mails)
    assert orjson.loads(payload.body) == [orjson.loads(mail) for mail in mails]
    restored = Payload.restored(payload.body, payload.lengths)
    assert restored.mails() == mails


@given(_MAILS)
def test_halving_is_complete_and_deterministic(mails: list[bytes]) -> None:
    first, second = Payload(mails).halves()
    assert first.mails() + second.mails() == mails
    assert abs(len(first) - len(second)) <= 1
    again = Payload(mails).halves()
    assert [half.body for half in again] == [first.body, second.body]
