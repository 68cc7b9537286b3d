"""Unsubscribe tokens: signed ones verify, everything else is refused."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode

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
    assert url.startswith("https://example.com/u/2.")
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


@given(st.data())
def test_a_flipped_bit_is_refused(data: st.DataObject) -> None:
    links = _links(_NEW, _OLD)
    version, *parts = links.sign("acme", "spring", "ann@example.com").split(".")
    chosen = data.draw(st.integers(0, 1))
    raw = bytearray(urlsafe_b64decode(parts[chosen] + "=="))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    parts[chosen] = urlsafe_b64encode(raw).rstrip(b"=").decode()
    with pytest.raises(InvalidTokenError):
        links.verify(".".join((version, *parts)))


@given(st.tuples(_IDS, _IDS, _ADDRESSES), st.tuples(_IDS, _IDS, _ADDRESSES))
def test_no_two_recipients_share_a_token(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    links = _links(_NEW)
    assert (links.sign(*one) == links.sign(*other)) == (one == other)


@given(_IDS, _IDS, _ADDRESSES)
def test_a_token_hides_the_address(organization: str, campaign: str, address: str) -> None:
    token = _links(_NEW).sign(organization, campaign, address)
    *_, recipient = token.split(".")
    raw = urlsafe_b64decode(recipient + "==")
    assert len(raw) == 16 + len(address)
    assert address.encode() not in raw
    with pytest.raises(InvalidTokenError):
        _links(_OLD).verify(token)


def test_long_addresses_do_not_repeat_the_key_stream() -> None:
    links = _links(_NEW)
    address = "a" * 64 + "@" + "a" * 150 + ".test"
    token = links.sign("acme", "spring", address)
    hidden = urlsafe_b64decode(token.split(".")[2] + "==")[16:]
    stream = bytes(a ^ b for a, b in zip(hidden, address.encode(), strict=True))
    blocks = [stream[start : start + 32] for start in range(0, len(stream), 32)]
    assert len(set(blocks)) == len(blocks)
    assert links.verify(token).address == address


def test_tokens_stay_the_same_from_release_to_release() -> None:
    """They are part of pinned mails, and in mails that were sent long ago."""
    first = (
        "1.viHylVftPSklJCLNO-V0EN_MmIWvEW_G1m1_rjJIwjJhY21lAHNwcmluZwBhbm5AZXhhbXBsZS5jb20",
        "2.YWNtZQBzcHJpbmc.IbCXsbrWqAQuLp10V7uGySmihQ3HNZaVmYJLVplvjA",
    )
    for token in first:
        assert _links(_NEW, _OLD).verify(token) == ("acme", "spring", "ann@example.com")
    assert _links(_OLD).sign("acme", "spring", "ann@example.com") == first[1]


def test_secrets_rotate() -> None:
    token = _links(_OLD).sign("acme", "spring", "ann@example.com")
    assert _links(_NEW, _OLD).verify(token).address == "ann@example.com"
    assert _links(_NEW, _OLD).sign("a", "b", "c@d.test") == _links(_NEW).sign("a", "b", "c@d.test")
    with pytest.raises(InvalidTokenError):
        _links(_NEW).verify(token)


def test_a_token_is_url_safe() -> None:
    token = _links(_NEW).sign("o" * 128, "c" * 128, "a" * 64 + "@example.com")
    assert re.fullmatch(r"2\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", token)


def test_a_token_of_another_version_is_refused() -> None:
    token = _links(_NEW).sign("acme", "spring", "ann@example.com")
    for other in (f"1{token[1:]}", token[2:], f"2.{token}", f"{token}=", f" {token}", ""):
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
    assert links.url("a", "b", "c@d.test").startswith("https://example.com/u?t=2.")


@pytest.mark.parametrize("secrets", [[], [b"short"], [_NEW, b"short"]])
def test_secrets_must_be_long(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        UnsubscribeLinks("https://example.com/u", secrets)
