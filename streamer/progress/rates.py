"""Current rates of campaigns."""

from collections import deque
from dataclasses import dataclass, field

from streamer.model.campaign import CampaignName
from streamer.progress.report import Report

_RATE_OVER_S = 10.0


@dataclass(slots=True)
class Rates:
    """Current rates of campaigns, from their recent reports."""

    _seen: dict[CampaignName, deque[tuple[float, int]]] = field(default_factory=dict)

    def of(self, report: Report, now: float) -> float:
        """Add a report and return results per second; `now` is in monotonic seconds."""
        seen = self._seen.setdefault(report.name, deque())
        seen.append((now, report.ended))
        while len(seen) > 2 and now - seen[1][0] >= _RATE_OVER_S:
            seen.popleft()
        while len(seen) > 2 and seen[0][1] == seen[1][1]:
            seen.popleft()  # the time before the first result is no part of the rate
        then, ended = seen[0]
        return max(0.0, (report.ended - ended) / (now - then)) if now > then else 0.0
