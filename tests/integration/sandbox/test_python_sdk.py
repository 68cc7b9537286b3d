"""The official Python SDK, as it comes, against all of the sandbox."""

from collections.abc import Callable

import pytest
import resend
from resend.exceptions import (
    MissingRequiredFieldsError,
    RateLimitError,
    ResendError,
    ValidationError,
)

from streamer.sandbox import Faults, SandboxProcess
from tests.integration.sandbox.client import INVALID_TO

GOOD: resend.Emails.SendParams = {
    "from": "Acme <news@acme.test>",
    "to": "ann@example.com",
    "subject": "Hello",
    "html": "<p>Hi</p>",
}
BAD: resend.Emails.SendParams = {**GOOD, "to": "bad"}


@pytest.fixture(autouse=True)
def _the_sdk_calls_the_sandbox(sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    # The worker's code, where tests run it in this process, puts a client of its own.
    monkeypatch.setattr(resend, "default_http_client", resend.RequestsClient())
    monkeypatch.setattr(resend, "api_url", sandbox.url)
    monkeypatch.setattr(resend, "api_key", "re_sandbox")


def test_one_mail_is_sent_and_looked_up() -> None:
    options: resend.Emails.SendOptions = {"idempotency_key": "k"}
    sent = resend.Emails.send(GOOD, options)
    assert resend.Emails.send(GOOD, options)["id"] == sent["id"]
    shown = resend.Emails.get(sent["id"])
    assert (shown["to"], shown["last_event"]) == (["ann@example.com"], "delivered")


def test_a_mail_from_a_template() -> None:
    template: resend.EmailTemplate = {"id": "welcome", "variables": {"NAME": "Ann", "COUNT": 2}}
    sent = resend.Emails.send({"to": "ann@example.com", "template": template})
    assert resend.Emails.get(sent["id"])["subject"] is None


def test_batches(sandbox: SandboxProcess) -> None:
    assert len(resend.Batch.send([GOOD, GOOD])["data"]) == 2
    options: resend.Batch.SendOptions = {"idempotency_key": "k", "batch_validation": "permissive"}
    first = resend.Batch.send([BAD, GOOD], options)
    assert len(first["data"]) == 1
    assert first["errors"] == [{"index": 0, "message": INVALID_TO}]
    assert resend.Batch.send([BAD, GOOD], options)["data"] == first["data"]
    with pytest.raises(ResendError) as caught:
        resend.Batch.send([GOOD], {"idempotency_key": "k"})
    assert (caught.value.code, caught.value.error_type) == (409, "invalid_idempotent_request")
    assert [a.idempotency_key for a in sandbox.acceptances()] == ["", "", "k"]


@pytest.mark.parametrize(
    ("faults", "params", "kind", "code", "name"),
    [
        (Faults(), BAD, ValidationError, 422, "validation_error"),
        (Faults(), {**GOOD, "html": ""}, MissingRequiredFieldsError, 422, "missing_required_field"),
        (Faults(quota="daily"), GOOD, RateLimitError, 429, "daily_quota_exceeded"),
        (Faults(refuse_key="validation_error"), GOOD, ValidationError, 400, "validation_error"),
        (Faults(refuse_key="restricted_api_key"), GOOD, ResendError, 403, "restricted_api_key"),
        (Faults(outage="unavailable"), GOOD, ResendError, 503, "service_unavailable"),
        # It has no name.
        (Faults(key_domains={"*": "b.test"}), GOOD, ResendError, 403, "InternalServerError"),
    ],
)
def test_errors(
    sandbox: SandboxProcess,
    faults: Faults,
    params: resend.Emails.SendParams,
    kind: type[ResendError],
    code: int,
    name: str,
) -> None:
    sandbox.set_faults(faults)
    for send in (resend.Emails.send, lambda mail: resend.Batch.send([mail])):
        with pytest.raises(kind) as caught:
            send(params)
        assert (caught.value.code, caught.value.error_type) == (code, name)


def test_a_sending_key_cannot_read(sandbox: SandboxProcess) -> None:
    assert resend.Domains.list()["data"] == []
    assert resend.ApiKeys.list()["data"] == []
    sandbox.set_faults(Faults(sending_only=frozenset({"re_sandbox"})))
    email_id = resend.Emails.send(GOOD)["id"]
    reads: list[Callable[[], object]] = [
        resend.Domains.list,
        resend.Suppressions.list,
        lambda: resend.Emails.get(email_id),
    ]
    for read in reads:
        with pytest.raises(ResendError, match="restricted to only send emails") as caught:
            read()
        assert (caught.value.code, caught.value.error_type) == (401, "restricted_api_key")


def test_suppressions() -> None:
    ann, bob = "ann@example.com", "bob@example.com"
    one = resend.Suppressions.add({"email": "Ann@example.com"})
    assert len(resend.Suppressions.Batch.add({"emails": [ann, bob]})["data"]) == 2
    page = resend.Suppressions.list({"limit": 1, "origin": "manual"})
    assert page["has_more"]
    (latest,) = page["data"]
    assert latest["email"] == bob
    rest = resend.Suppressions.list({"after": latest["id"]})
    assert [each["id"] for each in rest["data"]] == [one["id"]]
    assert resend.Suppressions.get(ann)["id"] == one["id"]
    assert resend.Suppressions.remove(one["id"])["deleted"]
    removed = resend.Suppressions.Batch.remove({"emails": [ann, bob]})
    assert [each["id"] for each in removed["data"]] == [latest["id"]]
    with pytest.raises(ResendError) as caught:
        resend.Suppressions.get(ann)
    assert (caught.value.code, caught.value.error_type) == (404, "not_found")
