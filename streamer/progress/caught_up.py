"""Waiting until everything written so far is counted."""

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.metadata import partitions_of
from streamer.progress.completion import EndOffsets
from streamer.progress.fold import Stream
from streamer.progress.store import Store
from streamer.progress.topic_reader import topic_cursors
from streamer.settings import TopicSettings

_LOOK_EVERY_S = 0.2


def await_counts(topics: TopicSettings, admin: AdminClient, store: Store, seconds: float) -> bool:
    """Wait until everything written before the call is counted; False on timeout.

    Raises:
        KafkaException: Kafka cannot be used.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    streams = {
        Stream.RECIPIENTS: topics.recipients,
        Stream.PARKED: topics.parked,
        Stream.OUTCOMES: topics.outcomes,
        Stream.DEAD_LETTERS: topics.dead_letters,
    }
    cursors = topic_cursors(streams, partitions_of(admin, streams.values()))
    ends = EndOffsets(admin, cursors)
    deadline = time.monotonic() + seconds
    while True:
        counted = store.open().offsets
        try:
            if ends.reached({cursor: counted.get(cursor, 0) for cursor in cursors}):
                return True
        except KafkaException as error:  # e.g. a newly created topic without a leader yet
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
            ends = EndOffsets(admin, cursors)
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
