"""What `streamer watch` shows, read from Redis and Kafka; it outlives both going away."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.cli.names import all_campaigns
from streamer.cli.progress import NOBODY_COUNTS
from streamer.doctor.check_result import Level
from streamer.doctor.workers import alive, judge_workers
from streamer.flow.rate import allowed_rate
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.offsets import GroupLag
from streamer.kafka.properties import COMMAND, client_properties
from streamer.ledger import keys, lease, responses
from streamer.ledger.connection import REDIS_ERRORS, Client
from streamer.ledger.failure import redis_failure
from streamer.ledger.heartbeats import Heartbeat, Heartbeats
from streamer.ledger.holds import AccountState, Holds
from streamer.model.campaign import CampaignName
from streamer.model.printable import printable
from streamer.model.standing import distance
from streamer.progress.rates import Rates
from streamer.progress.report import Report, Reporter
from streamer.progress.standings import Standings
from streamer.progress.store import Store
from streamer.settings import Settings

_FRESH = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class WatchedCampaign:
    """One campaign.

    Attributes:
        report: its progress.
        words: its state.
        rate: results per second over the last 10 s.
    """

    report: Report
    words: str
    rate: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """One account's calls per second, and how many are allowed."""

    account: str
    calls: float
    allowed: float


@dataclass(frozen=True, slots=True)
class Overview:
    """What one refresh shows.

    Attributes:
        campaigns: those that go on first, each by latest activity.
        workers: the last heartbeats of those that run.
        lag: the number of records that no worker has committed; None if unknown.
        held: each hold in a few words.
        troubles: what an operator should look at.
        outages: what cannot be reached; all else may then be old.
    """

    now: datetime
    campaigns: Sequence[WatchedCampaign] = ()
    allowances: Sequence[Allowance] = ()
    workers: Sequence[Heartbeat] = ()
    lag: int | None = None
    held: Sequence[str] = ()
    troubles: Sequence[str] = ()
    outages: Sequence[str] = ()


class Backlog:
    """Measures what waits in Kafka. A call may block for some seconds while Kafka is away.

    Attributes:
        outage: why Kafka cannot be used, and since when; None if it can.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._errors = KafkaErrorLog(settings)
        self._admin: AdminClient | None = None
        self._lag: GroupLag | None = None
        self._outage = _Outage()

    @property
    def outage(self) -> str | None:
        return self._outage.words

    def measure(self) -> int | None:
        """Return the number of records that no worker has committed; None if unknown."""
        try:
            if self._admin is None:
                self._admin = AdminClient(
                    client_properties(self._settings, COMMAND), error_cb=self._errors.note
                )
            if self._lag is None:
                self._lag = GroupLag(self._settings, self._admin)
        except KafkaException as error:
            self._outage.begin(self._errors.describe(error.args[0]))
            return None
        lag = self._lag.measure()
        if lag is None:
            self._outage.begin(f"Kafka at {self._settings.kafka.bootstrap_servers} does not answer")
        else:
            self._outage.end()
        return lag


class Watcher:
    """Reads the state of campaigns, accounts and workers.

    Args:
        campaign: the only one to watch; None for all.
        backlog: returns the number of waiting records as last measured, and why Kafka cannot be
            used, if so.
    """

    def __init__(
        self,
        settings: Settings,
        client: Client,
        campaign: CampaignName | None,
        backlog: Callable[[], tuple[int | None, str | None]],
    ) -> None:
        self._settings = settings
        self._client = client
        self._campaign = campaign
        self._backlog = backlog
        self._store = Store(client, settings.kafka.group_id)
        self._reporter = Reporter(client, self._store)
        self._standings = Standings(client, settings)
        self._heartbeats = Heartbeats(client, settings.kafka.group_id)
        self._rates = Rates()
        self._outage = _Outage()
        self._last = Overview(datetime.now(UTC))

    def look(self) -> Overview:
        """Return what there is to see; while Redis is away, what was seen last."""
        now = datetime.now(UTC)
        lag, kafka = self._backlog()
        try:
            seen = self._look(now, lag)
            self._outage.end()
        except REDIS_ERRORS as error:
            self._outage.begin(redis_failure(self._settings, error))
            seen = self._last
        outages = [each for each in (self._outage.words, kafka) if each is not None]
        self._last = replace(seen, now=now, lag=lag, outages=outages)
        return self._last

    def _look(self, now: datetime, lag: int | None) -> Overview:
        names = [self._campaign] if self._campaign else all_campaigns(self._client, self._settings)
        reports = {
            name: report
            for name, report in zip(names, self._reporter.reports(names), strict=True)
            if report is not None
        }
        words = self._standings.of([*reports], reports, now)
        seconds = time.monotonic()
        found = [
            WatchedCampaign(report, words[name], self._rates.of(report, seconds))
            for name, report in reports.items()
        ]
        found.sort(key=lambda each: each.report.counts.last or "", reverse=True)
        found.sort(key=lambda each: each.report.is_complete)
        states = Holds(self._client).read(self._settings.accounts)
        seen = self._heartbeats.read()
        running = [each.heartbeat for each in alive(seen)]
        troubles = [
            f"{each.subject}: {each.text}"
            for each in judge_workers(seen, lag)
            if each.level is not Level.OK
        ]
        if not self._is_counted():
            troubles.append(NOBODY_COUNTS)
        return Overview(
            now,
            found,
            self._allowances(states, running),
            running,
            lag,
            held_accounts(states),
            [*troubles, *self._answers(now)],
        )

    def _is_counted(self) -> bool:
        return lease.is_held(self._client, keys.progress_lease(self._settings.kafka.group_id))

    def _allowances(
        self, states: Mapping[str, AccountState], running: Sequence[Heartbeat]
    ) -> list[Allowance]:
        return [
            Allowance(
                name,
                sum(each.calls_per_second.get(name, 0.0) for each in running),
                allowed_rate(account.requests_per_second, states[name].limit),
            )
            for name, account in self._settings.accounts.items()
        ]

    def _answers(self, now: datetime) -> list[str]:
        """Describe the latest answers of Resend that were not `accepted`."""
        last = responses.read(self._client, self._settings.accounts)
        return [
            f"account {name}: {answer.result} {distance(answer.at - now)}"
            + (f" ({printable(answer.message)})" if answer.message else "")
            for name, answers in last.items()
            for answer in answers
            if now - answer.at < _FRESH
        ]


class _Outage:
    """Why something cannot be used, and since when."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._reason = ""

    def begin(self, reason: str) -> None:
        self._since = self._since or datetime.now(UTC)
        self._reason = reason

    def end(self) -> None:
        self._since = None

    @property
    def words(self) -> str | None:
        if self._since is None:
            return None
        return f"{self._reason} (for {(datetime.now(UTC) - self._since).total_seconds():.0f} s)"


def held_accounts(states: Mapping[str, AccountState]) -> list[str]:
    """Describe each current hold in a few words."""
    return [
        printable(f"{account}{f' ({domain})' if domain else ''}: {hold.reason}")
        for account, state in states.items()
        for domain, hold in state.holds.items()
    ]
