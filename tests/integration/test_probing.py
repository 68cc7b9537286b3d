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
from streamer.model.record import Coordinates, Record
from streamer.provider.accounts import Accounts
from streamer.provider.client import Answer, ResendClient
from streamer.settings import Account, Delivery
from streamer.settings import Redis as RedisSettings
from streamer.stack import Stack
from streamer.worker.build import make_sending
from streamer.worker.holding import Holding
from streamer.worker.probing import Prober
from streamer.worker.waiting import Waiting

QUOTA = Answer(429, "monthly_quota_exceeded", "You have reached your quota.", {}, {})
KEY = Answer(401, "invalid_api_key", "API key is invalid", {}, {})
DOMAIN = Answer(
    403, "validation_error", "The acme.test domain is not verified. Please, add it.", {}, {}
)
BROKEN = Answer(500, "application_error", "It broke.", {}, {})


class ScriptedClient(ResendClient):
    """Answers the key of each batch as `answers` says, or takes it."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.answers: dict[str, Answer] = {}

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_leave: Callable[[], bool]
    ) -> Answer:
        self.called.append(idempotency_key)
        taken = Answer(200, "", "", {"data": [{"id": "an-id"}]}, {})
        return self.answers.get(idempotency_key, taken)


class Ground:
    """An account that is held for its quota, and batches of one mail that drew that."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RESEND_API_KEY", "re_key")
        self.account = f"account-{secrets.token_hex(4)}"
        self.organization = f"org-{secrets.token_hex(4)}"
        self.client = client
        self.holds = Holds(client)
        self.resend = ScriptedClient()
        epoch, waiting = Epoch.establish(client, ()), Waiting()
        self.claims = Claims(client, epoch, 90_000)
        accounts = Accounts({self.account: Account(api_key_env="RESEND_API_KEY")})
        self.limiter = limiter = Limiter(client, epoch)
        self.holding = Holding(self.holds, limiter, accounts, 30.0)
        sending = make_sending(
            Delivery(), accounts, self.resend, self.claims, limiter, self.holding, waiting
        )
        self.prober = Prober(
            client, self.holding, sending.slots, sending.sender, self.claims, waiting, 30.0
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
            record = Record(Coordinates("t", 0, number), None, None, None, 0.0)
            record.take(parse((event % (self.organization, campaign)).encode()))
            record.address = address
            records.append(record)
        payload = Payload([b'{"to":["%b"],"subject":"s"}' % address.encode()] * len(records))
        self.claims.pin(*ref, self.account, sender, records, payload, expires_at)
        if untouched:
            self.claims.lay_down(*ref, "")
        self.holds.put(self.account, None, self.hold, 0, ref, sender)
        return ref

    def test(self) -> dict[str | None, str]:
        """Test the hold once; answers what is held then, and for what."""
        turn = self.holds.due(self.account, None, 0)
        assert turn is not None
        self.holding.refresh()
        self.prober.test(self.account, None, self.hold, turn.batch)
        held = self.holds.read([self.account])[self.account].holds
        return {domain: hold.reason for domain, hold in held.items()}


@pytest.fixture
def ground(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    client = connect(RedisSettings(url=stack.redis_url))
    yield Ground(client, monkeypatch)
    client.close()


def test_an_answer_of_another_scope_ends_the_hold_and_puts_its_own(ground: Ground) -> None:
    ref = ground.batch(1)
    ground.resend.answers[ref.batch_id] = DOMAIN
    assert ground.test() == {"acme.test": "domain_not_verified"}
    assert ground.holds.tests(ground.account, "acme.test").batches == [ref]
    stored = ground.claims.load(*ref)
    assert stored is not None
    assert stored.laid_down


def test_an_answer_for_another_reason_takes_the_hold_s_place(ground: Ground) -> None:
    ref = ground.batch(1)
    ground.resend.answers[ref.batch_id] = QUOTA
    assert ground.test() == {None: "monthly_quota_exceeded"}
    ground.resend.answers[ref.batch_id] = KEY
    assert ground.test() == {None: "invalid_api_key"}


def test_batches_test_a_hold_in_turn(ground: Ground) -> None:
    first, second = ground.batch(1), ground.batch(2)
    ground.resend.answers[first.batch_id] = QUOTA
    assert ground.test() == {None: "monthly_quota_exceeded"}
    assert ground.test() == {}
    assert ground.resend.called == [first.batch_id, second.batch_id]


def test_a_cancelled_campaign_s_batch_tests_no_hold(ground: Ground) -> None:
    ground.batch(1, "cancelled")
    ground.batch(2, "paused")
    other = ground.batch(3)
    campaigns.cancel(ground.client, ground.organization, "cancelled")
    campaigns.pause(ground.client, ground.organization, "paused")
    ground.resend.answers[other.batch_id] = QUOTA
    assert ground.test() == {None: "monthly_quota_exceeded"}
    assert ground.resend.called == [other.batch_id]
    assert ground.holds.tests(ground.account, None).batches == [other]
    # Without one that may test it, whatever comes next finds out.
    campaigns.cancel(ground.client, ground.organization, "spring")
    assert ground.test() == {}
    assert ground.resend.called == [other.batch_id]


def test_nobody_who_was_suppressed_since_is_mailed_for_a_test(ground: Ground) -> None:
    ground.batch(1)
    suppression.add(ground.client, ground.organization, ["user1@b.test"])
    assert ground.test() == {}
    assert ground.resend.called == []


def test_of_what_resend_has_nothing_no_stopped_or_expired_mail_goes_out_for_a_test(
    ground: Ground,
) -> None:
    campaigns.cancel(ground.client, ground.organization, "cancelled")
    campaigns.pause(ground.client, ground.organization, "paused")
    ground.batch(1, "spring", "cancelled")
    ground.batch(2, "spring", "paused")
    ground.batch(3, expires_at=datetime.now(UTC))
    assert ground.test() == {}
    assert ground.resend.called == []
    # What may have been taken is finished as it was pinned.
    other = ground.batch(4, "spring", "cancelled", untouched=False)
    ground.resend.answers[other.batch_id] = QUOTA
    assert ground.test() == {None: "monthly_quota_exceeded"}
    fresh = ground.batch(5, expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert ground.test() == {None: "monthly_quota_exceeded"}  # in turn
    assert ground.test() == {}
    assert ground.resend.called == [other.batch_id, other.batch_id, fresh.batch_id]


def test_a_sender_that_is_held_by_itself_tests_no_account(ground: Ground) -> None:
    ground.batch(1)
    other = ground.batch(2, sender="other.test")
    operators = Hold(by=By.OPERATOR, reason="operator", detail="", since=datetime.now(UTC))
    ground.holds.put(ground.account, "acme.test", operators)
    assert ground.test() == {"acme.test": "operator"}
    assert ground.resend.called == [other.batch_id]


def test_a_batch_that_fails_for_itself_tests_a_hold_no_more(ground: Ground) -> None:
    ref = ground.batch(1)
    ground.resend.answers[ref.batch_id] = BROKEN
    assert ground.test() == {None: "monthly_quota_exceeded"}
    assert ground.test() == {}
    assert ground.resend.called == [ref.batch_id]


def test_a_batch_that_a_success_refused_for_the_account_tests_a_hold_no_more(
    ground: Ground,
) -> None:
    """Resend repeats that success for the key, whatever becomes of the trouble."""
    ref = ground.batch(1)
    errors = [{"index": 0, "message": "You have reached your monthly email sending quota."}]
    ground.resend.answers[ref.batch_id] = Answer(200, "", "", {"errors": errors}, {})
    assert ground.test() == {None: "monthly_quota_exceeded"}
    assert ground.holds.tests(ground.account, None).batches == []
    assert ground.test() == {}
    assert ground.resend.called == [ref.batch_id]


def test_a_test_that_waits_for_its_slot_does_not_lose_the_batch_to_the_next(
    ground: Ground,
) -> None:
    """While the circuit is open slots are further apart than tests; all would wait in vain."""
    ground.batch(1)
    for _ in range(8):
        ground.limiter.failed(ground.account, "another", secrets.token_hex(8))
    tests = [threading.Thread(target=ground.test) for _ in range(2)]
    for test in tests:
        test.start()
    while all(test.is_alive() for test in tests):
        time.sleep(0.01)
    assert len(ground.resend.called) == 1
    assert not ground.holds.read([ground.account])[ground.account].holds
    for test in tests:
        test.join()
