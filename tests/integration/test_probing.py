"""How a hold is tested, and what ends it: on a real Redis, without a provider."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from streamer.ledger import campaigns, suppression
from streamer.ledger.claims import Claims
from streamer.ledger.connection import Client, connect
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import BatchRef, By, Hold, Holds
from streamer.ledger.limiter import Limiter
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.provider.accounts import Accounts
from streamer.provider.client import ApiResponse, ResendClient
from streamer.settings import AccountSettings, DeliverySettings
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import Stack
from streamer.worker.account_states import AccountStateCache
from streamer.worker.build import make_sending
from streamer.worker.probing import Prober
from streamer.worker.ticker import Ticker
from streamer.worker.waiter import Waiter

QUOTA = ApiResponse(429, "monthly_quota_exceeded", "You have reached your quota.", {}, {})
KEY = ApiResponse(401, "invalid_api_key", "API key is invalid", {}, {})
DOMAIN = ApiResponse(
    403, "validation_error", "The acme.test domain is not verified. Please, add it.", {}, {}
)
BROKEN = ApiResponse(500, "application_error", "It broke.", {}, {})


class ProbedClient(ResendClient):
    """Answers the key of each batch as `answers` says, or takes it."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.answers: dict[str, ApiResponse] = {}

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse:
        self.called.append(idempotency_key)
        taken = ApiResponse(200, "", "", {"data": [{"id": "an-id"}]}, {})
        return self.answers.get(idempotency_key, taken)


class ProbeBench:
    """An account that is held for its quota, and batches of one mail that drew that."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RESEND_API_KEY", "re_key")
        self.account = f"account-{secrets.token_hex(4)}"
        self.organization = f"org-{secrets.token_hex(4)}"
        self.client = client
        self.holds = Holds(client)
        self.resend = ProbedClient()
        epoch, waiter = Epoch.establish(client, ()), Waiter()
        self.claims = Claims(client, epoch, 90_000)
        accounts = Accounts({self.account: AccountSettings(api_key_env="RESEND_API_KEY")})
        self.limiter = limiter = Limiter(client, epoch)
        self.account_states = AccountStateCache(self.holds, limiter, accounts, 30.0)
        sending = make_sending(
            DeliverySettings(),
            accounts,
            self.resend,
            self.claims,
            limiter,
            self.account_states,
            waiter,
        )
        self.prober = Prober(
            client,
            self.account_states,
            sending.slots,
            sending.sender,
            self.claims,
            waiter,
            Ticker(),
            30.0,
        )
        self.hold = Hold(
            by=By.ANSWER, reason="monthly_quota_exceeded", detail="", since=datetime.now(UTC)
        )

    def batch(
        self,
        number: int,
        *campaigns: str,
        sender: str = "acme.test",
        expires_at: datetime | None = None,
        untouched: bool = True,
    ) -> BatchRef:
        """A batch of a mail for each of the campaigns that drew the answer, and was laid down."""
        ref = BatchRef(self.organization, secrets.token_hex(12))
        address = f"user{number}@b.test"
        event = '{"organization_id":"%s","campaign_id":"%s","recipient_id":"r","email":"e"}'
        records = []
        for campaign in campaigns or ("spring",):
            record = Record(RecordId("t", 0, number), None, None, None, 0.0)
            record.attach_event(parse((event % (self.organization, campaign)).encode()))
            record.address = address
            records.append(record)
        payload = Payload([b'{"to":["%b"],"subject":"s"}' % address.encode()] * len(records))
        self.claims.pin(*ref, self.account, sender, records, payload, expires_at)
        if untouched:
            self.claims.defer(*ref, "")
        self.holds.put(self.account, None, self.hold, 0, ref, sender)
        return ref

    def test(self) -> dict[str | None, str]:
        """Test the hold once; answers what is held then, and for what."""
        turn = self.holds.due(self.account, None, 0)
        assert turn is not None
        self.account_states.refresh()
        self.prober.test(self.account, None, self.hold, turn.batch)
        held = self.holds.read([self.account])[self.account].holds
        return {domain: hold.reason for domain, hold in held.items()}


@pytest.fixture
def bench(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProbeBench]:
    client = connect(RedisSettings(url=stack.redis_url))
    yield ProbeBench(client, monkeypatch)
    client.close()


def test_an_answer_with_another_scope_replaces_the_hold(bench: ProbeBench) -> None:
    ref = bench.batch(1)
    bench.resend.answers[ref.batch_id] = DOMAIN
    assert bench.test() == {"acme.test": "domain_not_verified"}
    assert bench.holds.tests(bench.account, "acme.test").batches == [ref]
    stored = bench.claims.load(*ref)
    assert stored is not None
    assert stored.deferred


def test_an_answer_for_another_reason_replaces_the_hold(bench: ProbeBench) -> None:
    ref = bench.batch(1)
    bench.resend.answers[ref.batch_id] = QUOTA
    assert bench.test() == {None: "monthly_quota_exceeded"}
    bench.resend.answers[ref.batch_id] = KEY
    assert bench.test() == {None: "invalid_api_key"}


def test_batches_test_a_hold_in_turn(bench: ProbeBench) -> None:
    first, second = bench.batch(1), bench.batch(2)
    bench.resend.answers[first.batch_id] = QUOTA
    assert bench.test() == {None: "monthly_quota_exceeded"}
    assert bench.test() == {}
    assert bench.resend.called == [first.batch_id, second.batch_id]


def test_a_cancelled_campaign_tests_no_hold(bench: ProbeBench) -> None:
    bench.batch(1, "cancelled")
    bench.batch(2, "paused")
    other = bench.batch(3)
    campaigns.cancel(bench.client, bench.organization, "cancelled")
    campaigns.pause(bench.client, bench.organization, "paused")
    bench.resend.answers[other.batch_id] = QUOTA
    assert bench.test() == {None: "monthly_quota_exceeded"}
    assert bench.resend.called == [other.batch_id]
    assert bench.holds.tests(bench.account, None).batches == [other]
    # Without one that may test it, whatever comes next finds out.
    campaigns.cancel(bench.client, bench.organization, "spring")
    assert bench.test() == {}
    assert bench.resend.called == [other.batch_id]


def test_a_test_mails_no_recently_suppressed_address(bench: ProbeBench) -> None:
    bench.batch(1)
    suppression.add(bench.client, bench.organization, ["user1@b.test"])
    assert bench.test() == {}
    assert bench.resend.called == []


def test_a_test_sends_no_stopped_or_expired_mail(
    bench: ProbeBench,
) -> None:
    campaigns.cancel(bench.client, bench.organization, "cancelled")
    campaigns.pause(bench.client, bench.organization, "paused")
    bench.batch(1, "spring", "cancelled")
    bench.batch(2, "spring", "paused")
    bench.batch(3, expires_at=datetime.now(UTC))
    assert bench.test() == {}
    assert bench.resend.called == []
    # What may have been taken is finished as it was pinned.
    other = bench.batch(4, "spring", "cancelled", untouched=False)
    bench.resend.answers[other.batch_id] = QUOTA
    assert bench.test() == {None: "monthly_quota_exceeded"}
    fresh = bench.batch(5, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert bench.test() == {None: "monthly_quota_exceeded"}  # in turn
    assert bench.test() == {}
    assert bench.resend.called == [other.batch_id, other.batch_id, fresh.batch_id]


def test_a_held_sender_tests_no_account_hold(bench: ProbeBench) -> None:
    bench.batch(1)
    other = bench.batch(2, sender="other.test")
    operators = Hold(by=By.OPERATOR, reason="operator", detail="", since=datetime.now(UTC))
    bench.holds.put(bench.account, "acme.test", operators)
    assert bench.test() == {"acme.test": "operator"}
    assert bench.resend.called == [other.batch_id]


def test_a_failing_batch_is_not_used_for_tests_again(bench: ProbeBench) -> None:
    ref = bench.batch(1)
    bench.resend.answers[ref.batch_id] = BROKEN
    assert bench.test() == {None: "monthly_quota_exceeded"}
    assert bench.test() == {}
    assert bench.resend.called == [ref.batch_id]


def test_a_batch_rejected_for_the_account_is_not_tested_again(
    bench: ProbeBench,
) -> None:
    """Resend repeats that success for the key, whatever becomes of the trouble."""
    ref = bench.batch(1)
    errors = [{"index": 0, "message": "You have reached your monthly email sending quota."}]
    bench.resend.answers[ref.batch_id] = ApiResponse(200, "", "", {"errors": errors}, {})
    assert bench.test() == {None: "monthly_quota_exceeded"}
    assert bench.holds.tests(bench.account, None).batches == []
    assert bench.test() == {}
    assert bench.resend.called == [ref.batch_id]


def test_a_waiting_test_keeps_its_batch(
    bench: ProbeBench,
) -> None:
    """While the circuit is open slots are further apart than tests; all would wait in vain."""
    bench.batch(1)
    for _ in range(8):
        bench.limiter.record_failure(bench.account, "another", secrets.token_hex(8))
    tests = [threading.Thread(target=bench.test) for _ in range(2)]
    for test in tests:
        test.start()
    while all(test.is_alive() for test in tests):
        time.sleep(0.01)
    assert len(bench.resend.called) == 1
    assert not bench.holds.read([bench.account])[bench.account].holds
    for test in tests:
        test.join()
