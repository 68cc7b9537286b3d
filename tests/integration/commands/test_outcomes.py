"""`outcomes`: a campaign's outcomes in each format."""

import csv
import io

import orjson

from streamer.model.campaign import CampaignName
from tests.kit.harness import Harness
from tests.kit.mail_events import event_value
from tests.kit.operator import Answer, CommandRunner
from tests.kit.records import Records


def _recipient(outcome: Answer) -> str:
    return str(outcome["recipient_id"])


def test_outcomes_are_filtered_and_printed_in_each_format(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    harness.suppress("user1@example.com")
    harness.produce(
        [
            *(harness.event(number) for number in range(4)),
            harness.event(4, email='no "address", at all'),
            harness.event(5, campaign_id="other"),
        ]
    )
    with harness.worker():
        harness.await_resolutions(6)
    expected = [o for o in harness.outcomes() if o["campaign_id"] == "spring"]
    records.write(harness.topics.outcomes, b"{}")
    records.write(harness.topics.outcomes, None)

    result = operator.run("outcomes", operator.campaign, "--json")
    assert "2 records" in result.stderr
    told = [orjson.loads(line) for line in result.stdout.splitlines()]
    assert sorted(told, key=_recipient) == sorted(expected, key=_recipient)
    assert len(told) == 5

    def ids(*options: str) -> set[object]:
        return {o["recipient_id"] for o in operator.lines("outcomes", operator.campaign, *options)}

    assert ids("--status", "sent") == {"r-0", "r-2", "r-3"}
    assert ids("--reason", "suppressed", "--reason", "invalid_address") == {"r-1", "r-4"}
    assert ids("--email", " USER2@Example.com") == {"r-2"}
    assert ids("--email", 'no "address", at all') == {"r-4"}
    assert ids("--recipient", "r-3", "--status", "failed") == set()

    text = operator.run("outcomes", operator.campaign, "--format", "csv").stdout
    rows = {row["recipient_id"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 5
    assert rows["r-4"]["email"] == 'no "address", at all'
    assert rows["r-1"]["reason"] == "suppressed"
    assert rows["r-0"]["source_topic"] == harness.topics.recipients
    assert rows["r-0"]["email_id"]
    assert "user2@example.com" in operator.run("outcomes", operator.campaign).stdout


def test_outcomes_with_their_last_events(
    harness: Harness, operator: CommandRunner, records: Records
) -> None:
    harness.produce([harness.event(number) for number in range(3)])
    with harness.worker():
        harness.await_resolutions(3)
    ids = {str(each["email"]): str(each["email_id"]) for each in harness.outcomes()}
    name = CampaignName(harness.organization, "spring")
    first, second, _ = sorted(ids)
    for kind, address, at_s in (
        ("opened", first, 3),
        ("delivered", first, 2),
        ("delivered", second, 2),
        ("delivered", second, 2),
    ):
        value = orjson.loads(event_value(kind, address, at_s=at_s, name=name))
        records.write(harness.topics.events, orjson.dumps({**value, "email_id": ids[address]}))
    value = orjson.loads(event_value("unsubscribed", second, at_s=9, name=name))
    records.write(harness.topics.events, orjson.dumps({**value, "email_id": None}))
    records.write(harness.topics.events, b"junk")

    lines = operator.run("outcomes", operator.campaign, "--with-events", "--json").stdout
    shown = [orjson.loads(line) for line in lines.splitlines()]
    found = {each["email"]: each["event"] and each["event"]["type"] for each in shown}
    assert found == {first: "opened", second: "unsubscribed", sorted(ids)[2]: None}
    text = operator.run("outcomes", operator.campaign, "--with-events", "--format", "csv").stdout
    assert text.splitlines()[0].endswith(",event,event_occurred_at")
    assert "opened,2026-11-24T00:00:03.000Z" in text
    assert "EVENT AT" in operator.run("outcomes", operator.campaign, "--with-events").stdout
    operator.run("outcomes", operator.campaign, "--with-events", "--all", code=2)
