"""Unsubscribe tokens: signed ones verify, everything else is refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.mail.unsubscribe import InvalidTokenError, UnsubscribeLinks

_IDS = st.from_regex(r"\A[A-Za-z0-9._:@-]{1,128}\Z")
_ADDRESSES = st.from_regex(r"\A[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[a-z0-9-]{1,20}\.test\Z")
_OLD, _NEW = b"an old secret of 16+", b"a new secret of 16 +"


def _links(*secrets: bytes) -> UnsubscribeLinks:
    return UnsubscribeLinks("https://example.com/u", secrets)


@given(_IDS, _IDS, _ADDRESSES)
def test_tokens_round_trip(organization: str, campaign: str, address: str) -> None:
    links = _links(_NEW)
    url = links.url(organization, campaign, address)
    assert url.startswith("https://example.com/u/1.")
    token = url.rpartition("/")[2]
    assert links.verify(token) == (organization, campaign, address)


@given(st.data())
def test_an_altered_token_is_refused(data: st.DataObject) -> None:
    links = _links(_NEW)
    token = links.sign("acme", "spring", "ann@example.com")
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters(codec="utf-8").filter(lambda c: c != token[place]))
    with pytest.raises(InvalidTokenError):
        links.verify(token[:place] + letter + token[place + 1 :])


@given(st.text())
def test_arbitrary_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidTokenError):
        _links(_NEW).verify(text)


def test_secrets_rotate() -> None:
    token = _links(_OLD).sign("acme", "spring", "ann@example.com")
    assert _links(_NEW, _OLD).verify(token).address == "ann@example.com"
    assert _links(_NEW, _OLD).sign("a", "b", "c@d.test") == _links(_NEW).sign("a", "b", "c@d.test")
    with pytest.raises(InvalidTokenError):
        _links(_NEW).verify(token)


def test_a_token_is_url_safe() -> None:
    token = _links(_NEW).sign("o" * 128, "c" * 128, "a" * 64 + "@example.com")
    assert re.fullmatch(r"1\.[A-Za-z0-9_-]+", token)


def test_a_token_of_another_version_is_refused() -> None:
    token = _links(_NEW).sign("acme", "spring", "ann@example.com")
    for other in (f"2{token[1:]}", token[2:], f"1.{token}", f"{token}=", f" {token}", ""):
        with pytest.raises(InvalidTokenError):
            _links(_NEW).verify(other)


def test_fields_cannot_be_shifted() -> None:
    links = _links(_NEW)
    assert links.sign("ab", "c", "d@e.test") != links.sign("a", "bc", "d@e.test")


@pytest.mark.parametrize("url", ["http://example.com/u", "example.com/u", "ftp://example.com", ""])
def test_the_url_must_be_https(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        UnsubscribeLinks(url, [_NEW])


@pytest.mark.parametrize("url", ["http://localhost:8025/u", "http://127.0.0.1/u", "http://a.test"])
def test_local_urls_may_be_http(url: str) -> None:
    UnsubscribeLinks(url, [_NEW])


def test_a_query_can_carry_the_token() -> None:
    links = UnsubscribeLinks("https://example.com/u?t=", [_NEW])
    assert links.url("a", "b", "c@d.test").startswith("https://example.com/u?t=1.")


@pytest.mark.parametrize("secrets", [[], [b"short"], [_NEW, b"short"]])
def test_secrets_must_be_long(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        UnsubscribeLinks("https://example.com/u", secrets)
