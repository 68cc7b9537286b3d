"""Composition root: builds a worker's parts and wires them together."""

import logging
import time
from functools import partial
from typing import NamedTuple

from streamer.flow.admission import AdmissionControl
from streamer.flow.batcher import Batcher
from streamer.flow.breaker import DeadLetterBreaker
from streamer.flow.concurrency import ConcurrencyLimiter
from streamer.flow.failures import FailureTracker
from streamer.flow.policy import Policy
from streamer.kafka.shared import SharedConsumer
from streamer.ledger import campaigns
from streamer.ledger.claims import Claims
from streamer.ledger.connection import Client, connect, warm
from streamer.ledger.epoch import Epoch
from streamer.ledger.heartbeats import Heartbeats
from streamer.ledger.holds import Holds
from streamer.ledger.input_offsets import InputOffsets
from streamer.ledger.limiter import Limiter
from streamer.ledger.probe import Probes
from streamer.ledger.pulse import Pulse
from streamer.mail.compose import Composer
from streamer.provider.accounts import Accounts
from streamer.provider.client import ResendClient
from streamer.settings import DeliverySettings as DeliverySettings
from streamer.settings import Settings
from streamer.worker.account_states import AccountStateCache
from streamer.worker.admission import Admission
from streamer.worker.bulk import BulkStop
from streamer.worker.calling import BatchApi, Caller
from streamer.worker.checkpoint import Checkpoint
from streamer.worker.committer import Committer, fencing_producer
from streamer.worker.decisions import Decisions
from streamer.worker.definitions import Definitions
from streamer.worker.delivery import Delivery
from streamer.worker.dispatch import Dispatcher
from streamer.worker.filling import Filler
from streamer.worker.finishing import Finisher
from streamer.worker.life import Life
from streamer.worker.measures import Measures
from streamer.worker.pinned import OwnedBatches, Ownership
from streamer.worker.pipeline import Pipeline
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.reporting import WorkerReporter
from streamer.worker.scopes import ParkScopes
from streamer.worker.sending import Sender
from streamer.worker.slots import Slots
from streamer.worker.source import RecordSource
from streamer.worker.ticker import Ticker
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiter import Waiter

logger = logging.getLogger(__name__)

_MAX_BYTES = 64_000_000
"""Memory limit for held records; Python's own overhead comes on top."""


def build_pipeline(
    settings: Settings,
    composer: Composer,
    accounts: Accounts,
    readers: SharedConsumer,
    waiter: Waiter,
    ticker: Ticker,
    life: Life,
    checkpoint: Checkpoint,
) -> Pipeline:
    """Build a worker, ready to run. Call it on the thread that will run the worker.

    The order matters: the producer first fences any earlier process with this worker's id; only
    then are the group's offsets read, and their ledger epochs and pulses checked against Redis
    before anything is trusted or sent.

    Raises:
        StoppedError: the worker stops.
        LedgerLostError: Redis is not the ledger that the offsets belong to.
        KafkaException, SourceError: Kafka cannot be used.
        redis.exceptions.RedisError: Redis fails in a way that waiting does not fix.
    """
    size, max_in_flight = settings.batch.size, settings.batch.max_in_flight
    concurrency = ConcurrencyLimiter(accounts.of, len(accounts.names()), max_in_flight)
    redis = connect(settings.redis, concurrency.total + 8)
    producer = fencing_producer(settings)
    source = RecordSource(settings)
    committed = source.committed_metadata()
    epochs = {each.epoch for each in committed}
    offsets = InputOffsets(redis, settings.kafka.group_id, source.topic_id())
    # The ledger's epochs are included, as Kafka may have forgotten the committed offsets.
    epoch = waiter.retry_redis(lambda: Epoch.establish(redis, epochs | offsets.epochs()))
    pulse = Pulse(redis, epoch, settings.kafka.group_id)
    waiter.retry_redis(lambda: pulse.begin([each.pulse for each in committed]))
    waiter.retry_redis(lambda: warm(redis, concurrency.total))

    claims = Claims(redis, epoch, settings.delivery.claims_ttl_s)
    limiter = Limiter(redis, epoch)
    account_states = AccountStateCache(
        Holds(redis), limiter, accounts, settings.delivery.hold_probe_s
    )
    waiter.retry_redis(account_states.refresh)
    timeout_s = settings.delivery.timeout_s
    client = ResendClient(settings.api_url, timeout_s)
    slots, sender, failures = make_sending(
        settings.delivery, accounts, client, claims, limiter, account_states, waiter
    )

    batcher = Batcher(size, settings.batch.linger_ms / 1000, accounts.of)
    decisions = Decisions(Definitions(redis), accounts, account_states, waiter)
    bulk = BulkStop(settings.breaker, redis, waiter)
    probes = Probes(redis, epoch)
    filler = Filler(settings.batch, batcher, probes, decisions, composer, bulk, waiter)
    finisher = Finisher(claims, accounts, sender, account_states, waiter, checkpoint, timeout_s)
    delivery = Delivery(batcher, filler, finisher, claims, accounts, slots, waiter, checkpoint)
    source.partitions_of(settings.topics.progress)  # fails if it is missing
    committer = Committer(
        producer,
        settings.topics,
        source.group_metadata,
        epoch.name,
        lambda: pulse.value,
        source.partitions_of(settings.topics.parked),
        DeadLetterBreaker(settings.breaker.records, settings.breaker.dead_share),
        checkpoint,
    )
    waiter.retry_redis(partial(_name_organizations_without_account, redis, accounts))

    most_queued = 2 * size * max_in_flight
    control = AdmissionControl(2 * max_in_flight, _MAX_BYTES)
    dispatcher = Dispatcher(
        delivery, batcher, concurrency, failures, size, most_queued, settings.delivery.set_aside_s
    )
    return Pipeline(
        source,
        Admission(source, batcher, control, most_queued),
        batcher,
        dispatcher,
        committer,
        Measures(source, batcher, dispatcher, finisher, control, failures, size),
        EpochVerifier(epoch, pulse, offsets, waiter),
        WorkerReporter(
            settings,
            Heartbeats(redis, settings.kafka.group_id),
            source,
            account_states,
            time.monotonic(),
        ),
        Prober(redis, account_states, slots, sender, claims, waiter, ticker, timeout_s),
        Relay(settings, redis, ParkScopes(redis, accounts, account_states), readers, waiter),
        waiter,
        life,
        settings.worker.shutdown_timeout_s,
    )


class Sending(NamedTuple):
    """A sender, and those of its parts that others share."""

    slots: Slots
    sender: Sender
    failures: FailureTracker


def make_sending(
    settings: DeliverySettings,
    accounts: Accounts,
    client: BatchApi,
    claims: OwnedBatches,
    limiter: Limiter,
    account_states: AccountStateCache,
    waiter: Waiter,
) -> Sending:
    """Build a worker's sender and its parts."""
    policy = Policy(
        settings.safe_window_s,
        settings.set_aside_s,
        settings.give_up_s,
        has_other_accounts=len(accounts.names()) > 1,
    )
    slots = Slots(accounts, limiter, account_states, waiter)
    ownership = Ownership(claims, waiter)
    caller = Caller(accounts, client, slots, account_states, ownership, waiter)
    failures = FailureTracker(settings.set_aside_s)
    sender = Sender(caller, slots, ownership, account_states, policy, failures, waiter)
    return Sending(slots, sender, failures)


def _name_organizations_without_account(client: Client, accounts: Accounts) -> None:
    for organization in campaigns.organizations(client):
        if accounts.of(organization) is None:
            logger.warning(
                "no account serves the organization, its records will be parked: add it to "
                "`accounts.NAME.organizations`",
                extra={"organization": organization},
            )
