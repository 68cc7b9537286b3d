"""Where a worker's parts are made and given to each other."""

import logging
from functools import partial
from typing import NamedTuple

from streamer.flow.batcher import Batcher
from streamer.flow.breaker import Breaker
from streamer.flow.places import Places
from streamer.flow.policy import Policy
from streamer.flow.room import Room
from streamer.flow.troubles import Troubles
from streamer.ledger import campaigns
from streamer.ledger.claims import Claims
from streamer.ledger.connection import Client, connect, warm
from streamer.ledger.epoch import Epoch
from streamer.ledger.holds import Holds
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.limiter import Limiter
from streamer.ledger.probe import Probes
from streamer.mail.compose import Composer
from streamer.provider.accounts import Accounts
from streamer.provider.client import ResendClient
from streamer.settings import Delivery as DeliverySettings
from streamer.settings import Settings
from streamer.worker.admission import Admission
from streamer.worker.bulk import BulkStop
from streamer.worker.calling import Caller
from streamer.worker.checkpoint import Checkpoint
from streamer.worker.committer import Committer, fencing_producer
from streamer.worker.decisions import Decisions
from streamer.worker.delivery import Delivery
from streamer.worker.dispatch import Dispatcher
from streamer.worker.filling import Filler
from streamer.worker.finishing import Finisher
from streamer.worker.holding import Holding
from streamer.worker.life import Life
from streamer.worker.measures import Measures
from streamer.worker.pinned import Ownership
from streamer.worker.pipeline import Pipeline
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.scopes import Scopes
from streamer.worker.sending import Sender
from streamer.worker.slots import Slots
from streamer.worker.source import Source
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiting import Waiting

logger = logging.getLogger(__name__)

_MOST_BYTES = 64_000_000
"""Of memory, for the records that are held; Python's own needs come on top."""


def build_pipeline(
    settings: Settings,
    composer: Composer,
    accounts: Accounts,
    waiting: Waiting,
    life: Life,
    checkpoint: Checkpoint,
) -> Pipeline:
    """Make a worker, ready to run, on the thread that will run it.

    The producer fences whoever had this worker's id before; only then the group's offsets are
    read, whose ledger has to be the one in Redis before anything is trusted, or sent.

    Raises:
        StoppedError: the worker stops.
        LedgerLostError: Redis is not the ledger of the offsets.
        KafkaException, SourceError: Kafka cannot be used.
        redis.exceptions.RedisError: Redis refuses what waiting does not mend.
    """
    size, max_in_flight = settings.batch.size, settings.batch.max_in_flight
    places = Places(accounts.of, len(accounts.names()), max_in_flight)
    redis = connect(settings.redis, places.all + 8)
    source = Source(settings)
    producer = fencing_producer(settings)
    committed = source.committed_epochs()
    offsets = InputOffsets(redis, settings.kafka.group_id, source.topic_id())
    # Those that the ledger knows, too: what Kafka says may have been forgotten there.
    epoch = waiting.for_redis(lambda: Epoch.establish(redis, committed | offsets.epochs()))
    waiting.for_redis(lambda: warm(redis, places.all))

    claims = Claims(redis, epoch, settings.delivery.claims_ttl_s)
    limiter = Limiter(redis, epoch)
    holding = Holding(Holds(redis), limiter, accounts, settings.delivery.hold_probe_s)
    waiting.for_redis(holding.refresh)
    timeout_s = settings.delivery.timeout_s
    client = ResendClient(settings.api_url, timeout_s, places.all)
    slots, sender, troubles = make_sending(
        settings.delivery, accounts, client, claims, limiter, holding, waiting
    )

    batcher = Batcher(size, settings.batch.linger_ms / 1000, accounts.of)
    decisions = Decisions(redis, accounts, holding, waiting)
    bulk = BulkStop(settings.breaker, redis, waiting)
    probes = Probes(redis, epoch)
    filler = Filler(settings.batch, batcher, probes, decisions, composer, bulk, waiting)
    finisher = Finisher(claims, accounts, sender, holding, waiting, checkpoint, timeout_s)
    delivery = Delivery(batcher, filler, finisher, claims, accounts, slots, waiting, checkpoint)
    committer = Committer(
        producer,
        settings.topics,
        source.group_metadata,
        epoch.name,
        source.partitions_of(settings.topics.parked),
        Breaker(settings.breaker.records, settings.breaker.dead_share),
        checkpoint,
    )
    waiting.for_redis(partial(_name_organizations_without_account, redis, accounts))

    most_queued = 2 * size * max_in_flight
    room = Room(2 * max_in_flight, _MOST_BYTES)
    dispatcher = Dispatcher(
        delivery, batcher, places, troubles, size, most_queued, settings.delivery.set_aside_s
    )
    return Pipeline(
        source,
        Admission(source, batcher, room, most_queued),
        batcher,
        dispatcher,
        committer,
        Measures(source, batcher, dispatcher, finisher, room, troubles, size),
        EpochVerifier(epoch, offsets, waiting),
        Prober(redis, holding, slots, sender, claims, waiting, timeout_s),
        Relay(settings, redis, Scopes(redis, accounts, holding), waiting),
        waiting,
        life,
        settings.worker.shutdown_timeout_s,
    )


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


def _name_organizations_without_account(client: Client, accounts: Accounts) -> None:
    for organization in campaigns.organizations(client):
        if accounts.of(organization) is None:
            logger.warning(
                "no account serves the organization, its records will be parked: name it in "
                "the `organizations` of one",
                extra={"organization": organization},
            )
