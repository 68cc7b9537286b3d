"""What is said of a Redis that cannot be used."""

import pytest

from streamer.ledger.failure import redis_address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://:secret@host:1234/0", "host:1234"),
        ("rediss://user:secret@host", "host:6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, address: str) -> None:
    assert redis_address(url) == address
