"""Where a worker's parts are made and given to each other."""

from typing import NamedTuple

from streamer.flow.policy import Policy
from streamer.flow.troubles import Troubles
from streamer.ledger.claims import Claims
from streamer.ledger.limiter import Limiter
from streamer.provider.accounts import Accounts
from streamer.provider.client import ResendClient
from streamer.settings import Delivery as DeliverySettings
from streamer.worker.calling import Caller
from streamer.worker.holding import Holding
from streamer.worker.pinned import Ownership
from streamer.worker.sending import Sender
from streamer.worker.slots import Slots
from streamer.worker.waiting import Waiting


class Sending(NamedTuple):
    """What sends, and what others use beside it."""

    slots: Slots
    sender: Sender
    troubles: Troubles


def make_sending(
    settings: DeliverySettings,
    accounts: Accounts,
    client: ResendClient,
    claims: Claims,
    limiter: Limiter,
    holding: Holding,
    waiting: Waiting,
) -> Sending:
    """The sender of a worker, with its parts."""
    policy = Policy(
        settings.safe_window_s,
        settings.set_aside_s,
        settings.give_up_s,
        has_other_accounts=len(accounts.names()) > 1,
    )
    slots = Slots(accounts, limiter, holding, waiting)
    ownership = Ownership(claims, waiting)
    caller = Caller(accounts, client, slots, holding, ownership, waiting)
    troubles = Troubles(settings.set_aside_s)
    sender = Sender(caller, slots, ownership, holding, policy, troubles, waiting)
    return Sending(slots, sender, troubles)
