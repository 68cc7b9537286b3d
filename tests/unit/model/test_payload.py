"""A payload: one array of mails, and its parts again, to the byte."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.payload import Payload

_MAILS = st.lists(
    st.dictionaries(st.text(max_size=3), st.text(), max_size=3).map(orjson.dumps), max_size=9
)


@given(_MAILS)
def test_the_mails_come_back_and_the_body_is_json(mails: list[bytes]) -> None:
    payload = Payload(mails)
    assert payload.mails() == mails
    assert len(payload) == len(mails)
    assert orjson.loads(payload.body) == [orjson.loads(mail) for mail in mails]
    restored = Payload.restored(payload.body, payload.lengths)
    assert restored.mails() == mails


@given(_MAILS)
def test_halves_are_the_whole_and_always_the_same(mails: list[bytes]) -> None:
    first, second = Payload(mails).halves()
    assert first.mails() + second.mails() == mails
    assert abs(len(first) - len(second)) <= 1
    again = Payload(mails).halves()
    assert [half.body for half in again] == [first.body, second.body]
