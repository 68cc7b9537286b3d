"""How the last mails of a campaign ended, at all workers: where most fail, it is broken.

Only of campaigns of which some fail anything is kept: while the list is there, the probe says so
and every worker counts all its mails; otherwise a mail that does not fail costs nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple, cast

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.scripts import Argument, read


class BulkFailure(NamedTuple):
    """Most of a campaign's last mails failed.

    Attributes:
        reason: for which they failed.
        failed: how many of them.
    """

    reason: str
    failed: int


class LastMails:
    """Counts mails that ended.

    Args:
        mails: how many of a campaign's last mails count.
        failed_share: of them that may fail for one reason, from 0 to 1.
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
        """Count mails, and say whether too many of the campaign's last ones failed.

        Args:
            call: a name for this count: under one name it is made once, should it be repeated.
            campaign: organization and id.
            resumed: how often it was resumed when the mails were decided; what was decided
                before it was resumed last does not count.
            mails: how many ended.
            failed: how many of them failed, by reason.

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
