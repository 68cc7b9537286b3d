"""Waiting until everything produced so far has ended or is parked, and is counted."""

import time
from collections.abc import Callable

from confluent_kafka.admin import AdminClient

from streamer.kafka.metadata import topic_id
from streamer.kafka.offsets import end_offsets
from streamer.ledger.connection import Client
from streamer.ledger.input_offsets import InputOffsets
from streamer.progress.store import Store
from streamer.settings import Settings

_LOOK_EVERY_S = 0.2


def await_counts(settings: Settings, admin: AdminClient, client: Client, seconds: float) -> bool:
    """Wait until the workers have passed all that was produced before the call, and it is counted.

    Returns:
        False on timeout.

    Raises:
        KafkaException: Kafka cannot be used.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    group, topics = settings.kafka.group_id, settings.topics
    store = Store(client, group)
    inputs = InputOffsets(client, group, topic_id(admin, topics.recipients))
    deadline = time.monotonic() + seconds

    def counted() -> dict[int, int]:
        offsets = store.open().offsets
        return {number: at for (topic, number), at in offsets.items() if topic == topics.progress}

    return _await(admin, topics.recipients, inputs.read, deadline) and _await(
        admin, topics.progress, counted, deadline
    )


def _await(
    admin: AdminClient, topic: str, positions: Callable[[], dict[int, int]], deadline: float
) -> bool:
    """Wait until the positions have reached the topic's current ends; False on timeout."""
    ends = end_offsets(admin, topic)
    while True:
        at = positions()
        if all(at.get(partition, 0) >= end for partition, end in ends.items()):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
