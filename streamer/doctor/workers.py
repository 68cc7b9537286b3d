"""Checks of the workers, by what each says of itself in Redis and what waits in Kafka."""

from collections.abc import Iterator, Sequence

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.doctor.check_result import MAX_SKEW_S, CheckResult, failed, ok, warning
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.offsets import GroupLag
from streamer.kafka.properties import COMMAND, client_properties
from streamer.ledger.connection import REDIS_ERRORS, connect
from streamer.ledger.heartbeats import Heartbeats, Sighting
from streamer.model.plural import plural
from streamer.settings import Settings

ALIVE_S = 10.0
"""A worker that was heard of in the last so many seconds is alive; it speaks every two."""
STALLED_S = 60.0
_OVERLAP_MS = 4_000
_MB = 1_000_000


def check_workers(settings: Settings) -> Iterator[CheckResult]:
    """Check that workers run while records wait, and that each of them gets on.

    Yields nothing if Redis cannot be used; another check reports that.
    """
    try:
        client = connect(settings.redis)
    except (ValueError, *REDIS_ERRORS):
        return
    try:
        seen = Heartbeats(client, settings.kafka.group_id).read()
    except REDIS_ERRORS:
        return
    finally:
        client.close()
    yield from judge_workers(seen, _waiting(settings))


def judge_workers(seen: Sequence[Sighting], waiting: int | None) -> Iterator[CheckResult]:
    """Make the findings about a group's workers. Pure.

    Args:
        seen: the last heartbeat of each process that was heard of lately.
        waiting: the number of records that the group has not committed; None if unknown.
    """
    running = alive(seen)
    if running:
        named = ", ".join(
            f"{each.heartbeat.worker} ({plural(each.heartbeat.partitions, 'partition')}, "
            f"{each.heartbeat.cpu:.0%} of a core, {each.heartbeat.rss / _MB:.0f} MB)"
            for each in running
        )
        yield ok("workers", f"{len(running)} running: {named}")
    elif waiting:
        yield failed("workers", f"no worker is running, and {_wait(waiting)}", "streamer run")
    else:
        rest = "whether records wait is unknown" if waiting is None else "no record waits"
        yield ok("workers", f"no worker is running; {rest}")
    for each in running:
        yield from _of_one(each)
    yield from _silent(seen)
    yield from _sharing(seen)


def _wait(count: int) -> str:
    return f"{plural(count, 'record')} {'waits' if count == 1 else 'wait'}"


def alive(seen: Sequence[Sighting]) -> list[Sighting]:
    """Return the workers that run."""
    return [each for each in seen if each.age_s <= ALIVE_S and not each.heartbeat.fenced]


def _of_one(each: Sighting) -> Iterator[CheckResult]:
    heartbeat = each.heartbeat
    subject = f"worker {heartbeat.worker}"
    if heartbeat.stalled_s >= STALLED_S:
        yield failed(
            subject,
            f"has committed nothing for {heartbeat.stalled_s:.0f} s, and "
            f"{_wait(heartbeat.waiting)}",
            "see the accounts below for an outage, and its log for the batch that does not end",
        )
    if abs(each.ahead_s) > MAX_SKEW_S:
        words = "ahead of" if each.ahead_s > 0 else "behind"
        yield warning(
            subject,
            f"the clock of {heartbeat.host} is {abs(each.ahead_s):.0f} s {words} that of Redis, "
            f"and expiry is decided by it",
            "synchronise both clocks (NTP)",
        )


def _silent(seen: Sequence[Sighting]) -> Iterator[CheckResult]:
    """Name the workers that ended without a word, and were not started again."""
    last = {each.heartbeat.worker: max(_of(seen, each), key=lambda one: one.at) for each in seen}
    for worker, each in last.items():
        if each.age_s > ALIVE_S and not each.heartbeat.fenced:
            yield warning(
                f"worker {worker}",
                f"not heard of for {each.age_s:.0f} s: killed, stuck, or cut off from Redis",
                f"see its log on {each.heartbeat.host}, process {each.heartbeat.pid}",
            )


def _sharing(seen: Sequence[Sighting]) -> Iterator[CheckResult]:
    """Name the ids that several processes use: one fences the other, again and again."""
    for worker in dict.fromkeys(each.heartbeat.worker for each in seen):
        same = [each for each in seen if each.heartbeat.worker == worker]
        fenced = [each for each in same if each.heartbeat.fenced]
        newest = max(same, key=lambda each: each.since)
        beside = [each for each in same if each.at > newest.since + _OVERLAP_MS]
        if fenced or len(beside) > 1:
            hosts = ", ".join(
                dict.fromkeys(f"{each.heartbeat.host} ({each.heartbeat.pid})" for each in same)
            )
            yield failed(
                f"worker {worker}",
                f"two workers use this id, and end each other: {hosts}",
                "give each worker a worker.id of its own",
            )


def _of(seen: Sequence[Sighting], one: Sighting) -> list[Sighting]:
    return [each for each in seen if each.heartbeat.worker == one.heartbeat.worker]


def _waiting(settings: Settings) -> int | None:
    """Return how many records the group has not committed; None if Kafka cannot say."""
    kafka_errors = KafkaErrorLog(settings)
    try:
        admin = AdminClient(client_properties(settings, COMMAND), error_cb=kafka_errors.note)
        lag = GroupLag(settings, admin)
    except KafkaException:
        return None
    return lag.measure()
