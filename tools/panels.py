"""What the Grafana dashboards show.

The queries are built from the metrics' definitions, so neither a metric nor a label can be
misspelt.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from streamer import metrics
from streamer.progress.counts import STATUSES

_FROM_PROMETHEUS = {"instance", "job"}
_EXPRESSION = re.compile(r"[|$]")


class Query(NamedTuple):
    """A query in PromQL, and the legend of its series."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class View:
    """A panel.

    Attributes:
        kind: a value over time, the last value, the last values as bars, or states over time.
        unit: in Grafana's words.
        alerts: the alerts that this panel explains.
    """

    kind: Literal["chart", "figure", "bars", "states"]
    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    alerts: Sequence[str] = ()
    width: int = 8
    height: int = 8


# Queries


def one(metric: MetricWrapperBase, suffix: str = "", **labels: str) -> str:
    """The selector of a metric's series.

    Args:
        suffix: which of a histogram's series.
        labels: values of labels; one with a `|` or a `$` is a regular expression.

    Raises:
        AssertionError: the metric has no such label.
    """
    _check(metric, labels)
    name = metric._name + ("_total" if isinstance(metric, Counter) else suffix)
    given = ",".join(
        f'{label}{"=~" if _EXPRESSION.search(value) else "="}"{value}"'
        for label, value in labels.items()
    )
    return f"{name}{{{given}}}" if given else name


def per_second(counter: Counter, *by: str) -> str:
    """How fast a counter grows, by labels."""
    return _sum(counter, f"rate({one(counter)}[$__rate_interval])", by)


def during(counter: Counter, *by: str, over: str = "$__rate_interval", **labels: str) -> str:
    """By how much a counter grew, by labels; without labels it is 0 before it begins to grow."""
    grown = _sum(counter, f"increase({one(counter, **labels)}[{over}])", by)
    return grown if by else f"{grown} or vector(0)"


def quantiles(histogram: Histogram, *by: str) -> list[Query]:
    """The median and the 99th percentile, by labels."""
    buckets = f"rate({one(histogram, '_bucket')}[$__rate_interval])"
    grouped = _sum(histogram, buckets, ("le", *by))
    of = "".join(f"{{{{{label}}}}} " for label in by)
    return [
        Query(f"histogram_quantile({share}, {grouped})", f"{of}{name}")
        for share, name in ((0.5, "median"), (0.99, "99 %"))
    ]


def of_campaigns(gauge: Gauge, *by: str, **labels: str) -> str:
    """A gauge of the chosen campaigns, whichever process exports it."""
    _check(gauge, by)
    chosen = one(gauge, organization="$organization", campaign="$campaign", **labels)
    return f"max by ({', '.join(('organization', 'campaign', *by))}) ({chosen})"


def _in_all(gauge: Gauge, label: str, values: Iterable[str]) -> str:
    """The sum of a campaign's gauges with these values of a label."""
    found = of_campaigns(gauge, label, **{label: "|".join(values)})
    return f"sum by (organization, campaign) ({found})"


def _by_worker(metric: Gauge | Counter) -> list[Query]:
    return [Query(f"sum by (instance) ({one(metric, job='streamer')})", "{{instance}}")]


def _sum(metric: MetricWrapperBase, expr: str, by: Sequence[str]) -> str:
    _check(metric, [label for label in by if label != "le"])
    return f"sum by ({', '.join(by)}) ({expr})" if by else f"sum({expr})"


def _check(metric: MetricWrapperBase, labels: Iterable[str]) -> None:
    unknown = {*labels} - {*metric._labelnames} - _FROM_PROMETHEUS
    assert not unknown, f"{metric._name} has no label {unknown}"


def _help(metric: MetricWrapperBase) -> str:
    return metric._documentation


def _chart(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[Query],
    alerts: Sequence[str] = (),
    width: int = 8,
) -> View:
    return View("chart", title, description, unit, queries, alerts, width)


def _figure(title: str, description: str, expr: str, alerts: Sequence[str] = ()) -> View:
    return View("figure", title, description, "short", [Query(expr, title)], alerts, 4, 4)


# What is shown

FIRING = 'ALERTS{alertname=~"Streamer.+",alertstate="firing"}'
"""The alerts that fire."""
_PENDING = 'ALERTS{alertname=~"Streamer.+",alertstate="pending"}'

_CAMPAIGN = "{{organization}}/{{campaign}}"
_ENDED = _in_all(metrics.CAMPAIGN_RECIPIENTS, "status", STATUSES)
_RECEIVED = of_campaigns(metrics.CAMPAIGN_RECIPIENTS, status="received")
_EXPECTED = of_campaigns(metrics.CAMPAIGN_EXPECTED)
# More may have come than were expected.
_ALL = f"({_EXPECTED} > {_RECEIVED} or {_RECEIVED} and {_EXPECTED})"
_LEFT = f"({_ALL} - {_ENDED})"
# Not `rate`: who begins to count may be a little behind, which is no counter that begins again.
_RATE = f"clamp_min(deriv({_ENDED}[$__rate_interval:]), 0)"
_ARRIVED = _in_all(metrics.CAMPAIGN_EVENTS, "type", ("delivered", "bounced_permanent"))

OPERATE: dict[str, list[View]] = {
    "Is it well?": [
        View(
            "states",
            "Alerts",
            "Pending while the condition has not held for long enough, then firing. An alert links "
            "to the panel that explains it, and to its chapter.",
            "none",
            [Query(f"max by (alertname) (2 * {FIRING} or {_PENDING})", "{{alertname}}")],
            width=24,
        ),
        _figure(
            "Workers up",
            "Workers that Prometheus reaches.",
            'sum(up{job="streamer"})',
            ["StreamerNoWorkerUp"],
        ),
        _figure("Lag", _help(metrics.LAG), f"sum({one(metrics.LAG)})"),
        _figure(
            "Sent",
            "Mails that Resend accepted, in the time that is shown.",
            during(metrics.OUTCOMES, over="$__range", status="sent"),
        ),
        _figure(
            "Indeterminate",
            "Recipients who may or may not have their mail, in the time that is shown.",
            during(metrics.OUTCOMES, over="$__range", status="indeterminate"),
            ["StreamerIndeterminate"],
        ),
        _figure(
            "Dead letters",
            "Input records that name no campaign that can be acted on, in the time that is shown.",
            during(metrics.DEAD_LETTERS, over="$__range"),
        ),
        _figure(
            "Accounts held",
            "Accounts that send nothing, or nothing from one domain.",
            f"count(max by (account) ({one(metrics.ACCOUNT_HELD)}) == 1) or vector(0)",
        ),
    ],
    "Rate": [
        _chart(
            "Outcomes",
            _help(metrics.OUTCOMES),
            "cps",
            [Query(per_second(metrics.OUTCOMES, "status", "reason"), "{{status}} {{reason}}")],
        ),
        _chart(
            "Calls and allowed calls",
            "Calls to Resend of all workers together, and how many they may make. A call carries "
            "up to `batch.size` mails.",
            "reqps",
            [
                Query(per_second(metrics.API_REQUESTS, "account"), "{{account}}"),
                Query(f"max by (account) ({one(metrics.ALLOWED_CALLS)})", "{{account}}: allowed"),
            ],
        ),
        _chart(
            "Waiting for the rate limit",
            _help(metrics.THROTTLED) + " In seconds per second: how many batches wait on average.",
            "none",
            [Query(per_second(metrics.THROTTLED, "account"), "{{account}}")],
            ["StreamerThrottled"],
        ),
        _chart(
            "Lag by partition",
            _help(metrics.LAG),
            "short",
            [Query(f"sum by (partition) ({one(metrics.LAG)})", "{{partition}}")],
            ["StreamerLagNotShrinking", "StreamerLagGrowing"],
        ),
        _chart(
            "Records read",
            _help(metrics.RECORDS_CONSUMED),
            "cps",
            [Query(per_second(metrics.RECORDS_CONSUMED), "read")],
        ),
        _chart(
            "Mails per call",
            "On average. Calls that are not full waste the allowed rate.",
            "short",
            [
                Query(
                    f"sum(rate({one(metrics.BATCH_EMAILS, '_sum')}[$__rate_interval])) / "
                    f"sum(rate({one(metrics.BATCH_EMAILS, '_count')}[$__rate_interval]))",
                    "mails",
                )
            ],
        ),
    ],
    "Holds and errors": [
        _chart(
            "Holds",
            _help(metrics.ACCOUNT_HELD),
            "none",
            [
                Query(
                    f"max by (account, reason) ({one(metrics.ACCOUNT_HELD)})",
                    "{{account}}: {{reason}}",
                )
            ],
            ["StreamerAccountHeld"],
        ),
        _chart(
            "Calls by result",
            _help(metrics.API_REQUESTS),
            "reqps",
            [
                Query(
                    per_second(metrics.API_REQUESTS, "account", "result"), "{{account}}: {{result}}"
                )
            ],
        ),
        _chart(
            "Parked and returned",
            "Records moved to the parked topic, by what they wait for, and those that came back.",
            "cps",
            [
                Query(per_second(metrics.PARKED, "kind"), "parked: {{kind}}"),
                Query(per_second(metrics.RETURNED), "returned"),
            ],
        ),
        _chart(
            "Dead letters by reason",
            _help(metrics.DEAD_LETTERS),
            "short",
            [Query(during(metrics.DEAD_LETTERS, "reason"), "{{reason}}")],
            ["StreamerDeadLetters"],
        ),
        _chart(
            "Campaigns stopped",
            _help(metrics.CAMPAIGNS_STOPPED),
            "short",
            [Query(during(metrics.CAMPAIGNS_STOPPED, "reason"), "{{reason}}")],
            ["StreamerCampaignStopped"],
        ),
        _chart(
            "Results rejected by Kafka",
            _help(metrics.REFUSED),
            "short",
            [Query(during(metrics.REFUSED, "kind"), "{{kind}}")],
            ["StreamerEndingsRefused"],
        ),
        _chart(
            "Records missed",
            _help(metrics.RECORDS_MISSED) + " Since the worker started.",
            "short",
            # No rate: a worker that starts after a long rest misses them before its first scrape.
            _by_worker(metrics.RECORDS_MISSED),
            ["StreamerRecordsMissed"],
        ),
    ],
    "By worker": [
        _chart(
            "Oldest batch",
            _help(metrics.OLDEST_BATCH_AGE),
            "s",
            _by_worker(metrics.OLDEST_BATCH_AGE),
            ["StreamerOldestBatchAge"],
        ),
        _chart("Blocked records", _help(metrics.BLOCKED), "short", _by_worker(metrics.BLOCKED)),
        _chart(
            "Rebalances",
            _help(metrics.REBALANCES),
            "short",
            [Query(during(metrics.REBALANCES, "instance", "change"), "{{instance}} {{change}}")],
            ["StreamerRebalances"],
        ),
        _chart("Lag by worker", _help(metrics.LAG), "short", _by_worker(metrics.LAG)),
        _chart("In flight", _help(metrics.IN_FLIGHT), "short", _by_worker(metrics.IN_FLIGHT)),
        _chart(
            "Memory in flight",
            _help(metrics.IN_FLIGHT_BYTES),
            "bytes",
            _by_worker(metrics.IN_FLIGHT_BYTES),
        ),
        _chart(
            "State",
            _help(metrics.WORKER_STATE),
            "none",
            [
                Query(
                    f"max by (instance, state) ({one(metrics.WORKER_STATE, job='streamer')} == 1)",
                    "{{instance}} {{state}}",
                )
            ],
        ),
        _chart(
            "CPU time of an iteration",
            _help(metrics.TICK),
            "s",
            quantiles(metrics.TICK, "instance"),
        ),
        _chart(
            "Finishing before a revoke",
            _help(metrics.REVOKE_DRAIN),
            "s",
            quantiles(metrics.REVOKE_DRAIN),
        ),
    ],
    "How long things take": [
        _chart("Kafka transaction", _help(metrics.COMMIT), "s", quantiles(metrics.COMMIT)),
        _chart(
            "Redis: suppression check",
            _help(metrics.SUPPRESSION_CHECK),
            "s",
            quantiles(metrics.SUPPRESSION_CHECK),
        ),
        _chart("Redis: pin", _help(metrics.PIN), "s", quantiles(metrics.PIN)),
        _chart("Call to Resend", _help(metrics.SEND), "s", quantiles(metrics.SEND)),
        _chart(
            "Redis: unconfirmed writes",
            _help(metrics.UNCONFIRMED),
            "short",
            [Query(during(metrics.UNCONFIRMED, "by"), "{{by}}")],
        ),
    ],
    "Gateway and mail events": [
        _chart(
            "Requests to the gateway",
            _help(metrics.GATEWAY_REQUESTS),
            "reqps",
            [
                Query(
                    per_second(metrics.GATEWAY_REQUESTS, "route", "result"), "{{route}} {{result}}"
                )
            ],
        ),
        _chart(
            "Events taken by the gateway",
            _help(metrics.GATEWAY_EVENTS),
            "cps",
            [Query(per_second(metrics.GATEWAY_EVENTS, "type"), "{{type}}")],
        ),
        _chart(
            "Kafka's acknowledgement",
            _help(metrics.GATEWAY_ACK),
            "s",
            quantiles(metrics.GATEWAY_ACK),
        ),
        _chart(
            "Connections cut",
            _help(metrics.GATEWAY_CUT),
            "short",
            [Query(during(metrics.GATEWAY_CUT, "why"), "{{why}}")],
        ),
        _chart(
            "Events applied",
            _help(metrics.EVENTS_READ),
            "cps",
            [Query(per_second(metrics.EVENTS_READ, "result"), "{{result}}")],
        ),
    ],
}

CAMPAIGNS: dict[str, list[View]] = {
    "Progress": [
        View(
            "bars",
            "Progress",
            "Recipients with a result, of those that are expected. Empty for a campaign of which "
            "it is not known how many those are.",
            "percentunit",
            [Query(f"{_ENDED} / {_ALL}", _CAMPAIGN)],
        ),
        View(
            "bars",
            "Recipients left",
            "Expected recipients without a result; parked ones are among them.",
            "short",
            [Query(_LEFT, _CAMPAIGN)],
        ),
        View(
            "bars",
            "Time left",
            "At the present rate. Empty for a campaign that does not move.",
            "s",
            [Query(f"{_LEFT} / ({_RATE} > 0)", _CAMPAIGN)],
        ),
        _chart(
            "Rate",
            "Recipients that get a result, whichever it is.",
            "cps",
            [Query(_RATE, _CAMPAIGN)],
        ),
        _chart(
            "Received and expected",
            "Recipients with a result or parked, and how many are expected.",
            "short",
            [
                Query(_RECEIVED, f"{_CAMPAIGN}: received"),
                Query(_EXPECTED, f"{_CAMPAIGN}: expected"),
            ],
        ),
        _chart(
            "Parked",
            "Recipients that wait for the campaign to be resumed, or for a hold to end.",
            "short",
            [Query(of_campaigns(metrics.CAMPAIGN_RECIPIENTS, status="parked"), _CAMPAIGN)],
        ),
    ],
    "Results": [
        View(
            "bars",
            "Results by reason",
            _help(metrics.CAMPAIGN_OUTCOMES),
            "short",
            [
                Query(
                    of_campaigns(metrics.CAMPAIGN_OUTCOMES, "status", "reason"),
                    f"{_CAMPAIGN}: {{{{status}}}} {{{{reason}}}}",
                )
            ],
            width=12,
        ),
        _chart(
            "Results",
            "Recipients by status, and dead letters that name the campaign.",
            "short",
            [
                Query(
                    of_campaigns(metrics.CAMPAIGN_RECIPIENTS, "status", status="|".join(STATUSES)),
                    f"{_CAMPAIGN}: {{{{status}}}}",
                )
            ],
            width=12,
        ),
    ],
    "What became of the mail": [
        View(
            "bars",
            "Recipients by event",
            _help(metrics.CAMPAIGN_EVENTS),
            "short",
            [Query(of_campaigns(metrics.CAMPAIGN_EVENTS, "type"), f"{_CAMPAIGN}: {{{{type}}}}")],
        ),
        _chart(
            "Complaints",
            "Recipients who marked the mail as spam, of those whose mail was delivered or bounced. "
            "Gmail and Yahoo expect less than 0.1 %.",
            "percentunit",
            [
                Query(
                    f"{of_campaigns(metrics.CAMPAIGN_EVENTS, type='complained')} / {_ARRIVED}",
                    _CAMPAIGN,
                )
            ],
            ["StreamerComplaints"],
        ),
        _chart(
            "Bounces",
            "Recipients whose mail bounced for good, of those whose mail was delivered or bounced.",
            "percentunit",
            [
                Query(
                    f"{of_campaigns(metrics.CAMPAIGN_EVENTS, type='bounced_permanent')}"
                    f" / {_ARRIVED}",
                    _CAMPAIGN,
                )
            ],
            ["StreamerBounces"],
        ),
    ],
}
