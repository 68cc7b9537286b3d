"""`POST /emails/batch`: both validation modes, and the exact words of refusals."""

import pytest
import resend
from resend.exceptions import ResendError

from streamer.sandbox import SandboxProcess
from tests.integration.sandbox.client import INVALID_TO, Client, Mail, mail


def test_strict_accepts_all_and_has_no_errors(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send([mail(f"user{i}@example.com") for i in range(100)])
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert len(set(reply.ids)) == 100
    assert reply.body == {"data": [{"id": i} for i in reply.ids]}
    assert sandbox.stats().accepted == 100


def test_strict_is_all_or_nothing(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send([mail(), mail("no address"), mail()])
    assert reply.status == 422
    assert reply.body == {"statusCode": 422, "message": INVALID_TO, "name": "validation_error"}
    assert sandbox.stats().accepted == 0


def test_permissive_accepts_the_valid_and_compacts(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send(
        [mail("a@x.test"), mail("bad"), mail("b@x.test"), mail(subject=None)], permissive=True
    )
    assert reply.status == 200
    assert reply.body == {
        "data": [{"id": i} for i in reply.ids],
        "errors": [
            {"index": 1, "message": INVALID_TO},
            {"index": 3, "message": "Missing `subject` field."},
        ],
    }
    assert [(a.address, a.email_id) for a in sandbox.acceptances()] == [
        ("a@x.test", reply.ids[0]),
        ("b@x.test", reply.ids[1]),
    ]


def test_permissive_has_errors_even_when_there_are_none(client: Client) -> None:
    reply = client.send([mail()], permissive=True)
    assert reply.body == {"data": [{"id": reply.ids[0]}], "errors": []}


@pytest.mark.parametrize(
    "address",
    [
        "plain",
        "@example.com",
        "ann@",
        "ann@localhost",
        "ann@ex ample.com",
        "ann@@example.com",
        "ann@example..com",
        "Ann <ann@example.com",
        "Ann ann@example.com",
        "ann@example.com\r\nBcc: bob@example.com",
        "ann@example.com,bob@example.com",
        7,
        ["ann@example.com", "bad"],
    ],
)
def test_a_bad_address_is_told(client: Client, address: object) -> None:
    reply = client.send([mail(address)])
    assert reply.error == (422, "validation_error")
    assert reply.body == {"statusCode": 422, "message": INVALID_TO, "name": "validation_error"}


@pytest.mark.parametrize(
    "address",
    [
        "ann@example.com",
        "Ann+x@Example.co.uk",
        "Ann Lee <ann@example.com>",
        ["ann@example.com", "Bob <bob@example.com>"],
        "o'hara@xn--bcher-kva.example",
    ],
)
def test_a_good_address_is_not(client: Client, address: object) -> None:
    assert client.send([mail(address)]).status == 200


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"from": None}, (422, "missing_required_field")),
        ({"from": "news"}, (422, "validation_error")),
        ({"to": None}, (422, "missing_required_field")),
        ({"to": []}, (422, "missing_required_field")),
        ({"to": ["a@example.com"] * 51}, (422, "validation_error")),
        ({"subject": None}, (422, "missing_required_field")),
        ({"subject": 3}, (422, "validation_error")),
        ({"html": 3}, (422, "validation_error")),
        ({"headers": []}, (422, "validation_error")),
        ({"reply_to": "nobody"}, (422, "validation_error")),
        ({"tags": {}}, (422, "validation_error")),
        ({"tags": [{"name": "a.b", "value": "c"}]}, (422, "validation_error")),
        ({"tags": [{"name": "a", "value": "ü"}]}, (422, "validation_error")),
        ({"tags": [{"name": "a", "value": "x" * 257}]}, (422, "validation_error")),
        ({"tags": [{"name": f"t{i}", "value": "v"} for i in range(76)]}, (422, "validation_error")),
    ],
)
def test_other_fields_are_judged(client: Client, fields: Mail, error: tuple[int, str]) -> None:
    assert client.send([{**mail(), **fields}]).error == error


def test_limits_are_inclusive(client: Client) -> None:
    tags = [{"name": "n" * 256, "value": "v" * 256}, *({"name": "a", "value": "b"},) * 74]
    assert client.send([mail(["a@example.com"] * 50, tags=tags)]).status == 200


def test_attachments_are_dropped_without_a_word(client: Client, sandbox: SandboxProcess) -> None:
    assert client.send([mail(attachments=[{"filename": "a.txt"}])]).status == 200


@pytest.mark.parametrize("body", [{}, [], [mail()] * 101, ["mail"]])
def test_a_body_that_is_no_batch(client: Client, body: list[object]) -> None:
    assert client.send(body).error == (422, "validation_error")


def test_a_body_that_is_no_json(client: Client) -> None:
    assert client.call("POST", "/emails/batch", b"[{").error == (400, "validation_error")


def test_a_permissive_batch_without_a_valid_item(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send([mail("bad")], permissive=True)
    assert reply.status == 200
    assert reply.body == {"data": [], "errors": [{"index": 0, "message": INVALID_TO}]}
    assert sandbox.stats().accepted == 0


def test_the_official_sdk(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    # As it comes; the worker's code, where tests run it in this process, puts a client of its own.
    monkeypatch.setattr(resend, "default_http_client", resend.RequestsClient())
    monkeypatch.setattr(resend, "api_url", sandbox.url)
    monkeypatch.setattr(resend, "api_key", "re_sandbox")
    good: resend.Emails.SendParams = {
        "from": "Acme <news@acme.test>",
        "to": "ann@example.com",
        "subject": "Hello",
        "html": "<p>Hi</p>",
    }
    bad: resend.Emails.SendParams = {**good, "to": "bad"}
    answer = resend.Batch.send(
        [bad, good], {"idempotency_key": "k", "batch_validation": "permissive"}
    )
    assert len(answer["data"]) == 1
    assert answer["errors"] == [{"index": 0, "message": INVALID_TO}]
    with pytest.raises(ResendError) as caught:
        resend.Batch.send([bad])
    assert (caught.value.code, caught.value.error_type) == (422, "validation_error")
    with pytest.raises(ResendError) as caught:
        resend.Batch.send([good], {"idempotency_key": "k"})
    assert (caught.value.code, caught.value.error_type) == (409, "invalid_idempotent_request")
    assert [a.idempotency_key for a in sandbox.acceptances()] == ["k"]
