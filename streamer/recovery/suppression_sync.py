"""Exchanging suppressions with Resend's own list, which belongs to the account as a whole."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from streamer.ledger import suppression
from streamer.ledger.connection import Client
from streamer.model.address import InvalidAddressError, normalise
from streamer.provider.calls import PAGE, PacedCalls
from streamer.provider.client import ResendClient

Progress = Callable[[str, int], None]
"""Called with what is done and how many addresses so far."""


@dataclass(slots=True)
class SyncReport:
    """What was exchanged, or in a dry run would be.

    Attributes:
        at_resend: addresses on Resend's list.
        pulled: of those, how many were added to an organization's set, summed over them.
        pushed: addresses added to Resend's list.
        invalid: entries of Resend's list, or of a set, that are not addresses.
    """

    at_resend: int = 0
    pulled: int = 0
    pushed: int = 0
    invalid: int = 0


class SuppressionSync:
    """Adds to each side what only the other has; takes nothing away. Safe to repeat.

    Args:
        organizations: those that the account serves.
    """

    def __init__(
        self,
        redis: Client,
        resend: ResendClient,
        key: str,
        organizations: Sequence[str],
        progress: Progress,
        calls: PacedCalls | None = None,
    ) -> None:
        self._redis = redis
        self._resend = resend
        self._key = key
        self._organizations = organizations
        self._progress = progress
        self._calls = calls or PacedCalls()
        self.report = SyncReport()

    def run(self, *, dry_run: bool) -> None:
        """Exchange, first from Resend.

        Raises:
            CallError: Resend cannot be used; `report` says what was done.
            redis.exceptions.RedisError: Redis cannot be used.
        """
        known: set[str] = set()
        for page in self._calls.pages(partial(self._resend.suppressions, self._key)):
            addresses = [found for item in page if (found := self._normalised(item.get("email")))]
            known.update(addresses)
            self.report.at_resend = len(known)
            for organization in self._organizations:
                self.report.pulled += self._pull(organization, addresses, dry_run=dry_run)
            self._progress("from Resend", self.report.at_resend)
        waiting = self._unknown(known)
        while chunk := list(islice(waiting, PAGE)):
            if not dry_run:
                self._calls.make(partial(self._resend.suppress, self._key, chunk))
            self.report.pushed += len(chunk)
            self._progress("to Resend", self.report.pushed)

    def _pull(self, organization: str, addresses: Sequence[str], *, dry_run: bool) -> int:
        if dry_run:
            return suppression.check(self._redis, organization, addresses).count(False)
        return suppression.add(self._redis, organization, addresses)

    def _unknown(self, known: set[str]) -> Iterator[str]:
        """Yield each suppressed address that is not known, once."""
        for organization in self._organizations:
            for given in suppression.export(self._redis, organization):
                address = self._normalised(given)
                if address is not None and address not in known:
                    known.add(address)
                    yield address

    def _normalised(self, given: object) -> str | None:
        try:
            return normalise(str(given))
        except InvalidAddressError:
            self.report.invalid += 1
            return None
