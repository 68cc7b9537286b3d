"""Every metric, once, with its help. No address and no recipient id is ever a label."""

from contextlib import suppress

from prometheus_client import Counter, Gauge, Histogram

_LATENCIES = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TICKS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1)
_FILLS = (1, 10, 25, 50, 75, 90, 95, 99, 100)

WORKER_STATE = Gauge(
    "streamer_worker_state",
    "1 for the state that this worker is in, 0 for the others: starting, running, "
    "waiting_for_redis, draining, stopped.",
    ["state"],
)
RECORDS_CONSUMED = Counter(
    "streamer_records_consumed_total", "Input records taken from Kafka, redeliveries included."
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
    "streamer_batch_emails", "Emails in a call to Resend: the fill of a batch.", buckets=_FILLS
)
SUPPRESSION_CHECK = Histogram(
    "streamer_suppression_check_seconds",
    "Round trip to Redis that checks a batch against the suppression set.",
    buckets=_LATENCIES,
)
PIN = Histogram(
    "streamer_pin_seconds",
    "Round trip to Redis that claims a batch's recipients and keeps its bytes.",
    buckets=_LATENCIES,
)
SEND = Histogram(
    "streamer_send_seconds", "One call to Resend, whatever its answer.", buckets=_LATENCIES
)
API_REQUESTS = Counter(
    "streamer_api_requests_total",
    "Calls to Resend by account and result: accepted, or the name of the error.",
    ["account", "result"],
)
THROTTLED = Counter(
    "streamer_throttled_seconds_total",
    "Time that batches waited for the account's rate limit.",
    ["account"],
)
CAMPAIGNS_STOPPED = Counter(
    "streamer_campaigns_stopped_total",
    "Campaigns that this worker paused, as most of their last mails failed for the reason.",
    ["reason"],
)
PARKED = Counter(
    "streamer_parked_total",
    "Records moved to the parked topic, by the kind of what they wait for.",
    ["kind"],
)
RETURNED = Counter(
    "streamer_returned_total", "Records that this worker brought back from the parked topic."
)
COMMIT = Histogram(
    "streamer_commit_seconds",
    "One Kafka transaction: outcomes, dead letters and offsets.",
    buckets=_LATENCIES,
)
TICK = Histogram(
    "streamer_tick_seconds",
    "CPU time of a turn of the worker's loop: admitting records and starting batches.",
    buckets=_TICKS,
)
REFUSED = Counter(
    "streamer_refused_endings_total",
    "Endings that Kafka refused as they were, so that less of them was written, by kind.",
    ["kind"],
)
IN_FLIGHT_BYTES = Gauge(
    "streamer_in_flight_bytes",
    "Memory that the records take that are admitted and not yet committed by this worker, about.",
)
IN_FLIGHT = Gauge(
    "streamer_in_flight_emails", "Records admitted and not yet committed by this worker."
)
LAG = Gauge(
    "streamer_consumer_lag",
    "Records of an assigned partition that are not yet committed.",
    ["topic", "partition"],
)
BLOCKED = Gauge(
    "streamer_blocked_records",
    "Records that are decided and wait for an older one of their partition to be.",
)
OLDEST_BATCH_AGE = Gauge(
    "streamer_oldest_batch_age_seconds",
    "Age of the oldest batch that is pinned and not resolved; 0 if there is none.",
)
REBALANCES = Counter(
    "streamer_rebalances_total", "Changes of this worker's assignment.", ["change"]
)
ACCOUNT_HELD = Gauge(
    "streamer_account_held",
    "1 while an account's calls are held back for the reason.",
    ["account", "reason"],
)
REVOKE_DRAIN = Histogram(
    "streamer_revoke_drain_seconds",
    "Time spent in finishing what was in flight before partitions were given up.",
    buckets=_LATENCIES,
)
CAMPAIGN_RECIPIENTS = Gauge(
    "streamer_campaign_recipients",
    "Recipients of a campaign by status, received, parked and in_flight among them; "
    "of the campaigns that changed last, shown by the process that projects.",
    ["organization", "campaign", "status"],
)
CAMPAIGN_EXPECTED = Gauge(
    "streamer_campaign_expected",
    "Recipients that a campaign is to have, where that was said.",
    ["organization", "campaign"],
)


def forget_lag(topic: str, partition: int) -> None:
    """Show no lag any more of a partition that another worker has now."""
    with suppress(KeyError):
        LAG.remove(topic, str(partition))
