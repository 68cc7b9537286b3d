"""Counts in words."""

import pytest

from streamer.model.plural import plural


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 records"), (1, "1 record"), (2_000, "2,000 records")]
)
def test_a_noun_follows_its_count(count: int, words: str) -> None:
    assert plural(count, "record") == words


def test_a_plural_may_be_given() -> None:
    assert [plural(n, "address", "addresses") for n in (1, 2)] == ["1 address", "2 addresses"]
