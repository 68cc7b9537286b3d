"""`doctor`: findings and suggested fixes."""

from collections.abc import Callable, Mapping

import orjson
import pytest

from streamer.ledger import keys
from streamer.ledger.connection import Client, connect
from streamer.sandbox import DEFAULT_KEY, Faults, SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import RedisServer
from tests.kit.operator import NOWHERE, CommandRunner


def findings(
    operator: CommandRunner, env: Mapping[str, str], code: int = 0
) -> dict[str, dict[str, str]]:
    result = operator.run("doctor", "--json", code=code, env=env)
    assert "hidden" not in result.output
    return {finding["subject"]: finding for finding in orjson.loads(result.stdout)}


@pytest.fixture
def good(operator: CommandRunner, sandbox: SandboxProcess, client: Client) -> dict[str, str]:
    operator.run("topics", "create", "--partitions", "1")
    # Left behind by other tests, which share the account.
    of_account = (keys.account_health, keys.account_holds, keys.account_responses)
    client.delete(*(key("default") for key in of_account))
    return {
        "RESEND_API_URL": sandbox.url,
        "RESEND_API_KEY": DEFAULT_KEY,
        "STREAMER_UNSUBSCRIBE__BASE_URL": "https://acme.test/u",
        "STREAMER_UNSUBSCRIBE__SECRET": "hidden-0123456789",
    }


def test_doctor_reports_ok(operator: CommandRunner, good: dict[str, str]) -> None:
    found = findings(operator, good)
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert {
        "kafka",
        "offsets",
        "transactions",
        "redis",
        "redis clock",
        "account default",
    } <= found.keys()
    text = operator.run("doctor", env=good).stdout
    assert len(text.splitlines()) == len(found)


def test_doctor_reports_what_is_missing(
    operator: CommandRunner, good: dict[str, str], sandbox: SandboxProcess
) -> None:
    found = findings(
        operator,
        good
        | {
            "STREAMER_UNSUBSCRIBE__SECRET": "",
            "STREAMER_TOPICS__PARKED": "not-there",
            "RESEND_API_KEY": "re_hidden",
            "STREAMER_MAIL__MAX_BYTES": "9000000",
            "STREAMER_DELIVERY__SAFE_WINDOW_S": "86300",
        },
        1,
    )
    levels = {subject: finding["level"] for subject, finding in found.items()}
    assert levels["unsubscribe"] == "failed"
    assert levels["topic not-there"] == "failed"
    assert found["topic not-there"]["mend"] == "streamer topics create"
    assert levels["account default"] == "failed"
    assert levels["sizes"] == "failed"
    assert levels["delivery.safe_window_s"] == "warning"


def test_doctor_accepts_a_send_only_key(
    operator: CommandRunner, good: dict[str, str], sandbox: SandboxProcess
) -> None:
    sandbox.set_faults(Faults(sending_only=frozenset({"*"})))
    assert findings(operator, good)["account default"]["level"] == "ok"


def test_doctor_reports_an_organization_with_two_accounts(
    operator: CommandRunner, good: dict[str, str]
) -> None:
    account = {"api_key_env": "RESEND_API_KEY", "organizations": ["acme"]}
    accounts = orjson.dumps({"one": account, "two": account}).decode()
    found = findings(operator, good | {"STREAMER_ACCOUNTS": accounts}, 1)
    assert "acme is listed in accounts one and two" in found["accounts"]["text"]


def test_doctor_warns_of_a_shared_key(operator: CommandRunner, good: dict[str, str]) -> None:
    account = {"api_key_env": "RESEND_API_KEY"}
    accounts = orjson.dumps(
        {"one": {**account, "organizations": ["acme"]}, "two": account}
    ).decode()
    found = findings(operator, good | {"STREAMER_ACCOUNTS": accounts})
    assert "account one key" not in found
    assert found["account two key"]["level"] == "warning"
    assert "account one" in found["account two key"]["text"]


def test_doctor_reports_an_inactive_key(
    operator: CommandRunner, good: dict[str, str], sandbox: SandboxProcess
) -> None:
    sandbox.set_faults(Faults(refuse_key="restricted_api_key"))
    found = findings(operator, good, 1)["account default"]
    assert found["level"] == "failed"
    assert "not active" in found["text"]


def test_doctor_reports_an_unusable_proxy(operator: CommandRunner, good: dict[str, str]) -> None:
    url = "https://resend.test"
    env = good | {"RESEND_API_URL": url, "HTTPS_PROXY": "socks5://ann:hidden@127.0.0.1:1"}
    assert "HTTPS_PROXY" in findings(operator, env, 1)["resend"]["text"]


def test_doctor_reports_unreachable_services(operator: CommandRunner, good: dict[str, str]) -> None:
    url = f"redis://:hidden@{NOWHERE}/0"
    found = findings(
        operator,
        good
        | {
            "STREAMER_KAFKA__BOOTSTRAP_SERVERS": NOWHERE,
            "STREAMER_REDIS__URL": url,
            "RESEND_API_URL": f"http://{NOWHERE}",
        },
        1,
    )
    for subject in ("kafka", "redis", "account default"):
        assert found[subject]["level"] == "failed"
        assert NOWHERE in found[subject]["text"]


def test_doctor_reports_a_redis_that_loses_data(
    operator: CommandRunner, good: dict[str, str], make_redis: Callable[[], RedisServer]
) -> None:
    own = make_redis()
    client = connect(RedisSettings(url=own.url))
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("appendonly", "no")
    client.close()
    found = findings(operator, good | {"STREAMER_REDIS__URL": own.url}, 1)
    assert found["redis eviction"]["level"] == "failed"
    assert found["redis durability"]["level"] == "warning"
