"""Checks of Redis: connection, commands, eviction and durability."""

import time
from collections.abc import Iterator
from typing import cast

from redis.exceptions import RedisError

from streamer.doctor.check_result import CheckResult, clock, failed, ok, warning
from streamer.ledger import suppression
from streamer.ledger.connection import REDIS_ERRORS, UNREACHABLE, Client, connect
from streamer.ledger.failure import redis_failure, redis_location
from streamer.ledger.persistence import (
    Persistence,
    UnsafeRedisError,
    check_confirmations,
    coverage,
    read_persistence,
)
from streamer.settings import Settings

_KEY = "streamer:doctor"
_TIME = "local time = redis.call('TIME') return {time[1], time[2]}"


def check_redis(settings: Settings) -> Iterator[CheckResult]:
    """Check Redis. Writes one key, which expires after a second."""
    try:
        client = connect(settings.redis)
    except ValueError as error:
        yield failed("redis", f"redis.url: {error}")
        return
    except REDIS_ERRORS as error:
        yield failed("redis", redis_failure(settings, error))
        return
    try:
        client.exists(_KEY)
        yield ok("redis", redis_location(settings.redis))
        yield from _commands(client)
        persistence = read_persistence(client)
        yield _eviction(persistence)
        yield _durability(client, persistence)
    except REDIS_ERRORS as error:
        yield failed("redis", redis_failure(settings, error))
    finally:
        client.close()


def _commands(client: Client) -> Iterator[CheckResult]:
    try:
        client.set(_KEY, b"", ex=1)
        suppression.check(client, "streamer-doctor", ["nobody@example.com"])
        before = time.time()
        reply = client.register_script(_TIME)(keys=[_KEY])
        after = time.time()
    except UNREACHABLE:
        raise
    except RedisError as error:
        yield failed(
            "redis commands",
            str(error),
            "use a primary with Redis 6.2 or newer (for SMISMEMBER), and a user that may write, "
            "run scripts and access all keys",
        )
        return
    yield ok("redis commands", "writes, SMISMEMBER and scripts work")
    seconds, micros = cast(list[bytes], reply)
    now = int(seconds) + int(micros) / 1_000_000
    yield clock("redis clock", now - (before + after) / 2)


def _eviction(persistence: Persistence) -> CheckResult:
    policy = persistence.eviction
    if policy is None:
        return warning(
            "redis eviction",
            "the server does not show its maxmemory-policy",
            "make sure that maxmemory-policy is noeviction",
        )
    if policy != "noeviction":
        return failed(
            "redis eviction",
            f"maxmemory-policy is {policy}: Redis could evict claims, and mail could be sent twice",
            "CONFIG SET maxmemory-policy noeviction, and set it in redis.conf",
        )
    return ok("redis eviction", "noeviction")


def _durability(client: Client, persistence: Persistence) -> CheckResult:
    subject, durability = "redis durability", client.durability
    text = coverage(persistence, durability)
    try:
        check_confirmations(client, persistence)
    except UnsafeRedisError as error:
        return failed(subject, str(error))
    connected = persistence.replicas
    if connected is not None and connected < durability.replicas:
        return failed(
            subject,
            f"{connected} replicas are connected, redis.replicas is {durability.replicas}: nothing "
            f"is sent until they are there",
            "connect the replicas",
        )
    if not persistence.appendonly and not connected:
        return warning(
            subject,
            f"neither an append-only file nor a replica: if Redis restarts, the workers halt: "
            f"{text}",
            "CONFIG SET appendonly yes, and set it in redis.conf",
        )
    if connected and not durability.replicas:
        return warning(
            subject,
            f"a failover to a replica forgets the last pins, and mail could be sent twice: {text}",
            f"redis.replicas = {connected}, if you rely on failovers",
        )
    return ok(subject, text)
