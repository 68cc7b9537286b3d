"""One key, one sending."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from streamer.sandbox import AccountSpec, Faults, Rules, SandboxProcess
from tests.integration.sandbox.client import Client, mail, wait_until


def test_the_same_key_and_bytes_give_the_first_answer_again(
    client: Client, sandbox: SandboxProcess
) -> None:
    first = client.send([mail()], key="k")
    again = client.send([mail()], key="k")
    assert (again.status, again.raw) == (200, first.raw)
    stats = sandbox.stats()
    assert (stats.accepted, stats.accepted_twice, stats.replays, stats.calls) == (1, 0, 1, 2)


def test_other_bytes_conflict(client: Client, sandbox: SandboxProcess) -> None:
    client.send([mail()], key="k")
    assert client.send([mail(), mail()], key="k").error == (409, "invalid_idempotent_request")
    assert sandbox.stats().answers["409:invalid_idempotent_request"] == 1


def test_a_key_that_is_still_running(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.order(Faults(hang_s=600))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.send, [mail()], key="k")
        wait_until(lambda: sandbox.stats().accepted == 1)
        other = Client(sandbox.url)
        assert other.send([mail()], key="k").error == (409, "concurrent_idempotent_requests")
        assert other.send([mail()] * 2, key="k").error == (409, "invalid_idempotent_request")
        assert sandbox.stats().in_flight == 1
        sandbox.order(Faults(hang_s=0))
        assert client.send([mail()], key="k").ids == first.result(30).ids
    assert sandbox.stats().accepted == 1


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_of_the_wrong_length(client: Client, key: str) -> None:
    assert client.send([mail()], key=key).error == (400, "invalid_idempotency_key")


def test_keys_expire_by_the_clock_of_the_server(client: Client, sandbox: SandboxProcess) -> None:
    first = client.send([mail()], key="k" * 256)
    sandbox.advance(86_000)
    assert client.send([mail()], key="k" * 256).ids == first.ids
    sandbox.advance(400)
    assert client.send([mail()], key="k" * 256).ids != first.ids
    assert sandbox.stats().accepted_twice == 1
    assert [r.times for r in sandbox.repeats()] == [2]


def test_keys_expire_on_order(client: Client, sandbox: SandboxProcess) -> None:
    client.send([mail()], key="k")
    sandbox.expire_keys()
    assert client.send([mail(), mail()], key="k").status == 200


def test_errors_are_not_remembered(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.order(Faults(error_before_percent=100))
    assert client.send([mail()], key="k").status == 500
    sandbox.calm()
    assert client.send([mail(), mail()], key="k").status == 200


def test_errors_are_remembered_where_the_rules_say_so() -> None:
    with SandboxProcess(limit=None, rules=Rules(remember_errors=True)) as sandbox:
        client = Client(sandbox.url)
        assert client.send([mail("bad")], key="invalid").status == 422
        assert client.send([mail("bad")], key="invalid").status == 422
        assert client.send([mail()], key="invalid").error == (409, "invalid_idempotent_request")
        sandbox.order(Faults(error_after_percent=100))
        assert client.send([mail()], key="failed").status == 500
        sandbox.order(Faults(error_after_percent=0, quota="daily"))
        assert client.send([mail()], key="failed").error == (500, "application_error")
        assert client.send([mail()], key="quota").status == 429
        sandbox.calm()
        assert client.send([mail()], key="quota").status == 200
        assert sandbox.stats().accepted == 2


def test_scope_and_fingerprint_can_be_played_either_way(client: Client) -> None:
    assert client.send([mail()], key="k").status == 200
    assert client.send([mail()], key="k", permissive=True).status == 200
    rules = Rules(key_scope="api_key", validation_mode_in_fingerprint=True)
    accounts = [AccountSpec(name="a", keys=("re_1", "re_2"), limit=None)]
    with SandboxProcess(accounts=accounts, rules=rules) as sandbox:
        one, two = Client(sandbox.url, "re_1"), Client(sandbox.url, "re_2")
        first = one.send([mail()], key="k")
        assert two.send([mail()], key="k").ids != first.ids
        conflict = one.send([mail()], key="k", permissive=True)
        assert conflict.error == (409, "invalid_idempotent_request")
    with SandboxProcess(accounts=accounts) as sandbox:
        one, two = Client(sandbox.url, "re_1"), Client(sandbox.url, "re_2")
        assert one.send([mail()], key="k").ids == two.send([mail()], key="k").ids
