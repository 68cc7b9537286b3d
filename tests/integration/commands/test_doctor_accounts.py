"""`doctor`: accounts' rates, holds, circuits and last responses, and organizations without one."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from redis import exceptions

from streamer.flow.failure_stats import OUTAGE_FAILURES, circuit_pause_s
from streamer.ledger import campaigns, responses
from streamer.ledger.claims import Claims
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, By, Hold, Holds
from streamer.ledger.limiter import Limiter, Successes
from streamer.model.campaign import Definition
from streamer.model.disposition import Suspended
from streamer.model.payload import Payload
from streamer.model.result import BatchResult
from streamer.provider.accounts import Accounts
from streamer.provider.client import ResendClient
from streamer.sandbox import DEFAULT_KEY, Faults, SandboxProcess
from streamer.settings import AccountSettings, DeliverySettings
from streamer.worker.account_states import AccountStateCache
from streamer.worker.build import make_sending
from streamer.worker.clock import WorkerClock
from streamer.worker.pinned import PinnedBatch
from streamer.worker.waiter import Waiter
from tests.kit.harness import Harness, wait_until
from tests.kit.operator import NOWHERE, CommandRunner

Findings = Mapping[str, dict[str, str]]

SINCE = datetime(2026, 11, 24, 3, 40, tzinfo=UTC)


@pytest.fixture
def own_harness(make_redis: Callable[..., object], make_harness: Callable[..., Harness]) -> Harness:
    """A world with accounts of its own."""
    return make_harness(redis=make_redis())


def doctor(harness: Harness, *options: str, code: int = 0, **changes: str) -> str:
    """Run `doctor` on the world, with changed settings."""
    environment = {
        "STREAMER_KAFKA__BOOTSTRAP_SERVERS": harness.bootstrap_servers,
        "STREAMER_KAFKA__GROUP_ID": harness.name,
        "STREAMER_TOPICS": harness.topics.model_dump_json(),
        "STREAMER_REDIS__URL": harness.redis_url,
        "STREAMER_UNSUBSCRIBE__BASE_URL": "https://acme.test/u",
        "STREAMER_UNSUBSCRIBE__SECRET": "hidden-0123456789",
        "RESEND_API_KEY": DEFAULT_KEY,
        "RESEND_API_URL": harness.sandbox.url,
        **changes,
    }
    operator = CommandRunner(environment, harness.organization, "spring", harness.topics)
    result = operator.run("doctor", *options, code=code)
    assert "hidden" not in result.output
    return result.stdout


def findings(harness: Harness, code: int = 0, **changes: str) -> Findings:
    return {
        each["subject"]: each
        for each in orjson.loads(doctor(harness, "--json", code=code, **changes))
    }


def hold(harness: Harness, domain: str | None = None, **fields: object) -> None:
    given = {"by": By.ANSWER, "detail": "Its words.", "since": SINCE, **fields}
    Holds(harness.redis).put("default", domain, Hold.model_validate(given))


def limiter(harness: Harness) -> Limiter:
    return Limiter(harness.redis, Epoch.establish(harness.redis, ()))


def test_doctor_reports_an_unused_account(own_harness: Harness) -> None:
    found = findings(own_harness)
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert found["account default holds"]["text"] == "none"
    assert found["account default rate"]["text"] == (
        "10 calls per second across all workers: requests_per_second is 10, "
        "limit at Resend not reported yet"
    )


@pytest.mark.parametrize(
    ("ceiling", "named", "result"), [("10", 2, "2"), ("1.5", 2, "1.5"), ("0", 14, "14")]
)
def test_doctor_reports_the_effective_rate(
    own_harness: Harness, ceiling: str, named: int, result: str
) -> None:
    limiter(own_harness).set_advertised_limit("default", named)
    accounts = orjson.dumps(
        {"default": {"api_key_env": "RESEND_API_KEY", "requests_per_second": float(ceiling)}}
    ).decode()
    text = findings(own_harness, STREAMER_ACCOUNTS=accounts)["account default rate"]["text"]
    assert text.startswith(f"{result} calls per second")
    assert text.endswith(f"limit at Resend {named}")


@pytest.mark.parametrize(
    ("reason", "level", "mend"),
    [
        ("daily_quota_exceeded", "warning", "ends by itself"),
        ("outage", "warning", "ends by itself"),
        ("monthly_quota_exceeded", "failed", "upgrade the plan"),
        ("suspended_api_key", "failed", "provide a key"),
        ("invalid_api_key", "failed", "provide a key"),
        ("http_401", "failed", "see its message"),
        ("email_above_quota", "failed", "usage"),
        ("untrusted_certificate", "failed", "REQUESTS_CA_BUNDLE"),
        ("rate_limit_exceeded", "warning", "requests_per_second"),
        ("not_found", "failed", "RESEND_API_URL"),
    ],
)
def test_doctor_suggests_a_fix_for_each_hold(
    own_harness: Harness, reason: str, level: str, mend: str
) -> None:
    hold(own_harness, reason=reason)
    found = findings(own_harness, code=int(level == "failed"))["account default hold"]
    assert found["level"] == level
    for words in (reason, "since 2026-11-24T03:40:00+00:00", "Its words."):
        assert words in found["text"]
    assert mend in found["mend"]
    if level == "failed":
        assert found["mend"].endswith("streamer account release default")


def test_doctor_reports_the_end_of_each_hold(own_harness: Harness) -> None:
    hold(own_harness, reason="daily_quota_exceeded", until=SINCE + timedelta(hours=2))
    hold(own_harness, "new.test", reason="domain_not_verified")
    hold(own_harness, "other.test", reason="domain_not_allowed")
    hold(own_harness, "old.test", by=By.OPERATOR, reason="operator")
    found = findings(own_harness)
    assert "until 2026-11-24T05:40:00+00:00" in found["account default hold"]["text"]
    new = found["account default hold of new.test"]
    assert "until a test call succeeds" in new["text"]
    assert "verify the domain" in new["mend"]
    assert new["mend"].endswith("streamer account release default --domain new.test")
    other = found["account default hold of other.test"]
    assert "allow the key to send from the domain" in other["mend"]
    assert "verify" not in other["mend"]
    old = found["account default hold of old.test"]
    assert "until released by hand" in old["text"]
    assert old["mend"] == "streamer account release default --domain old.test"
    assert {each["level"] for name, each in found.items() if " hold" in name} == {"warning"}


def test_doctor_reports_the_circuit(own_harness: Harness) -> None:
    one = limiter(own_harness)
    one.record_failure("default", "b", "the first call")
    closed = findings(own_harness)["account default circuit"]
    assert closed["level"] == "ok"
    assert "the last 1 calls failed" in closed["text"]
    for number in range(OUTAGE_FAILURES):
        one.record_failure("default", "b", f"call {number}")
    found = findings(own_harness)["account default circuit"]
    assert found["level"] == "warning"
    assert f"the last {OUTAGE_FAILURES + 1} calls failed" in found["text"]
    assert f"every {circuit_pause_s(OUTAGE_FAILURES + 1):g} s" in found["text"]
    one.record_success("default", Successes("a worker", 0, 1), after_failures=True)
    assert findings(own_harness)["account default circuit"]["level"] == "ok"


def test_doctor_reports_the_responses_workers_got(
    own_harness: Harness, sandbox: SandboxProcess
) -> None:
    """Failed responses are listed by name, latest first; accepted calls are not recorded."""
    own_harness.settings["STREAMER_DELIVERY__HOLD_PROBE_S"] = "1"
    own_harness.produce(own_harness.event(number) for number in range(20))
    with own_harness.worker():
        own_harness.await_resolutions(20, 30)
        assert responses.read(own_harness.redis, ["default"]) == {"default": []}
        sandbox.set_faults(Faults(outage="unavailable"))
        own_harness.produce(own_harness.event(number) for number in range(20, 40))
        wait_until(
            lambda: responses.read(own_harness.redis, ["default"])["default"],
            20,
            "the failure is recorded",
        )
        sandbox.set_faults(Faults(outage="none", quota="monthly"))
        wait_until(
            lambda: Holds(own_harness.redis).read(["default"])["default"].holds,
            20,
            "the account is held",
        )
        found = findings(own_harness, 1)
        assert found["account default hold"]["level"] == "failed"
        sandbox.reset_faults()
        own_harness.await_resolutions(40, 30)
    seen = responses.read(own_harness.redis, ["default"])["default"]
    assert [answer.result for answer in seen] == ["monthly_quota_exceeded", "service_unavailable"]
    text = doctor(own_harness)
    assert "monthly_quota_exceeded at " in text
    assert "You have reached your monthly email sending quota." in text
    assert "account default holds: none" in text
    own_harness.assert_exactly_once()


def test_failing_to_note_a_response_fails_no_call(
    own_harness: Harness, sandbox: SandboxProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute(Limiter):
        def note(self, account: str, result: str, message: str) -> None:
            noted.append(result)
            raise exceptions.ConnectionError("Redis is gone")

    noted: list[str] = []
    monkeypatch.setenv("RESEND_API_KEY", DEFAULT_KEY)
    epoch = Epoch.establish(own_harness.redis, ())
    mute, claims = Mute(own_harness.redis, epoch), Claims(own_harness.redis, epoch, 90_000)
    accounts = Accounts({"default": AccountSettings(api_key_env="RESEND_API_KEY")})
    account_states = AccountStateCache(Holds(own_harness.redis), mute, accounts, 1.0)
    client = ResendClient(sandbox.url, 10.0)
    sender = make_sending(
        DeliverySettings(), accounts, client, claims, mute, account_states, Waiter()
    ).sender
    mail = orjson.dumps({"from": "a@acme.test", "to": "b@b.test", "subject": "s", "text": "t"})
    ref, payload = BatchRef("acme", "b1"), Payload([mail])
    batch = PinnedBatch(ref, "default", "acme.test", payload, "", WorkerClock().boottime())
    sandbox.set_faults(Faults(quota="monthly"))
    assert isinstance(sender.test_hold(batch), Suspended)
    sandbox.reset_faults()
    assert isinstance(sender.test_hold(batch), BatchResult)
    assert noted == ["monthly_quota_exceeded"]


def test_old_responses_are_not_reported(own_harness: Harness) -> None:
    old_ms = round((datetime.now(UTC) - timedelta(days=2)).timestamp() * 1000)
    yesterday_ms = round((datetime.now(UTC) - timedelta(hours=22)).timestamp() * 1000)
    responses.note(own_harness.redis, "default", "application_error", "It broke.")
    key = "{account:default}:answers"
    own_harness.redis.hset(key, "service_unavailable", f"{old_ms} Long ago.")
    own_harness.redis.hset(key, "http_418", f"{yesterday_ms} ")
    found = findings(own_harness)["account default answers"]
    assert found["level"] == "warning"
    assert "application_error at" in found["text"]
    assert "(It broke.); http_418 at" in found["text"]
    assert "Long ago" not in found["text"]
    own_harness.redis.hdel(key, "application_error")
    assert findings(own_harness)["account default answers"]["level"] == "ok"


def test_doctor_warns_of_organizations_without_account(own_harness: Harness) -> None:
    fields = {"from": "a@b.cc", "subject": "s", "text": "t"}
    for number in range(14):
        campaigns.create(
            own_harness.redis,
            Definition.model_validate(
                {"organization_id": f"org-{number:02}", "campaign_id": "c", **fields}
            ),
        )
    assert findings(own_harness)["organizations"]["level"] == "ok"
    served = ["org-00", "org-03"]
    accounts = {"default": {"api_key_env": "RESEND_API_KEY", "organizations": served}}
    found = findings(own_harness, STREAMER_ACCOUNTS=orjson.dumps(accounts).decode())[
        "organizations"
    ]
    assert found["level"] == "warning"
    assert "org-01, org-02, org-04" in found["text"]
    assert "and 2 more" in found["text"]
    assert "org-00" not in found["text"]
    assert "accounts.NAME.organizations" in found["mend"]


def test_doctor_reports_a_missing_redis_once(own_harness: Harness) -> None:
    found = findings(own_harness, 1, STREAMER_REDIS__URL=f"redis://{NOWHERE}/0")
    assert found["redis"]["level"] == "failed"
    assert not any(subject.startswith("account default ") for subject in found)
