"""Helpers shared by the commands."""

import pytest
import typer

from streamer.cli.common import parse_campaign
from streamer.model.campaign import CampaignName


def test_parse_campaign() -> None:
    assert parse_campaign("acme/spring-26") == CampaignName("acme", "spring-26")


@pytest.mark.parametrize("text", ["acme", "/x", "acme/", "a/b/c", "a b/c", ""])
def test_an_invalid_campaign_is_wrong_use(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_campaign(text)
