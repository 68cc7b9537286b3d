"""What the commands share."""

import pytest
import typer

from streamer.cli.common import parse_campaign, redis_address
from streamer.model.campaign import CampaignName


def test_a_campaign_is_organization_and_campaign() -> None:
    assert parse_campaign("acme/spring-26") == CampaignName("acme", "spring-26")


@pytest.mark.parametrize("text", ["acme", "/x", "acme/", "a/b/c", "a b/c", ""])
def test_anything_else_is_wrong_use(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_campaign(text)


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
