"""Addresses: one form for each, and nothing that is no address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.address import InvalidAddressError, normalise


@pytest.mark.parametrize(
    ("given_as", "normal"),
    [
        ("ann@example.com", "ann@example.com"),
        ("  Ann@Example.COM\t", "ann@example.com"),
        ("ann+tag@example.com", "ann+tag@example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("ann@BÜCHER.example", "ann@xn--bcher-kva.example"),
        ("ann@bu\u0308cher.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@faß.example", "ann@xn--fa-hia.example"),
        ("ann@例え.テスト", "ann@xn--r8jz45g.xn--zckzah"),
        ("\u212a@example.com", "k@example.com"),
        ("a" * 64 + "@example.com", "a" * 64 + "@example.com"),
    ],
)
def test_the_form(given_as: str, normal: str) -> None:
    assert normalise(given_as) == normal


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@localhost",
        "ann@example.com.",
        "ann@.example.com",
        "ann@exa mple.com",
        "ann@-example.com",
        "ann@exam_ple.com",
        "ann@xn--zzzzzzzz-.example",
        "ann@[127.0.0.1]",
        "Ann <ann@example.com>",
        "ann@example.com, bob@example.com",
        '"a b"@example.com',
        "a b@example.com",
        "ann@b@example.com",
        "änn@example.com",
        "ann\n@example.com",
        "a" * 65 + "@example.com",
        "ann@" + "a" * 64 + ".com",
        "a" * 64 + "@" + ".".join(["b" * 60] * 4) + ".com",
    ],
)
def test_no_address(text: str) -> None:
    with pytest.raises(InvalidAddressError):
        normalise(text)


@given(st.text())
def test_any_text_is_refused_or_brought_into_a_form_that_stays(text: str) -> None:
    try:
        address = normalise(text)
    except InvalidAddressError:
        return
    assert normalise(address) == address
    assert address.isascii()
    assert len(address) <= 254


@given(st.from_regex(r"\A[A-Za-z0-9.+-]{1,64}@([a-z0-9]{1,20}\.){1,3}[a-z]{2,6}\Z"))
def test_plain_addresses_are_taken(text: str) -> None:
    assert normalise(text) == text.lower()
