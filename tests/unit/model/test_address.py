"""Normalising and validating addresses."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.model.address import (
    InvalidAddressError,
    check_mailbox,
    normalise,
    sender_domain,
)


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
def test_addresses_are_normalised(given_as: str, normal: str) -> None:
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
def test_invalid_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidAddressError):
        normalise(text)


@given(st.text())
def test_normalising_is_idempotent(text: str) -> None:
    try:
        address = normalise(text)
    except InvalidAddressError:
        return
    assert normalise(address) == address
    assert address.isascii()
    assert len(address) <= 254


@given(st.from_regex(r"\A[A-Za-z0-9.+-]{1,64}@([a-z0-9]{1,20}\.){1,3}[a-z]{2,6}\Z"))
def test_plain_addresses_are_accepted(text: str) -> None:
    assert normalise(text) == text.lower()


# Composing marks takes quadratic time: this many would take minutes.
@pytest.mark.parametrize("length", [1017, 1_000_000])
def test_too_long_addresses_are_not_processed(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> str:
        raise AssertionError

    marks = "e\u0301\u0327" * (length // 3 + 1)
    with monkeypatch.context() as patched:
        patched.setattr("unicodedata.normalize", never)
        patched.setattr("idna.encode", never)
        for text in (marks, f"ann@{marks}.example", f"{marks}@example.com", "a" * length):
            with pytest.raises(InvalidAddressError, match="more than 254"):
                normalise(text)


def test_length_ignores_blanks_and_decomposition() -> None:
    decomposed = unicodedata.normalize("NFD", "ế" * 20 + "각" * 10)
    domain = f"{decomposed}.{'b' * 60}.{'c' * 60}.example"
    expected = normalise(f"ann@{unicodedata.normalize('NFC', domain)}")
    assert normalise(f"{' ' * 2000}ann@{domain}\n{' ' * 2000}") == expected


@given(st.text(min_size=1).map(lambda text: unicodedata.normalize("NFC", text)))
def test_the_length_limit_leaves_room_for_nfc(text: str) -> None:
    for form in ("NFD", "NFC"):
        assert len(unicodedata.normalize(form, text)) <= 4 * len(text)


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("news@example.com", "example.com"),
        ("Acme <news@News.Example.com>", "news.example.com"),
        ("Acme, Inc. <n@news.example.com>", "news.example.com"),
        ("Me @ Acme <n@news.example.com>", "news.example.com"),
        ("Acme [news] <n@news.example.com>", "news.example.com"),
        ("Acme (news <n@news.example.com>", "news.example.com"),
        ("<a@b.test> <n@news.example.com> ", "news.example.com"),
        ('"Acme, <Inc.>" <n@news.example.com>', "news.example.com"),
        ("Acme; Inc. <n@news.example.com> (news)", "news.example.com"),
        ("n@news.example.com (Acme)", "news.example.com"),
        ("< n@news.example.com >", "news.example.com"),
        ("Acme", ""),
        ("Acme <news>", ""),
        ("", ""),
    ],
)
def test_sender_domain(sender: str, domain: str) -> None:
    assert sender_domain(sender) == domain


@given(st.text(max_size=50), st.sampled_from(["", " ", " (c)", "\t"]))
def test_display_names_do_not_change_the_sender_domain(name: str, end: str) -> None:
    assert sender_domain(f"{name} <n@News.example.com>{end}") == "news.example.com"


@given(st.text())
def test_an_accepted_sender_has_a_domain(sender: str) -> None:
    try:
        check_mailbox(sender)
    except InvalidAddressError:
        return
    assert sender_domain(sender)


@pytest.mark.parametrize(
    "sender",
    [
        "Acme",
        "Acme <news>",
        "a@b",
        "a@",
        "Acme <a@exam ple.com>",
        "a@" + "b." * 9999 + "com",
        f"{'A' * 1_000} <a@b.test>",
    ],
)
def test_a_sender_without_domain_is_refused(sender: str) -> None:
    with pytest.raises(InvalidAddressError):
        check_mailbox(sender)
