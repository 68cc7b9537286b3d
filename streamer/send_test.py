"""Test mails: sending a campaign's mail to a few given addresses, outside the campaign."""

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson

from streamer.errors import StreamerError
from streamer.flow.rate import allowed_rate
from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.limiter import Limiter, Slot, SlotUnavailable
from streamer.mail.review import read_mail
from streamer.model.disposition import Accepted, Retry
from streamer.model.payload import Payload
from streamer.model.reasons import Status
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.client import ApiResponse, ResendClient
from streamer.provider.responses import classify_response
from streamer.settings import Settings, SettingsError


class NotSentError(StreamerError):
    """The mails were not sent; the message says why."""


class SendTestStatus(StrEnum):
    """The result for one address."""

    SENT = "sent"
    REFUSED = "refused"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class SendTestResult:
    """An address and the result of its mail: Resend's id, or a detail why there is none."""

    address: str
    status: SendTestStatus
    email_id: str | None = None
    detail: str | None = None


def as_test(mail: bytes) -> bytes:
    """Turn a campaign's mail into a test: sent immediately, and not tagged with the campaign."""
    changed = read_mail(mail)
    changed.pop("scheduled_at", None)
    tags = changed.get("tags")
    if isinstance(tags, list):
        named = {str(tag["name"]): tag["value"] for tag in tags if isinstance(tag, dict)}
        named["test"] = named.pop("campaign", "")
        changed["tags"] = [{"name": name, "value": value} for name, value in named.items()]
    return orjson.dumps(changed)


def send_test(
    settings: Settings,
    client: Client,
    accounts: Accounts,
    account: str,
    mails: Sequence[bytes],
    waits: Callable[[float], None],
) -> ApiResponse:
    """Send mails as tests, in one call with a unique idempotency key; return the response.

    Waits for a slot in the account's rate limit, which is shared with the workers.

    Args:
        settings: the settings.
        client: a Redis client.
        accounts: the accounts.
        account: the name of the account to use.
        mails: the mails as composed for the campaign.
        waits: called with the number of seconds before waiting.

    Raises:
        NotSentError: the mails are too large, there is no API key, or the account's calls keep
            failing.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    payload = Payload([as_test(mail) for mail in mails])
    if len(payload.body) > settings.batch.max_bytes:
        raise NotSentError(
            f"the call has {len(payload.body):,} bytes, but batch.max_bytes is "
            f"{settings.batch.max_bytes:,}: use fewer addresses"
        )
    try:
        key = accounts.key(account)
        resend = ResendClient(settings.api_url, settings.delivery.timeout_s)
        _await_slot(client, account, accounts.requests_per_second(account), waits)
    except (NoKeyError, SettingsError, LedgerLostError) as error:
        raise NotSentError(str(error)) from None
    return resend.send_batch(key, f"test-{secrets.token_hex(16)}", payload.body, lambda: True)


def read_response(response: ApiResponse, addresses: Sequence[str]) -> list[SendTestResult]:
    """Return the result for each address from Resend's response."""
    disposition = classify_response(response, len(addresses))
    if isinstance(disposition, Accepted):
        return [
            SendTestResult(address, SendTestStatus.SENT, email_id=item.text)
            if item.outcome == Status.SENT
            else SendTestResult(address, SendTestStatus.REFUSED, detail=item.text)
            for address, item in zip(addresses, disposition.items, strict=True)
        ]
    said = f"{response.name or 'unreadable response'}: {response.message}".removesuffix(": ")
    # Without a clear rejection the mail may have been accepted; a new key would send it again.
    is_open = isinstance(disposition, Retry)
    if is_open:
        said = f"may have been sent: {said}"
    fate = SendTestStatus.UNKNOWN if is_open else SendTestStatus.REFUSED
    return [SendTestResult(address, fate, detail=said) for address in addresses]


def _await_slot(
    client: Client, account: str, requests_per_second: float, waits: Callable[[float], None]
) -> None:
    """Wait for a send slot.

    The limiter needs the ledger's epoch. A ledger without one has no workers to share the rate
    with, so no slot is needed, and only the workers' offsets may set an epoch. Holds are ignored,
    since a test may serve to see whether the cause is fixed.

    Raises:
        LedgerLostError: the account's part of the ledger has a different epoch.
    """
    found = client.get(keys.EPOCH)
    if not isinstance(found, bytes):
        return
    limiter = Limiter(client, Epoch(client, found.decode()))
    rate = allowed_rate(requests_per_second, None)
    slot = limiter.take(account, rate, ignore_hold=True)
    if isinstance(slot, SlotUnavailable):
        raise NotSentError(
            f"account {account} is rate limited, or its calls keep failing; try again in "
            f"{slot.wait_s:.0f} s"
        )
    if isinstance(slot, Slot):
        waits(slot.wait_s)
        time.sleep(slot.wait_s)
