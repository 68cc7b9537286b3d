"""When most mails of a campaign fail for one reason, it is the campaign that is broken. Pure."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from threading import Lock
from typing import NamedTuple

_MOST_CAMPAIGNS = 1_000

CampaignName = tuple[str, str]
"""Organization and campaign."""


class Bulk(NamedTuple):
    """Most of a campaign's last mails failed.

    Attributes:
        reason: for which they failed.
        failed: how many of them.
    """

    reason: str
    failed: int


class BulkFailures:
    """Remembers of each campaign which of its last mails failed. Any thread may tell it.

    A campaign that does not fail takes no memory; of those that do the latest thousand are known.

    Args:
        mails: how many of a campaign's mails it looks back on.
        failed_share: of them that may fail for one reason, from 0 to 1.
    """

    def __init__(self, mails: int, failed_share: float) -> None:
        self._mails = mails
        self._limit = mails * failed_share
        self._campaigns: OrderedDict[CampaignName, _Last] = OrderedDict()
        self._lock = Lock()

    def ended(
        self, campaign: CampaignName, resumed: int, reasons: Iterable[str | None]
    ) -> Bulk | None:
        """Take mails that ended, and say whether too many of the last have failed.

        It takes as many mails as it looks back on, and not a few at the start, to say so; and
        as many more to say it again.

        Args:
            resumed: how often the campaign was resumed until then: what ended before counts no
                more.
            reasons: why each failed; None for a mail that did not.
        """
        found = None
        with self._lock:
            last = self._campaigns.get(campaign)
            if last is None or last.resumed != resumed:
                last = _Last(resumed)
            for reason in reasons:
                failed = last.end(reason, self._mails)
                if failed > self._limit and last.ended > last.quiet_until:
                    last.quiet_until = last.ended + self._mails
                    found = Bulk(reason or "", failed)
            self._keep(campaign, last)
        return found

    def _keep(self, campaign: CampaignName, last: "_Last") -> None:
        if last.is_clean:
            self._campaigns.pop(campaign, None)
            return
        self._campaigns[campaign] = last
        self._campaigns.move_to_end(campaign)
        if len(self._campaigns) > _MOST_CAMPAIGNS:
            self._campaigns.popitem(last=False)


class _Last:
    """A campaign's last mails: by the reasons for which some failed, the numbers of these.

    Attributes:
        ended: mails so far.
        quiet_until: the number of the mail before which nothing more is said.
    """

    __slots__ = ("ended", "failed", "quiet_until", "resumed")

    def __init__(self, resumed: int) -> None:
        self.resumed = resumed
        self.ended = 0
        self.quiet_until = 0
        self.failed: dict[str, deque[int]] = {}

    @property
    def is_clean(self) -> bool:
        """Whether none of the last mails failed, and nothing was said of them."""
        return not self.failed and self.ended >= self.quiet_until

    def end(self, reason: str | None, mails: int) -> int:
        """Take a mail; returns how many of the last failed like it, 0 if it did not fail."""
        self.ended += 1
        for known, numbers in list(self.failed.items()):
            if numbers[0] <= self.ended - mails:
                numbers.popleft()
                if not numbers:
                    del self.failed[known]
        if reason is None:
            return 0
        numbers = self.failed.setdefault(reason, deque())
        numbers.append(self.ended)
        return len(numbers)
