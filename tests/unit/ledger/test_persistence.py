"""What a line says about the losses that Redis survives."""

import pytest

from streamer.ledger.connection import Durability
from streamer.ledger.persistence import Persistence, coverage

ONE = Persistence("noeviction", True, "everysec", 0, 0)


@pytest.mark.parametrize(
    ("persistence", "durability", "words"),
    [
        (ONE, Durability(), "survives a restart of Redis; not a failover, not a power failure"),
        (
            ONE._replace(appendonly=False),
            Durability(),
            "survives nothing; not a restart of Redis, not a failover, not a power failure",
        ),
        (
            ONE._replace(appendfsync="always"),
            Durability(),
            "survives a restart of Redis, a power failure; not a failover",
        ),
        # Without an append-only file nothing is synced, whatever its setting says.
        (
            ONE._replace(appendonly=False, appendfsync="always", replicas=1),
            Durability(1),
            "survives a failover; not a restart of Redis, not a power failure",
        ),
        (
            ONE._replace(replicas=2),
            Durability(1, fsync=True),
            "survives a restart of Redis, a failover to a replica that has it (1 have), a power",
        ),
        (ONE._replace(replicas=2), Durability(2), "a restart of Redis, a failover; not a power"),
        (Persistence(), Durability(1), "redis.replicas 1 of ? connected"),
    ],
)
def test_coverage(persistence: Persistence, durability: Durability, words: str) -> None:
    assert words in coverage(persistence, durability)
