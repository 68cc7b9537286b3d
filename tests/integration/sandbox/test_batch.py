"""`POST /emails/batch`: both validation modes, and the exact words of refusals."""

from uuid import UUID

import pytest

from streamer.sandbox import Faults, SandboxProcess
from tests.integration.sandbox.client import INVALID_TO, Client, Mail, mail


def test_strict_accepts_all_and_has_no_errors(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send([mail(f"user{i}@example.com") for i in range(100)])
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json; charset=utf-8"
    assert len(set(reply.ids)) == 100
    assert {(len(each), UUID(each).version) for each in reply.ids} == {(36, 4)}
    assert reply.body == {"data": [{"id": i} for i in reply.ids]}
    assert sandbox.stats().accepted == 100


def test_strict_is_all_or_nothing(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send([mail(), mail("no address"), mail()])
    assert reply.status == 422
    assert reply.body == {"statusCode": 422, "message": INVALID_TO, "name": "validation_error"}
    assert sandbox.stats().accepted == 0


def test_permissive_accepts_valid_items_and_compacts(
    client: Client, sandbox: SandboxProcess
) -> None:
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


def test_permissive_always_has_an_errors_list(client: Client) -> None:
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
def test_an_invalid_address_is_refused(client: Client, address: object) -> None:
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
def test_a_valid_address_is_accepted(client: Client, address: object) -> None:
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
        ({"subject": ""}, (422, "missing_required_field")),
        ({"subject": 3}, (422, "validation_error")),
        ({"html": None}, (422, "missing_required_field")),
        ({"html": ""}, (422, "missing_required_field")),
        ({"html": 3}, (422, "validation_error")),
        ({"text": 3}, (422, "validation_error")),
        ({"cc": "nobody"}, (422, "validation_error")),
        ({"headers": []}, (422, "validation_error")),
        ({"reply_to": "nobody"}, (422, "validation_error")),
        ({"template": {"id": "welcome"}}, (422, "validation_error")),
        ({"topic_id": "news"}, (422, "validation_error")),
        ({"scheduled_at": "2020-01-01T00:00:00Z"}, (422, "validation_error")),
        ({"scheduled_at": "in good time"}, (422, "validation_error")),
        ({"scheduled_at": 7}, (422, "validation_error")),
        ({"tags": {}}, (422, "validation_error")),
        ({"tags": [{"name": "a.b", "value": "c"}]}, (422, "validation_error")),
        ({"tags": [{"name": "a", "value": "ü"}]}, (422, "validation_error")),
        ({"tags": [{"name": "a", "value": "x" * 257}]}, (422, "validation_error")),
        ({"tags": [{"name": f"t{i}", "value": "v"} for i in range(76)]}, (422, "validation_error")),
    ],
)
def test_other_fields_are_validated(client: Client, fields: Mail, error: tuple[int, str]) -> None:
    assert client.send([{**mail(), **fields}]).error == error


def test_limits_are_inclusive(client: Client) -> None:
    tags = [{"name": "n" * 256, "value": "v" * 256}, *({"name": "a", "value": "b"},) * 74]
    assert client.send([mail(["a@example.com"] * 50, tags=tags)]).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"html": None, "text": "Hi"},
        {"html": "", "text": "Hi"},
        {"topic_id": "0d4d2b8e-6f0c-4b53-9a3f-6f5b1f4b7a11"},
        {"scheduled_at": "2999-01-01T00:00:00.000Z"},
        {"scheduled_at": "in 5 min"},
        {"cc": None, "headers": None, "template": None, "scheduled_at": None},
    ],
)
def test_valid_items_are_accepted(client: Client, fields: Mail) -> None:
    assert client.send([{**mail(), **fields}]).status == 200


def templated(**template: object) -> Mail:
    return {"to": "ann@example.com", "template": {"id": "welcome", **template}}


def test_a_template_brings_its_own_sender_and_subject(
    client: Client, sandbox: SandboxProcess
) -> None:
    variables = {"NAME": "x" * 2000, "count_2": 7, "half": 0.5, "v" * 50: ""}
    assert client.send([templated(), templated(variables=variables)]).status == 200
    # Nobody knows its domain then.
    sandbox.set_faults(Faults(unverified_domains=frozenset({"acme.test"})))
    assert client.send([templated()]).status == 200


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"template": "welcome"}, (422, "validation_error")),
        ({"template": {}}, (422, "missing_required_field")),
        ({"subject": ""}, (422, "missing_required_field")),
        ({"from": "news"}, (422, "validation_error")),
        (templated(variables=[]), (422, "validation_error")),
        (templated(variables={"NAME": "x" * 2001}), (422, "validation_error")),
        (templated(variables={"NAME": True}), (422, "validation_error")),
        (templated(variables={"NAME": None}), (422, "validation_error")),
        (templated(variables={"a-b": "c"}), (422, "validation_error")),
        (templated(variables={"v" * 51: "c"}), (422, "validation_error")),
    ],
)
def test_templates_are_validated(client: Client, fields: Mail, error: tuple[int, str]) -> None:
    assert client.send([{**templated(), **fields}]).error == error


def test_attachments_are_silently_dropped(client: Client, sandbox: SandboxProcess) -> None:
    assert client.send([mail(attachments=[{"filename": "a.txt"}])]).status == 200


def test_example_addresses_can_be_refused(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(refuse_example_domain=True))
    reply = client.send([mail(), mail("a@x.test"), mail("a@x.test", cc="b@example.com")])
    assert reply.error == (422, "validation_error")
    assert b"testing email address" in reply.raw
    copied = mail("a@x.test", cc="b@example.com")
    assert len(client.send([mail("a@x.test"), copied], permissive=True).ids) == 1


@pytest.mark.parametrize("body", [{}, [], [mail()] * 101, ["mail"]])
def test_a_body_without_a_batch_is_refused(client: Client, body: list[object]) -> None:
    assert client.send(body).error == (422, "validation_error")


def test_a_body_without_json_is_refused(client: Client) -> None:
    assert client.call("POST", "/emails/batch", b"[{").error == (400, "validation_error")


def test_a_permissive_batch_without_valid_items(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.send([mail("bad")], permissive=True)
    assert reply.status == 200
    assert reply.body == {"data": [], "errors": [{"index": 0, "message": INVALID_TO}]}
    assert sandbox.stats().accepted == 0
