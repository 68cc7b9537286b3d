"""`streamer campaign test`: a campaign's mail to a few named addresses, beside the campaign."""

import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import orjson
import typer

from streamer.cli.common import (
    FAILED,
    WRONG_USE,
    CampaignArgument,
    ConfigOption,
    JsonOption,
    fail,
    read_settings,
    redis_client,
    show_json,
    show_table,
    warn,
)
from streamer.cli.specimen import (
    RecipientOption,
    Specimen,
    VarsOption,
    composer_of,
    load_specimen,
)
from streamer.flow.rate import allowed_rate
from streamer.ledger import keys, suppression
from streamer.ledger.connection import Client
from streamer.ledger.epoch import Epoch, LedgerLostError
from streamer.ledger.limiter import Later, Limiter, Slot
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.mail.review import read_mail
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.model.disposition import Again, Taken
from streamer.model.payload import Payload
from streamer.model.reasons import Status
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.answers import judge
from streamer.provider.client import Answer, ResendClient
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_accounts

_MOST_ADDRESSES = 100
_LONG_WAIT_S = 2.0
_SUPPRESSED = "suppressed; to send all the same: --even-suppressed"


class Fate(StrEnum):
    """What became of one address."""

    SENT = "sent"
    REFUSED = "refused"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Tried:
    """One address, and what became of its mail: Resend's id, or why there is none."""

    address: str
    fate: Fate
    email_id: str | None = None
    detail: str | None = None


def _address(text: str) -> str:
    try:
        return normalise(text)
    except InvalidAddressError as error:
        raise typer.BadParameter(f"{text!r} is no address: {error}") from None


def trial(
    campaign: CampaignArgument,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="ADDRESS",
            parser=_address,
            help="Send it there; may be given again, up to 100 times.",
        ),
    ],
    recipient: RecipientOption = None,
    variables: VarsOption = None,
    even_suppressed: Annotated[
        bool, typer.Option("--even-suppressed", help="To suppressed addresses, too.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a campaign's mail to named addresses now, beside the campaign: nothing is counted.

    The variables are those of the recipient (or sample); `email` and the unsubscribe link are
    each address's own. The mail's tag `campaign` is called `test`, so that whoever counts by
    tags does not count it. These are real mails, and an unsubscribe by one of them is a real one.
    """
    settings = read_settings(config)
    addresses = list(dict.fromkeys(to))
    if len(addresses) > _MOST_ADDRESSES:
        fail(f"{len(addresses)} addresses, {_MOST_ADDRESSES} are allowed", WRONG_USE)
    composer = composer_of(settings)
    accounts = _accounts(settings)
    account = accounts.of(campaign.organization)
    if account is None:
        fail(f"no account serves organization {campaign.organization}: see accounts.NAME")
    with redis_client(settings) as client:
        specimen = load_specimen(client, campaign, recipient, variables)
        suppressed = suppression.check(client, campaign.organization, addresses)
        refused = {
            address
            for address, is_suppressed in zip(addresses, suppressed, strict=True)
            if is_suppressed and not even_suppressed
        }
        tried = [Tried(each, Fate.SUPPRESSED, detail=_SUPPRESSED) for each in sorted(refused)]
        if allowed := [each for each in addresses if each not in refused]:
            payload = _payload(specimen, composer, allowed, settings)
            tried += read_answer(_send(settings, client, accounts, account, payload), allowed)
    if as_json:
        show_json(_as_json(campaign, account, tried))
    else:
        rows = [(each.address, each.fate, each.email_id or each.detail or "") for each in tried]
        show_table(("ADDRESS", "RESULT", "ID OR WHY NOT"), rows)
    if any(each.fate is not Fate.SENT for each in tried):
        raise typer.Exit(FAILED)


def as_test(mail: bytes) -> bytes:
    """The mail as a test of it: sent now, and not told by its tags for one of the campaign."""
    changed = read_mail(mail)
    changed.pop("scheduled_at", None)
    tags = changed.get("tags")
    if isinstance(tags, list):
        named = {str(tag["name"]): tag["value"] for tag in tags if isinstance(tag, dict)}
        named["test"] = named.pop("campaign", "")
        changed["tags"] = [{"name": name, "value": value} for name, value in named.items()]
    return orjson.dumps(changed)


def read_answer(answer: Answer, addresses: Sequence[str]) -> list[Tried]:
    """What Resend's answer says of each address."""
    verdict = judge(answer, len(addresses))
    if isinstance(verdict, Taken):
        return [
            Tried(address, Fate.SENT, email_id=item.text)
            if item.word == Status.SENT
            else Tried(address, Fate.REFUSED, detail=item.text)
            for address, item in zip(addresses, verdict.items, strict=True)
        ]
    said = f"{answer.name or 'no answer that can be read'}: {answer.message}".removesuffix(": ")
    # Whoever did not say that they refused may have taken it; under a new key it would go again.
    is_open = isinstance(verdict, Again)
    if is_open:
        said = f"it may have been sent: {said}"
    fate = Fate.UNKNOWN if is_open else Fate.REFUSED
    return [Tried(address, fate, detail=said) for address in addresses]


def _accounts(settings: Settings) -> Accounts:
    try:
        return make_accounts(settings)
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)


def _payload(
    specimen: Specimen, composer: Composer, addresses: Sequence[str], settings: Settings
) -> Payload:
    mails = []
    for address in addresses:
        try:
            mails.append(as_test(specimen.compose(composer, address)))
        except (RenderError, TooLargeError) as error:
            for remark in specimen.explain(error, composer, address):
                warn(f"{remark.text}: {remark.mend}")
            fail(f"nothing was sent: it cannot be rendered for {address}: {error}")
    payload = Payload(mails)
    if len(payload.body) > settings.batch.max_bytes:
        fail(
            f"nothing was sent: {len(payload.body):,} bytes in one call, batch.max_bytes allows "
            f"{settings.batch.max_bytes:,}; give fewer addresses"
        )
    return payload


def _send(
    settings: Settings, client: Client, accounts: Accounts, account: str, payload: Payload
) -> Answer:
    """One call, under a key that nothing else has."""
    try:
        key = accounts.key(account)
        resend = ResendClient(settings.api_url, settings.delivery.timeout_s, connections=1)
        _await_slot(client, account, accounts.requests_per_second(account))
    except (NoKeyError, SettingsError, LedgerLostError) as error:
        fail(f"nothing was sent: {error}")
    return resend.send_batch(key, f"test-{secrets.token_hex(16)}", payload.body, lambda: True)


def _await_slot(client: Client, account: str, requests_per_second: float) -> None:
    """Wait for a send slot of the account's rate, which is shared with its workers.

    The limiter needs the ledger's epoch. A ledger without one has no workers to share with, and
    what gives it one are their offsets: none is made up here, and no slot is needed. A hold is
    passed over: whoever tests wants to see whether its cause is gone.

    Raises:
        LedgerLostError: the account's part of the ledger has another epoch.
    """
    found = client.get(keys.EPOCH)
    if not isinstance(found, bytes):
        return
    limiter = Limiter(client, Epoch(client, found.decode()))
    rate = allowed_rate(requests_per_second, None)
    slot = limiter.take(account, rate, despite_hold=True)
    if isinstance(slot, Later):
        fail(
            f"nothing was sent: the calls of account {account} keep failing, or were too many; "
            f"the next is due in {slot.wait_s:.0f} s, try again then"
        )
    if isinstance(slot, Slot):
        if slot.wait_s > _LONG_WAIT_S:
            warn(f"account {account}: the next send slot is in {slot.wait_s:.0f} s")
        time.sleep(slot.wait_s)


def _as_json(campaign: CampaignName, account: str, tried: Sequence[Tried]) -> dict[str, object]:
    counts = Counter(each.fate for each in tried)
    return {
        "organization_id": campaign.organization,
        "campaign_id": campaign.campaign_id,
        "account": account,
        **{fate.value: counts[fate] for fate in Fate},
        "addresses": [
            {
                "address": each.address,
                "result": each.fate.value,
                "email_id": each.email_id,
                "detail": each.detail,
            }
            for each in tried
        ],
    }
