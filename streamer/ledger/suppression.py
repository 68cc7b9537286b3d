"""The suppressed addresses of an organization, which are never mailed.

Callers must pass addresses normalised by `streamer.model.address.normalise`.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import cast

from streamer.ledger import keys
from streamer.ledger.confirming import confirmed
from streamer.ledger.connection import Client

_CHUNK = 1000
"""Addresses per command: Redis serves no other client while it executes a command."""


def add(client: Client, organization: str, addresses: Iterable[str]) -> int:
    """Suppress addresses, confirmed; return how many were not suppressed before."""
    key = keys.suppressed(organization)
    return sum(
        cast(int, confirmed(client, key, "SADD", key, *chunk)) for chunk in _chunks(addresses)
    )


def remove(client: Client, organization: str, addresses: Iterable[str]) -> int:
    """Stop suppressing addresses, confirmed; return how many were suppressed before."""
    key = keys.suppressed(organization)
    return sum(
        cast(int, confirmed(client, key, "SREM", key, *chunk)) for chunk in _chunks(addresses)
    )


def clear(client: Client, organization: str) -> int:
    """Stop suppressing all addresses; return how many were suppressed."""
    key = keys.suppressed(organization)
    pipeline = client.pipeline(transaction=True)
    pipeline.scard(key)
    pipeline.unlink(key)
    count, _ = cast(tuple[int, int], pipeline.execute())
    return count


def check(client: Client, organization: str, addresses: Sequence[str]) -> list[bool]:
    """Return whether each address is suppressed, in order."""
    key = keys.suppressed(organization)
    found: list[bool] = []
    for chunk in _chunks(addresses):
        found.extend(bool(member) for member in cast(list[int], client.smismember(key, chunk)))
    return found


def export(client: Client, organization: str) -> Iterator[str]:
    """Yield all suppressed addresses, in no particular order.

    Addresses added or removed during the iteration may be missing, and an address may be repeated.
    """
    for member in client.sscan_iter(keys.suppressed(organization), count=_CHUNK):
        # Other services write to the set too: show invalid UTF-8 escaped instead of failing.
        yield cast(bytes, member).decode(errors="backslashreplace")


def count(client: Client, organization: str) -> int:
    """Return the number of suppressed addresses."""
    return client.scard(keys.suppressed(organization))


def _chunks(addresses: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(addresses)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
