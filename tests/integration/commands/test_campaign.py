"""`campaign create`, `show` and `list`, and the state they leave in Redis."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import orjson
import pytest

from streamer.ledger import campaigns, keys
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName, CampaignState, Definition
from tests.kit.harness import wait_until
from tests.kit.office import Office
from tests.kit.operator import Answer, CommandRunner


def definition(operator: CommandRunner, **changes: object) -> Definition:
    return Definition.model_validate(
        {
            "organization_id": operator.organization,
            "campaign_id": "spring-26",
            "from": "Acme <news@acme.test>",
            "subject": "Hello {{ first_name }}",
            "html": "<p>Hello</p>",
            "template": None,
            **changes,
        }
    )


def test_a_campaign_is_defined_once(operator: CommandRunner, client: Client) -> None:
    wanted = definition(operator)
    assert campaigns.create(client, wanted)
    assert not campaigns.create(client, definition(operator))
    with pytest.raises(campaigns.CampaignExistsError, match="different from, subject;"):
        campaigns.create(client, definition(operator, subject="x", **{"from": "b@c.dd"}))
    found = campaigns.load(client, operator.organization, "spring-26")
    assert found is not None
    assert (found.definition, found.state) == (wanted, CampaignState.ACTIVE)
    assert campaigns.load_message(client, operator.organization, "spring-26") == (
        found.version,
        wanted,
    )
    assert campaigns.ids(client, operator.organization) == ["spring-26"]
    assert operator.organization in campaigns.organizations(client)


def test_probe_returns_state_and_version(operator: CommandRunner, client: Client) -> None:
    def probe(campaign_id: str) -> CampaignProbe:
        key = keys.campaign(operator.organization, campaign_id)
        values = cast(list[bytes | None], client.hmget(key, campaigns.PROBE_FIELDS))
        return campaigns.read_probe(values)

    assert probe("spring-26") == CampaignProbe(None, None)
    campaigns.create(client, definition(operator))
    campaigns.create(client, definition(operator, campaign_id="other", subject="x"))
    state, version, *_ = probe("spring-26")
    assert state is CampaignState.ACTIVE
    assert version is not None
    assert probe("other").version not in (None, version)
    client.hset(keys.campaign(operator.organization, "spring-26"), "state", "from the future")
    assert probe("spring-26") == CampaignProbe(CampaignState.PAUSED, version)


def test_defining_a_paused_campaign_keeps_it_paused(
    operator: CommandRunner, client: Client
) -> None:
    client.hset(keys.campaign(operator.organization, "spring-26"), "state", "paused")
    assert campaigns.load(client, operator.organization, "spring-26") is None
    campaigns.create(client, definition(operator))
    found = campaigns.load(client, operator.organization, "spring-26")
    assert found is not None
    assert found.state is CampaignState.PAUSED


def test_campaign_create_show_and_list(operator: CommandRunner, tmp_path: Path) -> None:
    file = tmp_path / "definition.json"
    file.write_text(definition(operator).model_dump_json(by_alias=True))
    assert "created" in operator.run("campaign", "create", file).stdout
    assert "exists" in operator.run("campaign", "create", "-", stdin=file.read_bytes()).stdout

    shown = operator.json("campaign", "show", operator.campaign)
    assert isinstance(shown, dict)
    assert shown["state"] == "active"
    progress = shown["progress"]
    assert isinstance(progress, dict)
    assert progress["received"] == 0
    again = operator.run("campaign", "create", "-", stdin=orjson.dumps(shown["definition"]))
    assert "already exists" in again.stdout
    assert operator.json("campaign", "list", operator.organization) == [shown]
    assert operator.campaign in operator.run("campaign", "list").stdout
    assert "Hello {{ first_name }}" in operator.run("campaign", "show", operator.campaign).stdout


def test_campaign_list_shows_progress_and_age(office: Office, operator: CommandRunner) -> None:
    name = CampaignName(operator.organization, "spring")
    operator.define()
    long_ago = datetime.now(UTC) - timedelta(days=3, hours=1)
    office.client.hset(keys.campaign(*name), "created_at", long_ago.isoformat())

    def row() -> list[str]:
        listed = operator.run("campaign", "list", operator.organization).stdout
        return re.split(r"  +", listed.splitlines()[1])

    assert row() == [operator.campaign, "draft", "-", "0", "0", "0", "3 d", "s"]
    with office.projecting():
        office.write({"sent": 199})
        office.store.expect(name, 200)
        wait_until(lambda: office.ended() == 199, 30, "it is counted")
        assert row()[2:6] == ["99 %", "199", "0", "1"]
        office.write({"failed:rejected": 1})
        wait_until(lambda: office.ended() == 200, 30, "it is counted")
        assert row()[2:6] == ["100 %", "199", "1", "0"]
    (listed,) = cast(list[Answer], operator.json("campaign", "list", operator.organization))
    assert cast(Answer, listed["progress"])["sent"] == 199


def test_campaign_create_by_options(operator: CommandRunner, tmp_path: Path) -> None:
    html = tmp_path / "mail.html"
    html.write_text("<p>{{ x }}</p>")
    options = ("--from", "a@b.cc", "--subject", "s", "--html", html, "--reply-to", "r@b.cc")
    operator.run("campaign", "create", operator.campaign, *options, "--expected-recipients", "5")
    shown = operator.json("campaign", "show", operator.campaign)
    assert isinstance(shown, dict)
    assert shown["definition"]["expected_recipients"] == 5
    assert shown["definition"]["reply_to"] == ["r@b.cc"]
    html.write_text("{{ x")
    failure = operator.run("campaign", "create", operator.campaign, *options, code=2)
    assert "html: syntax error" in failure.stderr


def test_unknown_campaigns_are_reported(operator: CommandRunner, tmp_path: Path) -> None:
    assert "is not defined" in operator.run("campaign", "show", operator.campaign, code=1).stderr
    assert "No such file" in operator.run("campaign", "create", tmp_path / "x", code=1).stderr
    operator.run("campaign", "show", "acme", code=2)
    assert operator.json("campaign", "list") is not None
    operator.run("campaign", "list", operator.organization, code=1)


def _state(operator: CommandRunner) -> str:
    shown = operator.json("campaign", "show", operator.campaign)
    assert isinstance(shown, dict)
    return str(shown["state"])


def test_resuming_a_scheduled_campaign_waits_for_its_start(
    operator: CommandRunner, client: Client
) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    campaigns.create(client, definition(operator, start_at=start))
    operator.run("campaign", "pause", operator.campaign)
    answer = operator.json("campaign", "resume", operator.campaign)
    assert isinstance(answer, dict)
    assert (answer["state"], answer["waits_until"]) == ("paused", start.isoformat())
    words = f"scheduled for {start:%Y-%m-%d %H:%M} UTC (in "
    assert words in operator.run("campaign", "resume", operator.campaign).stdout
    assert words in operator.run("campaign", "list", operator.organization).stdout
    assert words in operator.run("campaign", "show", operator.campaign).stdout
    assert _state(operator) == "paused"
    operator.run("campaign", "resume", operator.campaign, "--now")
    assert _state(operator) == "active"


def test_a_completed_campaign_can_be_paused_and_cancelled(
    operator: CommandRunner, client: Client
) -> None:
    campaigns.create(client, definition(operator))
    key = keys.campaign(operator.organization, "spring-26")
    due = keys.progress_due(operator.organization)
    client.hset(key, "state", "completed")
    operator.run("campaign", "resume", operator.campaign)  # late records are sent anyway
    assert _state(operator) == "completed"
    operator.run("campaign", "pause", operator.campaign)
    assert _state(operator) == "paused"
    client.delete(due)
    operator.run("campaign", "resume", operator.campaign)
    assert _state(operator) == "active"
    assert client.hexists(due, "spring-26")  # the next check completes it
    client.hset(key, "state", "completed")
    assert (
        "--yes is required" in operator.run("campaign", "cancel", operator.campaign, code=2).stderr
    )
    assert _state(operator) == "completed"
    operator.run("campaign", "cancel", operator.campaign, "--yes")
    assert _state(operator) == "cancelled"
    operator.run("campaign", "resume", operator.campaign, code=1)


def test_show_explains_the_pause_of_an_undefined_campaign(
    operator: CommandRunner, client: Client
) -> None:
    campaigns.pause(client, operator.organization, "spring-26", why="most of its mails failed")
    shown = operator.run("campaign", "show", operator.campaign, code=1)
    assert "is paused: most of its mails failed" in shown.stderr


def test_resume_counts_once_and_clears_the_pause_reason(
    operator: CommandRunner, client: Client
) -> None:
    campaigns.create(client, definition(operator))
    name = (operator.organization, "spring-26")
    assert campaigns.pause(client, *name, why="bad", resumed=0).state is CampaignState.PAUSED
    assert campaigns.pause(client, *name).state is CampaignState.PAUSED
    assert "paused: bad" in operator.run("campaign", "show", operator.campaign).stdout
    for _ in range(2):  # the first response may have been lost
        campaigns.resume(client, *name)
    assert client.hget(keys.campaign(*name), "resumed") == b"1"
    # A worker that noticed the failures before the resume is too late.
    assert campaigns.pause(client, *name, why="bad", resumed=0).state is CampaignState.ACTIVE
    assert "bad" not in operator.run("campaign", "show", operator.campaign).stdout
