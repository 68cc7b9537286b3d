"""`campaign edit`, `delete` and `copy`: what can be changed until the first recipient is read."""

from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest
import urllib3

from streamer.ledger import campaigns, drafts, keys
from streamer.ledger.connection import Client
from streamer.ledger.drafts import NotADraftError
from streamer.model.campaign import Definition
from tests.kit.desk import HTML, Desk
from tests.kit.harness import Harness, wait_until
from tests.kit.operator import Answer, CommandRunner


def show(desk: Desk, *options: str) -> Answer:
    found = desk.json("show", *options)
    assert isinstance(found, dict)
    return found


def read_a_recipient(desk: Desk) -> None:
    """Mark the campaign as a worker does when it looks a first recipient up."""
    desk.client.hset(keys.campaign(desk.organization, "spring"), "begun", 1)


def test_a_draft_is_edited_and_its_versions_are_kept(desk: Desk, tmp_path: Path) -> None:
    desk.define()
    assert show(desk)["standing"] == "draft"
    first = show(desk)["version"]
    refused = desk.run("edit", "--subject", "Hi", code=2)
    assert "nothing was changed" in refused.stderr
    assert "--yes is required" in refused.stderr
    assert show(desk)["version"] == first
    edited = desk.run("edit", "--subject", "Hi", "--start-at", "2100-01-01T00:00:00Z", "--yes")
    assert "-subject: Hello {{ first_name }}" in edited.stdout
    assert "+subject: Hi" in edited.stdout
    assert "\n html: " in edited.stdout  # unchanged
    found = show(desk, "--versions")
    assert str(found["standing"]).startswith("scheduled for 2100-01-01 00:00 UTC")
    definition = found["definition"]
    assert isinstance(definition, dict)
    assert (definition["subject"], definition["html"]) == ("Hi", HTML)
    versions = found["earlier_versions"]
    assert isinstance(versions, list)
    assert [each["version"] for each in versions] == [first]
    assert versions[0]["definition"]["subject"] == "Hello {{ first_name }}"

    file = tmp_path / "new.json"
    file.write_bytes(orjson.dumps(definition | {"start_at": None, "subject": "Third"}))
    answer = desk.json("edit", file, "--yes")
    assert (answer["edited"], answer["earlier_version"]) == (True, found["version"])
    assert show(desk)["standing"] == "draft"
    assert desk.json("edit", file, "--yes")["edited"] is False
    file.write_bytes(orjson.dumps(definition | {"campaign_id": "other"}))
    assert "defines" in desk.run("edit", file, "--yes", code=1).stderr
    bad = desk.run("edit", "--from", "Acme", "--yes", code=2).stderr
    assert "nothing was changed: from: no address found" in bad


def test_a_campaign_that_has_begun_is_copied_instead(desk: Desk) -> None:
    desk.define(start_at="2100-01-01T00:00:00Z", expected_recipients=5)
    read_a_recipient(desk)
    refused = desk.run("edit", "--subject", "Hi", "--yes", code=1).stderr
    assert "has begun" in refused
    assert f"streamer campaign copy {desk.campaign}" in refused
    assert "has begun" in desk.run("delete", "--yes", code=1).stderr
    new = f"{desk.organization}/summer"
    copied = desk.run("copy", new)
    assert f"{new}: created" in copied.stdout
    assert "not copied: start_at, expected_recipients" in copied.stderr
    found = campaigns.load(desk.client, desk.organization, "summer")
    assert found is not None
    assert found.is_draft
    assert (found.definition.html, found.definition.start_at) == (HTML, None)
    assert "already exists" in desk.run("copy", new).stdout


def test_a_draft_is_deleted(desk: Desk) -> None:
    desk.define()
    assert "nothing was deleted" in desk.run("delete", code=2).stderr
    desk.run("delete", "--yes")
    assert "is not defined" in desk.run("show", code=1).stderr
    assert desk.client.keys(f"{{{desk.organization}}}:*") == []
    desk.define(subject="the id can be used again")


@pytest.fixture
def definition(operator: CommandRunner) -> Definition:
    fields = {
        "organization_id": operator.organization,
        "campaign_id": "spring-26",
        "from": "a@b.cc",
        "subject": "one",
        "text": "x",
    }
    return Definition.model_validate(fields)


def test_edits_do_not_overwrite_each_other(client: Client, definition: Definition) -> None:
    name = (definition.organization_id, definition.campaign_id)
    campaigns.create(client, definition)
    before = campaigns.load(client, *name)
    assert before is not None
    two = definition.model_copy(update={"subject": "two"})
    drafts.edit(client, before, two)
    drafts.edit(client, before, two)  # the first reply was lost
    with pytest.raises(NotADraftError, match="edited meanwhile"):
        drafts.edit(client, before, definition.model_copy(update={"subject": "three"}))
    assert len(drafts.earlier_versions(client, *name)) == 1
    drafts.delete(client, *name)
    with pytest.raises(NotADraftError, match="deleted meanwhile"):
        drafts.edit(client, before, two)


def test_nobody_gets_the_old_version_after_an_edit(
    harness: Harness, operator: CommandRunner
) -> None:
    """Workers that run already learn of it: the first lookup fixes what is sent."""
    operator.define()
    edit = ("campaign", "edit", operator.campaign, "--yes", "--subject")
    events: list[Mapping[str, object]] = [
        {name: value for name, value in harness.event(n).items() if name != "message"}
        for n in range(20)
    ]
    with harness.worker(), harness.worker(1):
        harness.produce([harness.event(99, campaign_id="other")])
        harness.await_resolutions(1)
        for subject in ("second", "third"):
            operator.run(*edit, subject)
        harness.produce(events[:10])
        harness.await_resolutions(11)
        assert "has begun" in operator.run(*edit, "fourth", code=1).stderr
        harness.produce(events[10:])
        harness.await_resolutions(21)
    page = urllib3.request("GET", f"{harness.sandbox.url}/list").data.decode()
    assert page.count(">third</a>") == 20
    assert ">second</a>" not in page
    key = keys.campaign(harness.organization, "spring")
    wait_until(lambda: harness.redis.hget(key, "begun") == b"1", 1, "it has begun")
    found = campaigns.load(harness.redis, harness.organization, "spring")
    assert found is not None
    assert found.definition.subject == "third"
