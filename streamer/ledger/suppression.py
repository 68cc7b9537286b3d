"""The suppressed addresses of an organization: nobody among them is mailed.

All addresses are in the form of `streamer.model.address.normalise`; that is the caller's to do.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import cast

from streamer.ledger import keys
from streamer.ledger.connection import Client

_CHUNK = 1000
"""Addresses a command: Redis serves nobody else while it works on one."""


def add(client: Client, organization: str, addresses: Iterable[str]) -> int:
    """Suppress the addresses; returns how many of them were not before."""
    key = keys.suppressed(organization)
    return sum(client.sadd(key, *chunk) for chunk in _chunks(addresses))


def remove(client: Client, organization: str, addresses: Iterable[str]) -> int:
    """Suppress the addresses no more; returns how many of them were before."""
    key = keys.suppressed(organization)
    return sum(client.srem(key, *chunk) for chunk in _chunks(addresses))


def check(client: Client, organization: str, addresses: Sequence[str]) -> list[bool]:
    """Whether each of the addresses is suppressed, in their order."""
    key = keys.suppressed(organization)
    found: list[bool] = []
    for chunk in _chunks(addresses):
        found.extend(bool(member) for member in cast(list[int], client.smismember(key, chunk)))
    return found


def export(client: Client, organization: str) -> Iterator[str]:
    """All suppressed addresses, in no order.

    One that is added or removed meanwhile may be missing, and one may come twice.
    """
    for member in client.sscan_iter(keys.suppressed(organization), count=_CHUNK):
        # Other services write here too: what is not UTF-8 is shown, not a reason to stop.
        yield cast(bytes, member).decode(errors="backslashreplace")


def count(client: Client, organization: str) -> int:
    """How many addresses are suppressed."""
    return client.scard(keys.suppressed(organization))


def _chunks(addresses: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(addresses)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk
