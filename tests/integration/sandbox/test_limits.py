"""Keys, rates and quotas."""

import pytest

from streamer.sandbox import Faults, SandboxProcess
from streamer.sandbox.faults import KeyRefusal
from tests.integration.sandbox.client import Client, Reply, mail, wait_until

QUOTA_NEXT_MONTH_S = 40 * 86_400


def test_a_call_without_user_agent_is_blocked(client: Client, sandbox: SandboxProcess) -> None:
    reply = client.call("POST", "/emails/batch", b"[]", User_Agent=None)
    assert (reply.status, reply.raw) == (403, b"error code: 1010")
    assert "json" not in reply.headers["content-type"]
    assert sandbox.stats().calls == 0


def test_unknown_keys_are_refused(sandbox: SandboxProcess) -> None:
    assert Client(sandbox.url, None).send([mail()]).error == (401, "missing_api_key")
    assert Client(sandbox.url, "re_no").send([mail()]).error == (403, "invalid_api_key")
    assert sandbox.stats().answers == {"401:missing_api_key": 1, "403:invalid_api_key": 1}


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ("missing_api_key", 401),
        ("restricted_api_key", 403),
        ("validation_error", 400),
        ("invalid_api_key", 403),
        ("suspended_api_key", 403),
        ("invalid_permission", 403),
    ],
)
def test_keys_can_be_refused_as_a_fault(
    client: Client, sandbox: SandboxProcess, refusal: KeyRefusal, status: int
) -> None:
    sandbox.set_faults(Faults(refuse_key=refusal), account="default")
    assert client.send([mail()]).error == (status, refusal)
    assert client.call("GET", "/domains").error == (status, refusal)
    assert Client(sandbox.url, "re_free").send([mail()]).status == 200


@pytest.mark.parametrize("path", ["/domains", "/api-keys"])
def test_a_harmless_call_is_answered(client: Client, path: str) -> None:
    reply = client.call("GET", path)
    assert reply.status == 200
    assert reply.body == {"object": "list", "has_more": False, "data": []}
    assert client.call("POST", path).error == (405, "method_not_allowed")


def test_a_send_only_key_is_restricted(sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(sending_only=frozenset({"re_slow_1"})))
    sending, full = Client(sandbox.url, "re_slow_1"), Client(sandbox.url, "re_slow_2")
    (email_id,) = sending.send([mail()]).ids
    sandbox.set_limit(None, "slow")
    try:
        for path in ("/domains", f"/emails/{email_id}", "/suppressions", "/nowhere"):
            reply = sending.call("GET", path)
            assert reply.error == (401, "restricted_api_key")
            assert b"restricted to only send emails" in reply.raw
        assert full.call("GET", f"/emails/{email_id}").status == 200
    finally:
        sandbox.set_limit(3, "slow")


def test_a_key_can_be_limited_to_one_domain(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(key_domains={"re_free": "acme.test", "*": "other.test"}))
    assert Client(sandbox.url, "re_free").send([mail()]).status == 200
    for permissive in (False, True):
        reply = client.send([mail()], permissive=permissive)
        assert reply.status == 403
        assert reply.body == {
            "statusCode": 403,
            "message": "This API key is not authorized to send emails from acme.test",
        }


def test_unknown_paths_and_methods_are_refused(client: Client) -> None:
    assert client.call("GET", "/emails/batch").error == (405, "method_not_allowed")
    assert client.call("GET", "/emails").error == (405, "method_not_allowed")
    assert client.call("POST", "/emails/1").error == (405, "method_not_allowed")
    assert client.call("GET", "/contacts").error == (404, "not_found")
    assert client.call("GET", "/_sandbox/reset").error == (405, "method_not_allowed")
    assert client.call("POST", "/_sandbox/no").error == (404, "not_found")


def _until(clients: list[Client], status: int) -> Reply:
    """Call in turn until a call has that status."""
    replies: list[Reply] = []

    def called() -> bool:
        replies.append(clients[len(replies) % len(clients)].call("GET", "/domains"))
        return replies[-1].status == status

    wait_until(called)
    return replies[-1]


def test_keys_of_an_account_share_its_rate(sandbox: SandboxProcess) -> None:
    clients = [Client(sandbox.url, "re_slow_1"), Client(sandbox.url, "re_slow_2")]
    granted = clients[0].send([mail()])
    assert granted.status == 200
    assert granted.headers["ratelimit-limit"] == "3"
    assert granted.headers["ratelimit-remaining"] == "2"
    assert granted.headers["ratelimit-reset"] == "1"
    assert granted.headers["ratelimit-policy"] == "3;w=1"
    assert "retry-after" not in granted.headers
    refused = _until(clients, 429)
    assert refused.error == (429, "rate_limit_exceeded")
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["retry-after"] == "1"
    assert Client(sandbox.url).send([mail()]).status == 200


def test_a_refused_call_does_not_consume_its_key(sandbox: SandboxProcess) -> None:
    client = Client(sandbox.url, "re_slow_1")
    _until([client], 429)
    wait_until(lambda: client.send([mail()], key="k").status == 200)
    assert sandbox.stats().accepted == 1


def test_the_limit_can_change_at_runtime(client: Client, sandbox: SandboxProcess) -> None:
    assert "ratelimit-limit" not in client.send([mail()]).headers
    try:
        sandbox.set_limit(1, "default")
        assert _until([client], 429).headers["ratelimit-limit"] == "1"
        assert sandbox.stats().accounts["default"].limit == 1
    finally:
        sandbox.set_limit(None, "default")
    assert client.send([mail()]).status == 200


def test_rate_headers_can_be_wrong(sandbox: SandboxProcess) -> None:
    client = Client(sandbox.url, "re_slow_1")
    sandbox.set_faults(Faults(ratelimit_headers="wrong"))
    assert client.call("GET", "/domains").headers["ratelimit-limit"] == "3000"
    sandbox.set_faults(Faults(ratelimit_headers="garbled"))
    assert not client.call("GET", "/domains").headers["ratelimit-limit"].isdigit()
    sandbox.set_faults(Faults(ratelimit_headers="missing"))
    refused = _until([client], 429)
    assert not {"ratelimit-limit", "retry-after"} & set(refused.headers)


def test_quotas_count_recipients(sandbox: SandboxProcess) -> None:
    client = Client(sandbox.url, "re_free")
    accepted = client.send([mail(["a@x.test", "b@x.test"], cc="c@x.test")])
    assert accepted.headers["x-resend-daily-quota"] == "3"
    assert accepted.headers["x-resend-monthly-quota"] == "3"
    assert client.send([mail()]).error == (429, "daily_quota_exceeded")
    sandbox.advance(86_400)
    # The advance may cross into a new month too; then there is more room.
    new_month = client.call("GET", "/domains").headers["x-resend-monthly-quota"] == "0"
    second = client.send([mail(bcc=["c@x.test", "d@x.test"])])
    assert second.status == (200 if new_month else 429)
    if not new_month:
        assert second.error == (429, "monthly_quota_exceeded")
    sandbox.advance(QUOTA_NEXT_MONTH_S)
    assert client.send([mail()]).status == 200


def test_quotas_can_be_exhausted_as_a_fault(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(quota="daily"))
    assert client.send([mail()], key="k").error == (429, "daily_quota_exceeded")
    sandbox.set_faults(Faults(quota="monthly"))
    refused = client.send([mail()], key="k")
    assert refused.error == (429, "monthly_quota_exceeded")
    assert "x-resend-daily-quota" not in refused.headers
    sandbox.reset_faults()
    assert client.send([mail()], key="k").status == 200
