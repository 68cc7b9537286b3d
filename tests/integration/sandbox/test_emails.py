"""`POST /emails`, and what `GET /emails/ID` tells of a mail."""

import pytest

from streamer.sandbox import Faults, SandboxProcess
from tests.integration.sandbox.client import Client, Mail, mail

NEVER = "00000000-0000-4000-a000-000000000000"
UNVERIFIED = Faults(unverified_domains=frozenset({"new.test"}), fail_later=True)


def last_events(client: Client, ids: list[str]) -> list[object]:
    return [client.call("GET", f"/emails/{each}").fields["last_event"] for each in ids]


def test_a_single_mail(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.post("/emails", mail())
    assert (reply.status, [*reply.fields]) == (200, ["id"])
    assert [a.email_id for a in sandbox.acceptances()] == [reply.fields["id"]]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ([mail()], (422, "validation_error")),
        (mail("bad"), (422, "validation_error")),
        (mail(html=None), (422, "missing_required_field")),
    ],
)
def test_a_single_mail_is_validated(client: Client, body: object, error: tuple[int, str]) -> None:
    # There is no permissive mode for one.
    assert client.post("/emails", body, x_batch_validation="permissive").error == error


def test_a_key_belongs_to_one_endpoint(client: Client, sandbox: SandboxProcess) -> None:
    first = client.post("/emails", mail(), Idempotency_Key="k")
    assert client.post("/emails", mail(), Idempotency_Key="k").raw == first.raw
    assert client.send([mail()], key="k").status == 200
    other = client.post("/emails", mail("bob@example.com"), Idempotency_Key="k")
    assert other.error == (409, "invalid_idempotent_request")
    assert (sandbox.stats().accepted, sandbox.stats().replays) == (2, 1)


def test_faults_apply_to_a_single_mail(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(error_before_percent=100))
    assert client.post("/emails", mail()).status == 500
    sandbox.reset_faults()
    sandbox.set_faults(Faults(wrong_ids_percent=100))
    assert client.post("/emails", mail()).body == {}


def test_a_mail_is_shown(client: Client, sandbox: SandboxProcess) -> None:
    (email_id,) = client.send([mail(cc="bob@example.com", text="Hi")]).ids
    shown = client.call("GET", f"/emails/{email_id}").fields
    created = str(shown.pop("created_at"))
    assert (created[10], created[-3:]) == (" ", "+00")
    assert shown.pop("message_id")
    assert shown == {
        "object": "email",
        "id": email_id,
        "from": "Acme <news@acme.test>",
        "to": ["ann@example.com"],
        "cc": ["bob@example.com"],
        "bcc": None,
        "reply_to": None,
        "subject": "Hello",
        "html": "<p>Hi</p>",
        "text": "Hi",
        "tags": mail()["tags"],
        "topic_id": None,
        "scheduled_at": None,
        "last_event": "delivered",
    }
    assert client.call("GET", f"/emails/{NEVER}").error == (404, "not_found")
    other = Client(sandbox.url, "re_free").call("GET", f"/emails/{email_id}")
    assert other.error == (404, "not_found")


@pytest.mark.parametrize(
    ("fields", "event"),
    [
        ({"to": "bounced+1@resend.dev"}, "bounced"),
        ({"to": "complained@resend.dev"}, "complained"),
        ({"to": "suppressed@resend.dev"}, "suppressed"),
        ({"to": "delivered+x@resend.dev"}, "delivered"),
        ({"scheduled_at": "in 2 hours"}, "scheduled"),
    ],
)
def test_events_of_a_mail(client: Client, fields: Mail, event: str) -> None:
    assert last_events(client, client.send([{**mail(), **fields}]).ids) == [event]


def test_a_scheduled_mail_is_delivered_at_its_time(client: Client, sandbox: SandboxProcess) -> None:
    ids = client.send([mail(scheduled_at="in 2 hours")]).ids
    sandbox.advance(7200)
    assert last_events(client, ids) == ["delivered"]


def test_a_suppressed_address_is_accepted_and_not_delivered(
    client: Client, sandbox: SandboxProcess
) -> None:
    before = client.send([mail()]).ids
    sandbox.suppress("Ann@example.com")
    after = client.send([mail(), mail("bob@example.com")]).ids
    assert last_events(client, before + after) == ["delivered", "suppressed", "delivered"]


def test_a_permissive_batch_fails_later(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(UNVERIFIED)
    mails = [mail(), mail("bad"), {**mail(), "from": "news@new.test"}]
    assert client.send([mails[2]]).error == (403, "validation_error")
    reply = client.send(mails, permissive=True)
    assert [error["index"] for error in reply.errors] == [1]
    assert last_events(client, reply.ids) == ["delivered", "failed"]


@pytest.mark.parametrize(
    "faults",
    [
        Faults(quota="monthly", fail_later=True),
        Faults(refuse_key="validation_error", fail_later=True),
        Faults(key_domains={"*": "other.test"}, fail_later=True),
    ],
)
def test_all_of_a_permissive_batch_fails_later(
    client: Client, sandbox: SandboxProcess, faults: Faults
) -> None:
    sandbox.set_faults(faults)
    assert client.send([mail()]).status >= 400
    assert Client(sandbox.url, "re_no").send([mail()], permissive=True).status >= 400
    ids = client.send([mail(), mail("bob@example.com")], permissive=True).ids
    sandbox.reset_faults()
    assert last_events(client, ids) == ["failed", "failed"]
    used = client.call("GET", "/domains").headers["x-resend-monthly-quota"]
    assert used == "0"


def test_null_can_replace_a_refused_mail(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(null_for_refused=True))
    mails = [mail("bad"), mail(), mail("bad"), mail("bad"), mail()]
    reply = client.send(mails, permissive=True)
    data = reply.fields["data"]
    assert isinstance(data, list)
    assert [each is None for each in data] == [True, False, True, True, False]
    assert [error["index"] for error in reply.errors] == [0, 2, 3]
    assert client.send(mails[1:2]).ids
