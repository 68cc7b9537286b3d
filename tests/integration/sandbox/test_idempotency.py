"""One key, one sending."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from streamer.sandbox import Faults, SandboxProcess
from tests.integration.sandbox.client import Client, mail, wait_until


def test_the_same_key_and_bytes_repeat_the_first_response(
    client: Client, sandbox: SandboxProcess
) -> None:
    first = client.send([mail()], key="k")
    again = client.send([mail()], key="k")
    assert (again.status, again.raw) == (200, first.raw)
    stats = sandbox.stats()
    assert (stats.accepted, stats.accepted_twice, stats.replays, stats.calls) == (1, 0, 1, 2)


def test_different_bytes_conflict(client: Client, sandbox: SandboxProcess) -> None:
    client.send([mail()], key="k")
    assert client.send([mail(), mail()], key="k").error == (409, "invalid_idempotent_request")
    assert sandbox.stats().answers["409:invalid_idempotent_request"] == 1


def test_a_running_key_is_refused(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(hang_s=600))
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.send, [mail()], key="k")
        wait_until(lambda: sandbox.stats().accepted == 1)
        other = Client(sandbox.url)
        assert other.send([mail()], key="k").error == (409, "concurrent_idempotent_requests")
        assert other.send([mail()] * 2, key="k").error == (409, "invalid_idempotent_request")
        assert sandbox.stats().in_flight == 1
        sandbox.set_faults(Faults(hang_s=0))
        assert client.send([mail()], key="k").ids == first.result(30).ids
    assert sandbox.stats().accepted == 1


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_of_invalid_length_is_refused(client: Client, key: str) -> None:
    assert client.send([mail()], key=key).error == (400, "invalid_idempotency_key")


def test_keys_expire_by_the_servers_clock(client: Client, sandbox: SandboxProcess) -> None:
    first = client.send([mail()], key="k" * 256)
    sandbox.advance(86_000)
    assert client.send([mail()], key="k" * 256).ids == first.ids
    sandbox.advance(400)
    assert client.send([mail()], key="k" * 256).ids != first.ids
    assert sandbox.stats().accepted_twice == 1


def test_errors_are_not_remembered(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(error_before_percent=100))
    assert client.send([mail()], key="k").status == 500
    sandbox.reset_faults()
    assert client.send([mail(), mail()], key="k").status == 200


def test_validation_mode_and_api_key_are_not_part_of_the_key(
    sandbox: SandboxProcess,
) -> None:
    one, two = Client(sandbox.url, "re_slow_1"), Client(sandbox.url, "re_slow_2")
    first = one.send([mail()], key="k")
    assert one.send([mail()], key="k", permissive=True).ids == first.ids
    assert two.send([mail()], key="k").ids == first.ids
