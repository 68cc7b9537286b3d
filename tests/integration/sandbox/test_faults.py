"""Every fault: what the caller sees, and whether mails count as sent."""

from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
import urllib3

from streamer.sandbox import Faults, Play, SandboxError, SandboxProcess
from tests.integration.sandbox.client import INVALID_TO, Client, mail, wait_until


@pytest.mark.parametrize(
    ("faults", "error"),
    [
        (Faults(error_before_percent=100), (500, "application_error")),
        (Faults(error_before_percent=100, error_status=503), (503, "service_unavailable")),
        (Faults(outage="unavailable"), (503, "service_unavailable")),
        (Faults(unverified_domains=frozenset({"acme.test"})), (403, "validation_error")),
        (Faults(unverified_domains=frozenset({"*"})), (403, "validation_error")),
        (Faults(fail_addresses=frozenset({"ann@example.com"})), (500, "application_error")),
        (Faults(fail_addresses=frozenset({"@example.com"})), (500, "application_error")),
        (Faults(reject_addresses=frozenset({"ann@example.com"})), (422, "validation_error")),
        (
            Faults(reject_addresses=frozenset({"ann@example.com"}), reject_status=400),
            (400, "validation_error"),
        ),
        (
            Faults(reject_addresses=frozenset({"ann@example.com"}), reject_status=413),
            (413, "validation_error"),
        ),
    ],
)
def test_a_refusal_sends_nothing_and_is_not_remembered(
    client: Client, sandbox: SandboxProcess, faults: Faults, error: tuple[int, str]
) -> None:
    mails = [mail("bob@other.test"), mail()]
    sandbox.set_faults(faults)
    assert client.send(mails, key="k", permissive=True).error == error
    stats = sandbox.stats()
    assert stats.accepted == 0
    assert stats.answers == {f"{error[0]}:{error[1]}": 1}
    sandbox.reset_faults()
    assert client.send(mails, key="k", permissive=True).status == 200


def test_unnamed_addresses_are_accepted(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(
        Faults(
            fail_addresses=frozenset({"@bad.test"}),
            reject_addresses=frozenset({"bob@example.com"}),
            unverified_domains=frozenset({"example.com"}),
            refused=frozenset({"eve@example.com"}),
        )
    )
    assert client.send([mail()]).status == 200


@pytest.mark.parametrize("listed", ["eve@example.com", "@example.com"])
def test_a_refused_address_fails_its_item(
    client: Client, sandbox: SandboxProcess, listed: str
) -> None:
    sandbox.set_faults(Faults(refused=frozenset({listed})))
    mails = [mail("ann@other.test"), mail("Eve <EVE@example.com>")]
    permissive = orjson.loads(client.send(mails, permissive=True).raw)
    assert len(permissive["data"]) == 1
    assert [e["index"] for e in permissive["errors"]] == [1]
    assert permissive["errors"][0]["message"] != INVALID_TO
    assert client.send(mails).error == (422, "validation_error")


@pytest.mark.parametrize("status", [500, 503])
def test_an_error_after_acceptance(client: Client, sandbox: SandboxProcess, status: int) -> None:
    sandbox.set_faults(Faults.model_validate({"error_after_percent": 100, "error_status": status}))
    assert client.send([mail()], key="k").status == status
    accepted = sandbox.acceptances()
    assert [a.idempotency_key for a in accepted] == ["k"]
    sandbox.reset_faults()
    assert client.send([mail()], key="k").ids == [accepted[0].email_id]
    assert sandbox.stats().accepted == 1


@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_responds_with_a_page(
    client: Client, sandbox: SandboxProcess, status: int
) -> None:
    sandbox.set_faults(Faults.model_validate({"error_before_percent": 100, "error_status": status}))
    reply = client.send([mail()])
    assert reply.status == status
    assert reply.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("faults", [Faults(outage="drop"), Faults(cut_before_percent=100)])
def test_a_connection_cut_before_acceptance(
    client: Client, sandbox: SandboxProcess, faults: Faults
) -> None:
    sandbox.set_faults(faults)
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.send([mail()], key="k")
    wait_until(lambda: sandbox.stats().answers == {"cut": 1})
    assert sandbox.stats().accepted == 0


@pytest.mark.parametrize("faults", [Faults(cut_after_percent=100), Faults(half_body_percent=100)])
def test_a_connection_cut_after_acceptance(
    client: Client, sandbox: SandboxProcess, faults: Faults
) -> None:
    sandbox.set_faults(faults)
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.send([mail()], key="k")
    sandbox.reset_faults()
    again = client.send([mail()], key="k")
    assert [a.email_id for a in sandbox.acceptances()] == again.ids


def test_a_broken_body(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(broken_body_percent=100))
    reply = client.send([mail()], key="k")
    assert reply.status == 200
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(reply.raw)
    sandbox.reset_faults()
    assert client.send([mail()], key="k").status == 200
    assert sandbox.stats().accepted == 1


def test_a_missing_id(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(wrong_ids_percent=100))
    assert len(client.send([mail(), mail()], key="k").ids) == 1
    sandbox.reset_faults()
    assert len(client.send([mail(), mail()], key="k").ids) == 2


def test_percentages_are_of_calls(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(error_before_percent=50))
    statuses = [client.send([mail()]).status for _ in range(100)]
    assert 20 < statuses.count(500) < 80
    assert set(statuses) == {200, 500}


def test_a_disconnected_caller_does_not_undo_its_call(sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(latency_ms=200))
    impatient = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(0.02))
    with pytest.raises(urllib3.exceptions.TimeoutError):
        impatient.request(
            "POST",
            sandbox.url + "/emails/batch",
            body=orjson.dumps([mail()]),
            headers={"User-Agent": "tests", "Authorization": "Bearer re_sandbox"},
        )
    impatient.clear()
    wait_until(lambda: sandbox.stats().accepted == 1)


def test_latency_and_jitter_delay_calls(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(latency_ms=50, jitter_ms=10))
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(client.send, [mail()])
        assert waiter.result(30).status == 200


def test_faults_can_be_limited_to_one_account(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.set_faults(Faults(outage="unavailable"), account="free")
    assert Client(sandbox.url, "re_free").send([mail()]).status == 503
    assert client.send([mail()]).status == 200
    accounts = sandbox.stats().accounts
    assert accounts["free"].answers == {"503:service_unavailable": 1}
    assert accounts["default"].answers == {"200": 1}


def test_invalid_faults_are_refused(client: Client, sandbox: SandboxProcess) -> None:
    with pytest.raises(SandboxError, match="unknown account 'nobody'"):
        sandbox.set_faults(Faults(hang_s=1), account="nobody")
    body = orjson.dumps({"faults": {"error_before_percent": 101}})
    as_json = {"content_type": "application/json; charset=utf-8"}
    assert client.call("POST", "/_sandbox/faults", body, **as_json).error == (422, "invalid_order")
    assert client.send([mail()]).status == 200


PAGE = "<html><body><h1>Bad Request</h1></body></html>"
HTML = {"content-type": "text/html; charset=UTF-8", "server": "gate"}


def test_a_scripted_response_is_returned_verbatim(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.play(Play(status=400, headers=HTML, body=PAGE, times=2), Play(status=599, times=1))
    for _ in range(2):
        reply = client.send([mail()], key="k")
        assert (reply.status, reply.raw) == (400, PAGE.encode())
        assert HTML.items() <= reply.headers.items()
    assert client.send([mail()], key="k").status == 599
    assert client.send([mail()], key="k").status == 200
    stats = sandbox.stats()
    assert (stats.accepted, stats.replays) == (1, 0)
    assert stats.answers == {"400:played": 2, "599:played": 1, "200": 1}


def test_a_scripted_response_can_be_limited_to_a_key_or_account(
    client: Client, sandbox: SandboxProcess
) -> None:
    dead = Play(status=403, body='{"message":"API key is not active"}', api_key="re_slow_2")
    sandbox.play(dead)
    sandbox.play(Play(status=402), account="free")
    other = {key: Client(sandbox.url, key).send([mail()]).status for key in KEYS}
    assert other == {"re_sandbox": 200, "re_slow_1": 200, "re_slow_2": 403, "re_free": 402}
    sandbox.reset_faults()
    assert Client(sandbox.url, "re_slow_2").send([mail()]).status == 200
    with pytest.raises(SandboxError, match="unknown account 'nobody'"):
        sandbox.play(dead, account="nobody")


KEYS = ("re_sandbox", "re_slow_1", "re_slow_2", "re_free")


def test_a_scripted_response_can_be_limited_to_a_share_of_calls(
    client: Client, sandbox: SandboxProcess
) -> None:
    sandbox.play(Play(status=451, percent=50))
    statuses = [client.send([mail()]).status for _ in range(60)]
    assert 15 < statuses.count(451) < 45


def test_a_scripted_response_can_follow_acceptance(client: Client, sandbox: SandboxProcess) -> None:
    sandbox.play(Play(status=502, headers=HTML, body=PAGE, accepts=True, times=1))
    assert client.send([mail()], key="k").status == 502
    assert sandbox.stats().accepted == 1
    assert client.send([mail()], key="k").status == 200
    assert (sandbox.stats().accepted, sandbox.stats().replays) == (1, 1)


@pytest.mark.parametrize("cut_at", [0, 0.5])
def test_a_scripted_response_can_be_cut(
    client: Client, sandbox: SandboxProcess, cut_at: float
) -> None:
    sandbox.play(Play(status=422, body=PAGE, cut_at=cut_at, times=1))
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.send([mail()])
    assert client.send([mail()]).status == 200
