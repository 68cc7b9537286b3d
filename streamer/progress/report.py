"""A campaign's progress, for commands, metrics and the results topic."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import cast

import orjson
from pydantic import JsonValue

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.feedback import EVENT_WORDS
from streamer.progress.counts import STATUSES, Counts
from streamer.progress.store import Snapshot, Store

_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Report:
    """A campaign's progress at one moment.

    Attributes:
        name: the campaign.
        state: the campaign's state; without a definition `active` until completed.
        expected: expected number of recipients; None if unknown. A number set by `campaign close`
            or `produce --done` overrides the definition's.
        is_closed: whether all its recipients have been produced.
        counts: its counts.
        events: recipients by what became of their mail, in `EVENT_WORDS`, without those that are 0.
    """

    name: CampaignName
    state: CampaignState
    expected: int | None
    is_closed: bool
    counts: Counts
    events: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether it is completed and no later record is parked."""
        return self.state is CampaignState.COMPLETED and not self.counts.parked

    @property
    def is_expected_reached(self) -> bool:
        """Whether as many records were received as are expected."""
        return self.expected is not None and self.counts.received >= self.expected

    @property
    def ended(self) -> int:
        """Number of outcomes and dead letters."""
        return self.counts.received - self.counts.parked

    @property
    def total(self) -> int | None:
        """Total number of records; None if unknown."""
        if self.expected is None and self.state is not CampaignState.COMPLETED:
            return None
        return max(self.expected or 0, self.counts.received)

    def eta(self, now: datetime, per_second: float | None = None) -> datetime | None:
        """Estimate when the last record gets its result; None if unknown.

        Args:
            now: the current time.
            per_second: the current rate; by default the average.
        """
        rate = per_second if per_second is not None else self.counts.per_second
        left = None if self.total is None else self.total - self.ended
        if self.state is not CampaignState.ACTIVE or not rate or not left:
            return None
        try:
            return now + timedelta(seconds=left / rate)
        except OverflowError:  # after the year 9999
            return None

    def as_json(self, now: datetime) -> dict[str, JsonValue]:
        """Return the report as JSON-compatible values, with the estimate as of `now`."""
        counts, eta = self.counts, self.eta(now)
        return {
            "organization_id": self.name.organization,
            "campaign_id": self.name.campaign_id,
            "state": self.state.value,
            "expected": self.expected,
            "closed": self.is_closed,
            "received": counts.received,
            **{status: counts.ended(status) for status in STATUSES},
            "parked": counts.parked,
            "reasons": {**counts.reasons},
            "events": {word: self.events.get(word, 0) for word in EVENT_WORDS},
            "started_at": counts.first,
            "finished_at": counts.last if self.is_complete else None,
            "per_second": counts.per_second,
            "eta": eta.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if eta else None,
        }

    def summary(self) -> bytes:
        """Return the summary for the results topic; equal counts give equal bytes."""
        counts = self.counts
        return orjson.dumps(
            {
                "organization_id": self.name.organization,
                "campaign_id": self.name.campaign_id,
                "expected": self.expected,
                "total": counts.received,
                **{status: counts.ended(status) for status in STATUSES},
                "reasons": counts.reasons,
                "started_at": counts.first,
                "finished_at": counts.last,
                "per_second": counts.per_second,
                "events": {word: self.events.get(word, 0) for word in EVENT_WORDS},
            }
        )


class Reporter:
    """Makes reports. Caches expected numbers, since definitions never change."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store
        self._expectations: dict[CampaignName, tuple[str, int | None]] = {}

    def report(self, name: CampaignName) -> Report | None:
        """Return a campaign's report; None if it is neither defined nor named by any record.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        (report,) = self.reports([name])
        return report

    def reports(self, wanted: Iterable[CampaignName]) -> list[Report | None]:
        """Return reports for several campaigns in few round trips."""
        names = list(wanted)
        if not names:
            return []
        generation = self._store.current_generation()
        snapshots = self._store.snapshots(names)
        return [
            self.of(name, snapshot, generation)
            for name, snapshot in zip(names, snapshots, strict=True)
        ]

    def of(self, name: CampaignName, snapshot: Snapshot, generation: str | None) -> Report | None:
        """Make a report from a snapshot, ignoring counts of another generation."""
        is_counted = snapshot.generation is not None and snapshot.generation == generation
        is_known = any(
            each is not None
            for each in (snapshot.version, snapshot.state, snapshot.expected, snapshot.closed)
        )
        if not is_counted and not is_known:
            return None
        expected = snapshot.expected
        if expected is None and snapshot.version is not None:
            expected = self._defined(name, snapshot.version)
        return Report(
            name,
            _state(snapshot.state),
            expected,
            snapshot.closed is not None,
            snapshot.counts if is_counted else Counts(),
            snapshot.events,
        )

    def _defined(self, name: CampaignName, version: str) -> int | None:
        known = self._expectations.get(name)
        if known is None or known[0] != version:
            # Read only this number: the rest of the definition may be from a newer version.
            stored = cast(bytes | None, self._client.hget(keys.campaign(*name), "definition"))
            definition = orjson.loads(stored) if stored else {}
            if len(self._expectations) >= _MAX_REMEMBERED:
                self._expectations.clear()
            number = definition.get("expected_recipients")
            known = self._expectations[name] = (version, number if type(number) is int else None)
        return known[1]


def _state(state: str | None) -> CampaignState:
    if state is None:
        return CampaignState.ACTIVE
    try:
        return CampaignState(state)
    except ValueError:
        return CampaignState.PAUSED  # as in workers: nothing is sent in an unknown state
