"""`streamer campaign test`: send a campaign's mail to a few addresses, outside the campaign."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Annotated

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
from streamer.cli.sample_mail import (
    RecipientOption,
    SampleMail,
    VarsOption,
    composer_of,
    load_sample_mail,
)
from streamer.ledger import suppression
from streamer.mail.compose import Composer, RenderError, TooLargeError
from streamer.model.address import InvalidAddressError, normalise
from streamer.model.campaign import CampaignName
from streamer.provider.accounts import Accounts
from streamer.send_test import (
    NotSentError,
    SendTestResult,
    SendTestStatus,
    read_response,
    send_test,
)
from streamer.settings import Settings, SettingsError
from streamer.worker.process import make_accounts

_MAX_ADDRESSES = 100
_LONG_WAIT_S = 2.0
_SUPPRESSED = "suppressed; to send anyway: --even-suppressed"


def _address(text: str) -> str:
    try:
        return normalise(text)
    except InvalidAddressError as error:
        raise typer.BadParameter(f"invalid address {text!r}: {error}") from None


def send_test_command(
    campaign: CampaignArgument,
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="ADDRESS",
            parser=_address,
            help="Address to send to; repeatable, up to 100 times.",
        ),
    ],
    recipient: RecipientOption = None,
    variables: VarsOption = None,
    even_suppressed: Annotated[
        bool, typer.Option("--even-suppressed", help="Include suppressed addresses.")
    ] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send a campaign's mail to the given addresses now, without counting it.

    Variables come from the recipient (or sample); `email` and the unsubscribe link are each
    address's own. The mails are tagged campaign `test`, so that statistics by tag leave them out.
    These are real mails, and unsubscribing through one of them is real, too.
    """
    settings = read_settings(config)
    addresses = list(dict.fromkeys(to))
    if len(addresses) > _MAX_ADDRESSES:
        fail(f"too many addresses: {len(addresses)}, at most {_MAX_ADDRESSES}", WRONG_USE)
    composer = composer_of(settings)
    accounts = _accounts(settings)
    account = accounts.of(campaign.organization)
    if account is None:
        fail(f"no account serves organization {campaign.organization}: see accounts.NAME")
    with redis_client(settings) as client:
        sample = load_sample_mail(client, campaign, recipient, variables)
        if faults := sample.faults(settings):
            fail(f"nothing was sent: {'; '.join(faults)}")
        suppressed = suppression.check(client, campaign.organization, addresses)
        refused = {
            address
            for address, is_suppressed in zip(addresses, suppressed, strict=True)
            if is_suppressed and not even_suppressed
        }
        sends = [
            SendTestResult(each, SendTestStatus.SUPPRESSED, detail=_SUPPRESSED)
            for each in sorted(refused)
        ]
        if allowed := [each for each in addresses if each not in refused]:
            mails = _render(sample, composer, allowed)
            waits = partial(_warn_of_wait, account)
            try:
                response = send_test(settings, client, accounts, account, mails, waits)
            except NotSentError as error:
                fail(f"nothing was sent: {error}")
            sends += read_response(response, allowed)
    if as_json:
        show_json(_as_json(campaign, account, sends))
    else:
        rows = [(each.address, each.status, each.email_id or each.detail or "") for each in sends]
        show_table(("ADDRESS", "RESULT", "ID OR REASON"), rows)
    if any(each.status is not SendTestStatus.SENT for each in sends):
        raise typer.Exit(FAILED)


def _accounts(settings: Settings) -> Accounts:
    try:
        return make_accounts(settings)
    except SettingsError as error:
        fail(f"settings: {error}", error.exit_code)


def _render(sample: SampleMail, composer: Composer, addresses: Sequence[str]) -> list[bytes]:
    mails = []
    for address in addresses:
        try:
            mails.append(sample.compose(composer, address))
        except (RenderError, TooLargeError) as error:
            for warning in sample.explain(error, composer, address):
                warn(f"{warning.text}: {warning.mend}")
            fail(f"nothing was sent: cannot render the mail for {address}: {error}")
    return mails


def _warn_of_wait(account: str, wait_s: float) -> None:
    if wait_s > _LONG_WAIT_S:
        warn(f"account {account}: the next send slot is in {wait_s:.0f} s")


def _as_json(
    campaign: CampaignName, account: str, sends: Sequence[SendTestResult]
) -> dict[str, object]:
    counts = Counter(each.status for each in sends)
    return {
        "organization_id": campaign.organization,
        "campaign_id": campaign.campaign_id,
        "account": account,
        **{fate.value: counts[fate] for fate in SendTestStatus},
        "addresses": [
            {
                "address": each.address,
                "result": each.status.value,
                "email_id": each.email_id,
                "detail": each.detail,
            }
            for each in sends
        ],
    }
