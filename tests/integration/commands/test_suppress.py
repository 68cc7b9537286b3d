"""`suppress`: managing suppressed addresses."""

from datetime import UTC, datetime
from pathlib import Path

import orjson

from streamer.ledger import suppression
from streamer.ledger.connection import Client
from streamer.ledger.mail_events import MailEvents, SuppressingEvent
from streamer.model.feedback import Why
from streamer.sandbox import Faults
from tests.kit.harness import Harness
from tests.kit.operator import CommandRunner


def test_many_addresses_are_imported_and_exported(operator: CommandRunner, client: Client) -> None:
    organization = operator.organization
    addresses = [f"user{number}@example.com" for number in range(2500)]
    assert suppression.add(client, organization, iter(addresses)) == 2500
    assert suppression.add(client, organization, addresses[:10]) == 0
    assert suppression.count(client, organization) == 2500
    asked = ["nobody@example.com", *addresses, "noone@example.com"]
    assert suppression.check(client, organization, asked) == [False, *[True] * 2500, False]
    assert suppression.check(client, organization, []) == []
    assert set(suppression.export(client, organization)) == set(addresses)
    assert suppression.remove(client, organization, [*addresses, "x@y.zz"]) == 2500


def test_suppress_commands(operator: CommandRunner, tmp_path: Path) -> None:
    organization = operator.organization
    added = operator.run("suppress", "add", organization, "--new", "Ann@Example.com", "bad", code=1)
    assert "1 added" in added.stdout
    assert "argument 2: invalid address 'bad'" in added.stderr
    file = tmp_path / "list.csv"
    file.write_text("id,email\n1,ann@example.com\n2,Bob@example.com\n3,\n")
    imported = operator.json("suppress", "import", organization, file, code=1)
    assert isinstance(imported, dict)
    assert (imported["added"], imported["present"], imported["bad"]) == (1, 1, 1)
    assert imported["first_bad"][0]["place"] == "line 4"
    assert operator.json("suppress", "check", organization, "BOB@example.com", "x@y.zz") == {
        "addresses": [
            {"address": "bob@example.com", "suppressed": True},
            {"address": "x@y.zz", "suppressed": False},
        ],
        "bad": 0,
        "first_bad": [],
    }
    exported = tmp_path / "out"
    operator.run("suppress", "export", organization, exported)
    assert sorted(exported.read_text().split()) == ["ann@example.com", "bob@example.com"]
    assert "1 removed" in operator.run("suppress", "remove", organization, "ann@example.com").stdout
    assert operator.json("suppress", "export", organization) == ["bob@example.com"]
    operator.run("suppress", "import", organization, "-", stdin=exported.read_bytes())
    assert len(operator.run("suppress", "export", organization).stdout.split()) == 2


def test_an_export_is_complete_and_private(
    operator: CommandRunner, client: Client, tmp_path: Path
) -> None:
    organization = operator.organization
    client.sadd(f"{{{organization}}}:suppressed", "ann@example.com", "b@c.dd\neve@example.com")
    file = tmp_path / "out"
    operator.run("suppress", "export", organization, file)
    assert sorted(file.read_text().splitlines()) == ["ann@example.com", "b@c.dd\\neve@example.com"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    members = operator.json("suppress", "export", organization)
    assert isinstance(members, list)
    assert sorted(members) == ["ann@example.com", "b@c.dd\neve@example.com"]


def test_removing_all_asks_first(operator: CommandRunner) -> None:
    organization = operator.organization
    operator.run("suppress", "add", organization, "--new", "a@b.cc", "b@b.cc")
    operator.run("suppress", "remove", organization, code=2)
    operator.run("suppress", "remove", organization, "a@b.cc", "--all", code=2)
    refused = operator.run("suppress", "remove", organization, "--all", code=2)
    assert "2 addresses that must get no mail would get it again" in refused.stderr
    everyone = operator.json("suppress", "export", organization)
    assert sorted(everyone if isinstance(everyone, list) else []) == ["a@b.cc", "b@b.cc"]
    removed = operator.run("suppress", "remove", organization, "--all", "--yes")
    assert "2 removed" in removed.stdout


def test_suppress_show_says_why(operator: CommandRunner, client: Client) -> None:
    organization = operator.organization
    operator.run("suppress", "add", organization, "--new", "bob@example.com")
    operator.environment["STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS"] = f'["{organization}"]'
    occurred_at = datetime(2026, 11, 24, tzinfo=UTC)
    for why, address in ((Why.BOUNCED, "ann@example.com"), (Why.COMPLAINED, "ann@example.com")):
        entry = SuppressingEvent(address, why, occurred_at, "spring-26")
        assert MailEvents(client, 60).suppress(organization, [entry]) == (why is Why.BOUNCED)
    shown = operator.json("suppress", "show", "ANN@example.com")
    reason = {"at": "2026-11-24T00:00:00.000Z", "campaign_id": "spring-26"}
    assert shown == {
        "address": "ann@example.com",
        "organizations": [
            {
                "organization_id": organization,
                "suppressed": True,
                "reasons": [{"why": "bounced", **reason}, {"why": "complained", **reason}],
            }
        ],
    }
    assert "complained" in operator.run("suppress", "show", "ann@example.com").stdout
    by_hand = operator.run("suppress", "show", "bob@example.com").stdout
    assert "yes" in by_hand
    assert "bounced" not in by_hand
    assert "no organization" in operator.run("suppress", "show", "eve@example.com").stdout
    operator.run("suppress", "show", "eve", code=2)


def test_suppress_sync_exchanges_both_ways(harness: Harness, operator: CommandRunner) -> None:
    organizations = [harness.organization, f"{harness.organization}-b"]
    named = orjson.dumps(organizations).decode()
    operator.environment["STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS"] = named
    theirs = [f"theirs{number}@example.com" for number in range(230)]
    ours = [f"ours{number}@example.com" for number in range(120)]
    both = ["both@example.com"]
    harness.sandbox.suppress(*theirs, *both, "not an address")
    suppression.add(harness.redis, organizations[0], [*ours[:70], *both])
    suppression.add(harness.redis, organizations[1], ours[50:])
    expected = {"organizations": organizations, "at_resend": 231, "pushed": 120, "invalid": 1}

    command = ("suppress", "sync", "default")
    refused = operator.run(*command, code=2).stderr
    assert all(each in refused for each in organizations)
    dry = operator.json(*command, "--dry-run")
    assert dry == {**expected, "dry_run": True, "pulled": 461}
    assert suppression.count(harness.redis, organizations[0]) == 71
    assert operator.json(*command, "--yes") == {**expected, "dry_run": False, "pulled": 461}
    for organization in organizations:
        assert all(suppression.check(harness.redis, organization, [*theirs, *both]))
    again = operator.json(*command, "--yes")
    assert isinstance(again, dict)
    assert (again["at_resend"], again["pulled"], again["pushed"]) == (351, 240 - 70 - 70, 0)
    operator.run("suppress", "sync", "nobody", code=1)
    harness.sandbox.set_faults(Faults(sending_only=frozenset({"*"})))
    assert "full access" in operator.run(*command, "--yes", code=1).stderr
