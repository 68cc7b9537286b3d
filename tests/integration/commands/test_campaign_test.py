"""`campaign test` against a real Redis and the sandbox."""

from streamer.ledger import keys, suppression
from streamer.ledger.epoch import Epoch
from streamer.ledger.limiter import Limiter
from streamer.sandbox import Faults
from tests.kit.desk import VARS, Desk


def test_each_address_gets_one_test_mail(desk: Desk) -> None:
    desk.define(scheduled_at="in 3 days")
    to = ("--to", "Ann@Example.com", "--to", "bo@example.com", "--to", "ann@example.com ")
    answer = desk.json("test", "--vars", VARS, *to)
    assert (answer["sent"], answer["refused"], answer["suppressed"]) == (2, 0, 0)
    accepted = {each.address: each for each in desk.sandbox.acceptances()}
    assert {each["address"]: each["email_id"] for each in answer["addresses"]} == {
        address: acceptance.email_id for address, acceptance in accepted.items()
    }
    assert accepted.keys() == {"ann@example.com", "bo@example.com"}
    assert desk.sandbox.stats().calls == 1
    # Not tagged with the campaign.
    assert {each.campaign for each in accepted.values()} == {""}
    assert "ann@example.com" in desk.run("test", "--vars", VARS, "--to", "ann@example.com").stdout


def test_a_test_mail_leaves_no_claim_and_no_epoch(desk: Desk) -> None:
    desk.define()
    before = sorted(desk.client.keys("*"))
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    assert sorted(desk.client.keys("*")) == before
    assert desk.sandbox.stats().accepted == 1


def test_a_test_mail_takes_a_shared_send_slot(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    taken = int(desk.client.get(keys.account_limiter("default")) or 0)
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    again = int(desk.client.get(keys.account_limiter("default")) or 0)
    assert again - taken >= 100_000  # microseconds: 10 a second at most
    assert desk.sandbox.stats().accepted == 2


def test_nothing_is_sent_with_a_foreign_ledger(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    desk.client.set(keys.account_epoch("default"), "e2")
    failure = desk.run("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert "nothing was sent: the ledger" in failure.stderr
    assert desk.sandbox.stats().calls == 0


def test_nothing_is_sent_while_the_circuit_is_open(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    limiter = Limiter(desk.client, Epoch(desk.client, "e1"))
    for number in range(15):
        limiter.record_failure("default", "b", f"call {number}")
    failure = desk.run("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert "account default is rate limited, or its calls keep failing" in failure.stderr
    assert desk.sandbox.stats().calls == 0


def test_a_test_mail_is_sent_despite_a_hold(desk: Desk) -> None:
    desk.define()
    desk.client.set(keys.EPOCH, "e1")
    desk.client.hset(keys.account_holds("default"), "*", "daily_quota_exceeded")
    desk.run("test", "--vars", VARS, "--to", "ann@example.com")
    assert desk.sandbox.stats().accepted == 1


def test_a_suppressed_address_is_skipped(desk: Desk) -> None:
    desk.define()
    suppression.add(desk.client, desk.organization, ["ann@example.com"])
    to = ("--to", "Ann@example.com", "--to", "bo@example.com")
    answer = desk.json("test", "--vars", VARS, *to, code=1)
    assert (answer["sent"], answer["suppressed"]) == (1, 1)
    assert [each.address for each in desk.sandbox.acceptances()] == ["bo@example.com"]
    desk.run("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert desk.sandbox.stats().calls == 1
    desk.run("test", "--vars", VARS, "--to", "ann@example.com", "--even-suppressed")
    assert desk.sandbox.acceptances()[-1].address == "ann@example.com"


def test_resends_error_messages_are_shown(desk: Desk) -> None:
    desk.define()
    desk.sandbox.set_faults(Faults(refused=frozenset({"ann@example.com"})))
    to = ("--to", "ann@example.com", "--to", "bo@example.com")
    answer = desk.json("test", "--vars", VARS, *to, code=1)
    assert (answer["sent"], answer["refused"]) == (1, 1)
    refused = next(each for each in answer["addresses"] if each["result"] == "refused")
    assert "refused by this sandbox" in refused["detail"]
    desk.sandbox.set_faults(Faults(refuse_key="invalid_api_key"))
    shown = desk.run("test", "--vars", VARS, *to, code=1).stdout
    assert shown.count("invalid_api_key") == 2


def test_a_lost_response_is_reported_as_unknown(desk: Desk) -> None:
    desk.define()
    desk.sandbox.set_faults(Faults(outage="drop"))
    answer = desk.json("test", "--vars", VARS, "--to", "ann@example.com", code=1)
    assert answer["unknown"] == 1
    assert "may have been sent" in answer["addresses"][0]["detail"]
    assert len(desk.sandbox.calls()) == 1


def test_invalid_test_mails(desk: Desk) -> None:
    to = ("--to", "ann@example.com")
    assert "is not defined" in desk.run("test", *to, code=1).stderr
    desk.define()
    assert "invalid address" in desk.run("test", *to, "--to", "ann", code=2).output
    assert "--to" in desk.run("test", code=2).output
    many = [word for number in range(101) for word in ("--to", f"u{number}@example.com")]
    assert "at most 100" in desk.run("test", *many, code=2).stderr
    failure = desk.run("test", *to, code=1).stderr
    assert "first_name is undefined" in failure
    assert "nothing was sent" in failure
    small = {"STREAMER_BATCH__MAX_BYTES": "500"}
    assert "fewer" in desk.run("test", "--vars", VARS, *to, code=1, env=small).stderr
    no_key = {"RESEND_API_KEY": ""}
    assert "no API key" in desk.run("test", "--vars", VARS, *to, code=1, env=no_key).stderr
    other = {"STREAMER_ACCOUNTS__DEFAULT__ORGANIZATIONS": '["other"]'}
    other |= {"STREAMER_ACCOUNTS__DEFAULT__API_KEY_ENV": "RESEND_API_KEY"}
    assert "no account serves" in desk.run("test", *to, code=1, env=other).stderr
    assert desk.sandbox.stats().calls == 0
