"""The results of a campaign's last mails on all workers: if most fail, the campaign is broken.

Results are stored only for campaigns in which some mails fail. While the list exists, the probe
reports it and every worker counts all mails of the campaign. Otherwise a mail that does not fail
costs nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.confirming import Argument
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read


class BulkFailure(NamedTuple):
    """Too many of a campaign's last mails failed for the same reason.

    Attributes:
        reason: the reason.
        failed: how many failed for it.
    """

    reason: str
    failed: int


class LastMails:
    """Counts resolved mails.

    Args:
        mails: how many of a campaign's last mails to consider.
        failed_share: the share of them that may fail for one reason, from 0 to 1.
    """

    def __init__(self, client: Client, mails: int, failed_share: float) -> None:
        self._script = client.register_script(read("count_mails"))
        self._mails = mails
        self._most = int(mails * failed_share)

    def ended(
        self,
        call: str,
        campaign: tuple[str, str],
        resumed: int,
        mails: int,
        failed: Mapping[str, int],
    ) -> BulkFailure | None:
        """Count resolved mails, and return whether too many of the campaign's last ones failed.

        Args:
            call: a unique name for this count; a retry under the same name is counted once.
            campaign: organization and id.
            resumed: the campaign's `resumed` count when the mails were decided; mails decided
                before it was last resumed do not count.
            mails: the number of resolved mails.
            failed: the number of failed ones among them, by reason.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        args: list[Argument] = [call, resumed, self._mails, self._most, mails]
        for reason, count in failed.items():
            args += [reason, count]
        found = self._script(keys=[keys.last_mails(*campaign), keys.campaign(*campaign)], args=args)
        if found is None:
            return None
        of_reason, how_many = cast(tuple[bytes, int], found)
        return BulkFailure(of_reason.decode(), how_many)
