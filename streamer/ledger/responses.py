"""An account's last responses other than `accepted`; for display only, nothing relies on them.

They are stored by name, so that a frequent response does not displace a rare one.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from streamer.ledger import keys
from streamer.ledger.connection import Client

_MAX_MESSAGE = 300


class LastResponse(NamedTuple):
    """A response other than `accepted`.

    Attributes:
        result: its name, as in metrics.
        message: the provider's message, or why there was no response.
        at: when it came last.
    """

    result: str
    message: str
    at: datetime


def note(client: Client, account: str, result: str, message: str) -> None:
    """Store a response, replacing an earlier one of the same name.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    value = f"{round(time.time() * 1000)} {message[:_MAX_MESSAGE]}"
    client.hset(keys.account_responses(account), result, value)


def read(client: Client, accounts: Iterable[str]) -> dict[str, list[LastResponse]]:
    """Return the last responses of accounts, latest first, in one round trip."""
    names = list(accounts)
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.hgetall(keys.account_responses(name))
    return {
        name: sorted(
            (_response(result.decode(), value.decode(errors="replace"))
             for result, value in fields.items()),
            key=lambda answer: answer.at,
            reverse=True,
        )
        for name, fields in zip(names, pipeline.execute(), strict=True)
    }  # fmt: skip


def _response(result: str, value: str) -> LastResponse:
    ms, _, message = value.partition(" ")
    return LastResponse(result, message, datetime.fromtimestamp(int(ms) / 1000, UTC))
