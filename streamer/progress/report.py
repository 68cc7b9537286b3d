"""A campaign's progress, for commands, metrics and the results topic."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import cast

import orjson
from pydantic import JsonValue

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.model.campaign import CampaignState
from streamer.model.reasons import Status
from streamer.progress.counts import DEAD, Counts
from streamer.progress.fold import CampaignKey
from streamer.progress.store import Snapshot, Store

_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Report:
    """A campaign's progress at one moment.

    Attributes:
        key: the campaign.
        state: the campaign's state; without a definition `active` until completed.
        expected: expected number of recipients; None if unknown. A number set by `campaign close`
            or `produce --done` overrides the definition's.
        counts: its counts.
    """

    key: CampaignKey
    state: CampaignState
    expected: int | None
    counts: Counts

    @property
    def is_complete(self) -> bool:
        """Whether it is completed and no later record is in flight or parked."""
        is_quiet = self.counts.in_flight == 0 and self.counts.parked == 0
        return self.state is CampaignState.COMPLETED and is_quiet

    @property
    def ended(self) -> int:
        """Number of outcomes and dead letters."""
        return self.counts.outcomes + self.counts.ended(DEAD)

    @property
    def total(self) -> int:
        """Known total number of records."""
        return max(self.expected or 0, self.counts.received, self.ended)

    def eta(self, now: datetime, per_second: float | None = None) -> datetime | None:
        """Estimate when the last record gets its result; None if unknown.

        Args:
            now: the current time.
            per_second: the current rate; by default the average.
        """
        rate = per_second if per_second is not None else self.counts.per_second
        left = self.total - self.ended
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
            "organization_id": self.key.organization,
            "campaign_id": self.key.campaign_id,
            "state": self.state.value,
            "expected": self.expected,
            "received": counts.received,
            **{status.value: counts.ended(status) for status in Status},
            "dead": counts.ended(DEAD),
            "parked": counts.parked,
            "in_flight": counts.in_flight,
            "reasons": {**counts.reasons},
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
                "organization_id": self.key.organization,
                "campaign_id": self.key.campaign_id,
                "expected": self.expected,
                "total": counts.received,
                **{status.value: counts.ended(status) for status in Status},
                "dead": counts.ended(DEAD),
                "reasons": counts.reasons,
                "started_at": counts.first,
                "finished_at": counts.last,
                "per_second": counts.per_second,
            }
        )


class Reporter:
    """Makes reports. Caches expected numbers, since definitions never change."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client = client
        self._store = store
        self._expectations: dict[CampaignKey, tuple[str, int | None]] = {}

    def report(self, key: CampaignKey) -> Report | None:
        """Return a campaign's report; None if it is neither defined nor named by any record.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        (report,) = self.reports([key])
        return report

    def reports(self, wanted: Iterable[CampaignKey]) -> list[Report | None]:
        """Return reports for several campaigns in few round trips."""
        names = list(wanted)
        if not names:
            return []
        generation = self._store.current_generation()
        snapshots = self._store.snapshots(names)
        return [
            self.of(key, snapshot, generation)
            for key, snapshot in zip(names, snapshots, strict=True)
        ]

    def of(self, key: CampaignKey, snapshot: Snapshot, generation: str | None) -> Report | None:
        """Make a report from a snapshot, ignoring counts of another generation."""
        is_counted = snapshot.generation is not None and snapshot.generation == generation
        is_known = any(
            each is not None for each in (snapshot.version, snapshot.state, snapshot.expected)
        )
        if not is_counted and not is_known:
            return None
        expected = snapshot.expected
        if expected is None and snapshot.version is not None:
            expected = self._defined(key, snapshot.version)
        return Report(
            key, _state(snapshot.state), expected, snapshot.counts if is_counted else Counts()
        )

    def _defined(self, key: CampaignKey, version: str) -> int | None:
        known = self._expectations.get(key)
        if known is None or known[0] != version:
            # Read only this number: the rest of the definition may be from a newer version.
            stored = cast(bytes | None, self._client.hget(keys.campaign(*key), "definition"))
            definition = orjson.loads(stored) if stored else {}
            if len(self._expectations) >= _MAX_REMEMBERED:
                self._expectations.clear()
            number = definition.get("expected_recipients")
            known = self._expectations[key] = (version, number if type(number) is int else None)
        return known[1]


def _state(state: str | None) -> CampaignState:
    if state is None:
        return CampaignState.ACTIVE
    try:
        return CampaignState(state)
    except ValueError:
        return CampaignState.PAUSED  # as in workers: nothing is sent in an unknown state
