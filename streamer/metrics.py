"""All metrics, with their help texts. Addresses and recipient ids are never labels."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram

from streamer.model.parking import ACCOUNT, BATCH, CAMPAIGN, DOMAIN, ORGANIZATION
from streamer.model.reasons import DeadReason, Reason, Status

_LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TICKS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1)
_CAME_BACK = ("complaints", "bounces")
_FILLS = (1, 10, 25, 50, 75, 90, 95, 99, 100)

WORKER_STATE = Gauge(
    "streamer_worker_state",
    "1 for the worker's current state, 0 for the others: starting, running, "
    "waiting_for_redis, draining, stopped.",
    ["state"],
)
RECORDS_CONSUMED = Counter(
    "streamer_records_consumed_total", "Input records read from Kafka, including redeliveries."
)
RECORDS_MISSED = Counter(
    "streamer_records_missed_total",
    "Input records that Kafka deleted before they were read, by `retention.ms` of the topic: about "
    "as many have no outcome.",
)
OUTCOMES = Counter(
    "streamer_outcomes_total",
    "Outcomes committed, by status and reason (empty for sent).",
    ["status", "reason"],
)
DEAD_LETTERS = Counter(
    "streamer_dead_letters_total", "Dead letters committed, by reason.", ["reason"]
)
BATCH_EMAILS = Histogram(
    "streamer_batch_emails", "Emails per call to Resend: the fill of a batch.", buckets=_FILLS
)
SUPPRESSION_CHECK = Histogram(
    "streamer_suppression_check_seconds",
    "Redis round trip that checks a batch against the suppression set.",
    buckets=_LATENCIES,
)
PIN = Histogram(
    "streamer_pin_seconds",
    "Redis round trip that claims a batch's recipients and stores its payload.",
    buckets=_LATENCIES,
)
SEND = Histogram(
    "streamer_send_seconds", "One call to Resend, successful or not.", buckets=_LATENCIES
)
API_REQUESTS = Counter(
    "streamer_api_requests_total",
    "Calls to Resend by account and result: accepted, or the name of the error.",
    ["account", "result"],
)
THROTTLED = Counter(
    "streamer_throttled_seconds_total",
    "Time batches spent waiting for the account's rate limit.",
    ["account"],
)
ALLOWED_CALLS = Gauge(
    "streamer_allowed_calls_per_second",
    "Calls per second that all workers together may make through the account: the lower of "
    "`accounts.NAME.requests_per_second` and what Resend said last.",
    ["account"],
)
CAMPAIGNS_STOPPED = Counter(
    "streamer_campaigns_stopped_total",
    "Campaigns paused by this worker because most of their recent mails failed for the reason, or "
    "because of complaints or bounces.",
    ["reason"],
)
PARKED = Counter(
    "streamer_parked_total",
    "Records moved to the parked topic, by the kind of scope they wait for.",
    ["kind"],
)
RETURNED = Counter(
    "streamer_returned_total", "Records returned from the parked topic by this worker."
)
UNCONFIRMED = Counter(
    "streamer_unconfirmed_writes_total",
    "Writes to Redis that too few replicas (`redis.replicas`) or not the disk (`redis.fsync`) "
    "confirmed in time. Each is repeated, and nothing relies on it before.",
    ["by"],
)
COMMIT = Histogram(
    "streamer_commit_seconds",
    "One Kafka transaction: outcomes, dead letters and offsets.",
    buckets=_LATENCIES,
)
TICK = Histogram(
    "streamer_tick_seconds",
    "CPU time of one iteration of the worker's loop: admitting records and starting batches.",
    buckets=_TICKS,
)
REFUSED = Counter(
    "streamer_refused_endings_total",
    "Results that Kafka rejected, so that they were reduced before writing, by kind.",
    ["kind"],
)
IN_FLIGHT_BYTES = Gauge(
    "streamer_in_flight_bytes",
    "Approximate memory of records admitted and not yet committed by this worker.",
)
IN_FLIGHT = Gauge(
    "streamer_in_flight_emails", "Records admitted and not yet committed by this worker."
)
LAG = Gauge(
    "streamer_consumer_lag",
    "Records of an assigned partition not yet committed.",
    ["topic", "partition"],
)
BLOCKED = Gauge(
    "streamer_blocked_records",
    "Resolved records waiting for an older unresolved record of their partition.",
)
OLDEST_BATCH_AGE = Gauge(
    "streamer_oldest_batch_age_seconds",
    "Age of the oldest batch that is pinned and unresolved; 0 if there is none.",
)
REBALANCES = Counter(
    "streamer_rebalances_total", "Changes of this worker's assignment.", ["change"]
)
ACCOUNT_HELD = Gauge(
    "streamer_account_held",
    "1 while the account is held for the reason.",
    ["account", "reason"],
)
REVOKE_DRAIN = Histogram(
    "streamer_revoke_drain_seconds",
    "Time spent finishing in-flight work before partitions were revoked.",
    buckets=_LATENCIES,
)
CAMPAIGN_RECIPIENTS = Gauge(
    "streamer_campaign_recipients",
    "Recipients of a campaign by status, including received and parked; for the most recently "
    "changed campaigns, exported by the process that projects.",
    ["organization", "campaign", "status"],
)
CAMPAIGN_OUTCOMES = Gauge(
    "streamer_campaign_outcomes",
    "Outcomes and dead letters of a campaign by status and reason (empty for sent), without those "
    "that never occurred; for the most recently changed campaigns, exported by the process that "
    "projects.",
    ["organization", "campaign", "status", "reason"],
)
CAMPAIGN_EXPECTED = Gauge(
    "streamer_campaign_expected",
    "Expected number of recipients of a campaign, if set.",
    ["organization", "campaign"],
)

CAMPAIGN_EVENTS = Gauge(
    "streamer_campaign_events",
    "Recipients of a campaign by what became of their mail: delivered, delayed, bounced_permanent, "
    "bounced_transient, complained, opened, clicked, failed_later, suppressed, unsubscribed; for "
    "the most recently changed campaigns, exported by the process that projects.",
    ["organization", "campaign", "type"],
)
EVENTS_READ = Counter(
    "streamer_events_read_total",
    "Mail events read from their topic: applied, unknown (no campaign of ours, or no address), or "
    "unreadable.",
    ["result"],
)
GATEWAY_REQUESTS = Counter(
    "streamer_gateway_requests_total",
    "Requests to the gateway by route (webhook, page) and result: accepted, shown, unsubscribed, "
    "resubscribed, unavailable (Kafka), limited, unknown (token), disconnected, or why a webhook "
    "was refused.",
    ["route", "result"],
)
GATEWAY_EVENTS = Counter(
    "streamer_gateway_events_total",
    "Events acknowledged by Kafka, by type; `other` for those that Resend alone knows.",
    ["type"],
)
GATEWAY_ACK = Histogram(
    "streamer_gateway_ack_seconds",
    "Time until Kafka acknowledged an event.",
    buckets=_LATENCIES,
)
GATEWAY_CUT = Counter(
    "streamer_gateway_connections_cut_total",
    "Connections closed by the gateway: slow, headers_too_large, or crowded_out.",
    ["why"],
)


def _start_at_zero() -> None:
    """Export these series from the start: `increase` misses the first event of one that begins
    with it."""
    OUTCOMES.labels(Status.SENT, "")
    for reason in Reason:
        OUTCOMES.labels(reason.status, reason)
    for dead in DeadReason:
        DEAD_LETTERS.labels(dead)
    for change in ("assigned", "revoked", "lost"):
        REBALANCES.labels(change)
    for scope in (ACCOUNT, DOMAIN, ORGANIZATION, CAMPAIGN, BATCH):
        PARKED.labels(scope)
    for kind in ("outcome", "dead_letter", "parked"):
        REFUSED.labels(kind)
    for stopped in (*(each for each in Reason if each.status is Status.FAILED), *_CAME_BACK):
        CAMPAIGNS_STOPPED.labels(stopped)
    for result in ("applied", "unknown", "unreadable"):
        EVENTS_READ.labels(result)
    for by in ("replicas", "disk"):
        UNCONFIRMED.labels(by)
    for why in ("slow", "headers_too_large", "crowded_out"):
        GATEWAY_CUT.labels(why)


_start_at_zero()


def counts(counter: Counter) -> Iterator[tuple[Mapping[str, str], int]]:
    """Yield the labels and the value of each time series of a counter."""
    for family in counter.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                yield sample.labels, int(sample.value)


def forget_lag(topic: str, partition: int) -> None:
    """Stop exporting the lag of a partition that was revoked."""
    with suppress(KeyError):
        LAG.remove(topic, str(partition))
