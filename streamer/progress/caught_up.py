"""Waiting until everything written so far is counted."""

import time

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.kafka.metadata import partitions_of
from streamer.progress.arrivals import arrival_places
from streamer.progress.fold import Cursor
from streamer.progress.judge import Ends
from streamer.progress.store import Store
from streamer.settings import Topics

_LOOK_EVERY_S = 0.2


def await_counts(topics: Topics, admin: AdminClient, store: Store, seconds: float) -> bool:
    """Wait until everything written before the call is counted; False on timeout.

    Raises:
        KafkaException: Kafka cannot be used.
        redis.exceptions.RedisError: Redis cannot be used.
    """
    cursors = {
        Cursor.RECIPIENTS: topics.recipients,
        Cursor.PARKED: topics.parked,
        Cursor.OUTCOMES: topics.outcomes,
        Cursor.DEAD_LETTERS: topics.dead_letters,
    }
    places = arrival_places(cursors, partitions_of(admin, cursors.values()))
    ends = Ends(admin, places)
    deadline = time.monotonic() + seconds
    while True:
        counted = store.open().offsets
        try:
            if ends.reached({place: counted.get(place, 0) for place in places}):
                return True
        except KafkaException as error:  # e.g. a newly created topic without a leader yet
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise
            ends = Ends(admin, places)
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_EVERY_S)
