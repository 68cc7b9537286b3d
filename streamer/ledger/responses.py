"""What an account was answered last, other than that its mails were taken; to show, not to rely on.

By the answer's name, so that what came a thousand times does not drive out what came once.
"""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from streamer.ledger import keys
from streamer.ledger.connection import Client

_MAX_WORDS = 300


class LastResponse(NamedTuple):
    """An answer that was not `accepted`.

    Attributes:
        result: its name, as in metrics.
        message: the provider's, or why there was no answer.
        at: when it came last.
    """

    result: str
    message: str
    at: datetime


def note(client: Client, account: str, result: str, message: str) -> None:
    """Keep an answer, in place of an earlier one of that name.

    Raises:
        redis.exceptions.RedisError: Redis cannot be used.
    """
    value = f"{round(time.time() * 1000)} {message[:_MAX_WORDS]}"
    client.hset(keys.account_responses(account), result, value)


def read(client: Client, accounts: Iterable[str]) -> dict[str, list[LastResponse]]:
    """The last answers of accounts, the latest first, in one round trip."""
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
