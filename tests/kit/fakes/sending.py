"""Workers that send, over Redis and Resend in memory."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import orjson

from streamer.flow.batcher import Batcher
from streamer.ledger.campaigns import CampaignProbe
from streamer.ledger.claims import Pinned
from streamer.ledger.holds import BatchRef, By, Hold
from streamer.ledger.limiter import Successes
from streamer.mail.compose import Composer
from streamer.mail.templates import Templates
from streamer.model.campaign import Message
from streamer.model.event import parse
from streamer.model.payload import Payload
from streamer.model.record import Record, RecordId
from streamer.provider.accounts import Accounts
from streamer.settings import AccountSettings, BatchSettings, DeliverySettings
from streamer.worker.account_states import AccountStateCache
from streamer.worker.build import make_sending
from streamer.worker.checkpoint import no_checkpoint
from streamer.worker.decisions import Decisions
from streamer.worker.definitions import Definitions
from streamer.worker.delivery import Delivery
from streamer.worker.filling import Filler
from streamer.worker.finishing import Finisher
from streamer.worker.pinned import PinnedBatch
from streamer.worker.waiter import Waiter
from tests.kit.fakes.accounts import AccountStore, FakeHolds, FakeLimiter
from tests.kit.fakes.clock import FakeClock
from tests.kit.fakes.ledger import FakeLedger
from tests.kit.fakes.resend import FakeResend

KEY_VARIABLE = "TESTS_API_KEY"
"""The environment variable with the accounts' API key; `tests.unit.worker.conftest` sets it."""
ACCOUNT = "default"
ORGANIZATION = "acme"
DOMAIN = "acme.test"
_MAX_MAIL_BYTES = 100_000


class FakeDefinitions(Definitions):
    """The campaigns' definitions, by organization and campaign."""

    def __init__(self) -> None:
        self.messages: dict[tuple[str, str], Message] = {}

    def message(self, organization: str, campaign_id: str, version: str | None) -> Message | None:
        return None if version is None else self.messages.get((organization, campaign_id))


class ResolvedLog:
    """Notes the records whose outcomes a worker counts."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def record_resolved(
        self, records: Iterable[Record], probed: Mapping[str, CampaignProbe]
    ) -> None:
        self.records += records


class Services:
    """All that workers share."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = FakeLedger(self.clock)
        self.accounts = AccountStore(self.clock)
        self.limiter = FakeLimiter(self.accounts)
        self.holds = FakeHolds(self.accounts)
        self.definitions = FakeDefinitions()
        self.resend = FakeResend(self.clock)

    def others_succeed(self, account: str = ACCOUNT, calls: int = 3) -> None:
        """Let calls of the account succeed, made by some other worker."""
        told = Successes(secrets.token_hex(8), 0, calls)
        self.limiter.record_success(account, told, after_failures=True)

    def another_fails(self, account: str = ACCOUNT, batch_id: str = "another") -> None:
        """Let a call for another batch of the account fail."""
        self.limiter.record_failure(account, batch_id, secrets.token_hex(8))

    def hold(self, account: str = ACCOUNT, domain: str | None = None) -> Hold:
        """Hold an account, or a sender's domain, as an operator does."""
        hold = Hold(by=By.OPERATOR, reason="operator", detail="", since=self.clock.utc())
        self.holds.put(account, domain, hold)
        return hold

    def pin(self, mails: int = 4, payload: Payload | None = None) -> PinnedBatch:
        """Pin a batch to `user0@b.test` and so on, of a campaign of its own; return it as the
        worker that pinned it."""
        ref = BatchRef(ORGANIZATION, secrets.token_hex(12))
        bodies = [
            orjson.dumps({"from": f"a@{DOMAIN}", "to": [f"user{number}@b.test"], "subject": "s"})
            for number in range(mails)
        ]
        payload = Payload(bodies) if payload is None else payload
        records = [make_record(number, campaign=ref.batch_id) for number in range(len(payload))]
        asked_at = self.clock.boottime()
        pinned = self.ledger.pin(*ref, ACCOUNT, DOMAIN, records, payload)
        assert isinstance(pinned, Pinned)
        return PinnedBatch(ref, ACCOUNT, DOMAIN, payload, "", asked_at)


class SendingWorker:
    """The parts of one worker that send.

    Args:
        organizations: by account, whom it serves; None serves all.
    """

    def __init__(
        self,
        services: Services,
        *,
        safe_window_s: int = 3600,
        set_aside_s: float = 20.0,
        give_up_s: float = 3600.0,
        timeout_s: float = 30.0,
        batch: BatchSettings | None = None,
        organizations: Mapping[str, Sequence[str] | None] | None = None,
        requests_per_second: float = 10.0,
    ) -> None:
        settings = DeliverySettings(
            safe_window_s=safe_window_s,
            set_aside_s=set_aside_s,
            give_up_s=give_up_s,
            timeout_s=timeout_s,
        )
        batch_settings = batch or BatchSettings()
        self.accounts = Accounts(
            {
                name: AccountSettings(
                    api_key_env=KEY_VARIABLE,
                    organizations=None if served is None else list(served),
                    requests_per_second=requests_per_second,
                )
                for name, served in (organizations or {ACCOUNT: None}).items()
            }
        )
        ledger, waiter = services.ledger, Waiter(services.clock)
        self.waiter = waiter
        self.account_states = AccountStateCache(
            services.holds, services.limiter, self.accounts, settings.hold_probe_s
        )
        self.slots, self.sender, self.failures = make_sending(
            settings,
            self.accounts,
            services.resend,
            ledger,
            services.limiter,
            self.account_states,
            waiter,
        )
        self.batcher = Batcher(
            batch_settings.size, batch_settings.linger_ms / 1000, self.accounts.of
        )
        self.resolved = ResolvedLog()
        decisions = Decisions(services.definitions, self.accounts, self.account_states, waiter)
        self.filler = Filler(
            batch_settings, self.batcher, ledger, decisions, _composer(), self.resolved, waiter
        )
        self.finisher = Finisher(
            ledger,
            self.accounts,
            self.sender,
            self.account_states,
            waiter,
            no_checkpoint,
            settings.timeout_s,
        )
        self.delivery = Delivery(
            self.batcher,
            self.filler,
            self.finisher,
            ledger,
            self.accounts,
            self.slots,
            waiter,
            no_checkpoint,
        )

    def deliver(self, *records: Record) -> None:
        """Deliver records of one organization, and all that are queued for it meanwhile."""
        organization = records[0].organization_id
        self.delivery.run(organization, list(records))
        while queued := self.batcher.take(organization, 100):
            self.delivery.run(organization, queued)


def make_record(
    offset: int,
    address: str | None = None,
    *,
    organization: str = ORGANIZATION,
    campaign: str = "spring",
    sender: str = f"a@{DOMAIN}",
    message: bool = True,
    replaces: str = "",
    admitted_at: float = -1_000.0,
    **fields: object,
) -> Record:
    """A record that was admitted long ago.

    Args:
        address: by default one of its own.
        message: whether the event carries its message.
        fields: further fields of the event.
    """
    email = f"user{offset}@b.test" if address is None else address
    event: dict[str, object] = {
        "organization_id": organization,
        "campaign_id": campaign,
        "recipient_id": f"r{offset}",
        "email": email,
        **fields,
    }
    if message:
        event["message"] = {"from": sender, "subject": "s", "text": "Hi {{ name }}"}
    value = orjson.dumps(event | ({"name": "Ann"} if "name" not in event else {}))
    record = Record(RecordId("t", 0, offset), None, value, None, admitted_at, replaces=replaces)
    record.attach_event(parse(value))
    record.address = email or None
    return record


@cache
def _composer() -> Composer:
    return Composer(Templates(_MAX_MAIL_BYTES), None, _MAX_MAIL_BYTES)
