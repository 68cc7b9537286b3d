"""One consumer for several readers, each of which runs in a thread of its own.

A client has four threads, and connections to each broker. Readers that follow a topic, and mostly
wait, share one: whichever of them waits polls for all.

The client library lets one call at a time into a consumer: another one spins until it returns
(confluent-kafka 2.16), and the next poll may come first, again and again. So no poll begins while
somebody waits for the consumer.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Condition

from confluent_kafka import Consumer, Message, TopicPartition

from streamer.kafka.offsets import Partition
from streamer.kafka.properties import reader_properties, relay_group
from streamer.logs import client_logger
from streamer.settings import Settings

WAIT_S = 0.5
"""How long a reader waits for records before it looks after whatever else it has to do. No record
waits for that, but a stop does."""
_GATHER_S = 0.1
"""How long to wait for more records once one has come."""
_MOST_HANDED_OVER = 1_000


class SharedConsumer:
    """Makes a consumer for the first share that is opened, and closes it with the last.

    What one reader polls for another is handed over, and bounded: while one has much to take, no
    other polls. So a reader that stays away for long closes its share.

    Args:
        make: makes the consumer, to which partitions are assigned by hand.
    """

    def __init__(self, make: Callable[[], Consumer]) -> None:
        self._make = make
        self._consumer: Consumer | None = None
        self._shares: list[ConsumerShare] = []
        self._changed = Condition()
        self._is_busy = False
        self._waiting = 0
        """How many wait to have the consumer alone."""

    def open(self) -> "ConsumerShare":
        """Open a share, for one thread.

        Raises:
            KafkaException: a property of the consumer is invalid.
        """
        with self._changed:
            if self._consumer is None:
                self._consumer = self._make()
            share = ConsumerShare(self, self._consumer)
            self._shares.append(share)
            return share

    def consume(self, share: "ConsumerShare", most: int, timeout_s: float) -> list[Message]:
        """Return the next messages of a share, waiting for the first one."""
        until = time.monotonic() + timeout_s
        with self._changed:
            while not share.arrived and (
                self._is_busy or self._waiting or self._is_another_behind(share)
            ):
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return []
                self._changed.wait(left_s)
            if share.arrived:
                return self._take(share, most)
            self._is_busy = True
        found: list[Message] = []
        try:
            # In two steps, so that records do not wait for the end of the time; with what the first
            # has brought, even if the second fails.
            left_s = max(0.0, until - time.monotonic())
            found += share.consumer.consume(1, left_s)
            if found and most > 1:
                found += share.consumer.consume(most - 1, min(left_s, _GATHER_S))
        finally:
            with self._changed:
                self._is_busy = False
                self._hand_over(found)
                if found or self._waiting:  # otherwise this reader is likely to poll again
                    self._changed.notify_all()
        with self._changed:
            return self._take(share, most)

    @contextmanager
    def alone(self, share: "ConsumerShare") -> Iterator[Consumer]:
        """The consumer, while nobody polls."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._is_busy)
            self._waiting -= 1
            self._is_busy = True
        try:
            yield share.consumer
        finally:
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()

    def assign(self, share: "ConsumerShare", starts: list[TopicPartition]) -> None:
        """Start reading partitions that no share reads."""
        with self.alone(share) as consumer:
            share.partitions |= {(each.topic, each.partition) for each in starts}
            consumer.incremental_assign(starts)

    def unassign(self, share: "ConsumerShare", partitions: Iterable[Partition]) -> None:
        """Stop reading partitions. Once this has returned, nothing more of them comes: they may be
        read again from another offset, by this or another share."""
        given_up = {*partitions}
        if not given_up:
            return
        with self.alone(share) as consumer:
            share.partitions -= given_up
            share.arrived = deque(m for m in share.arrived if _partition(m) not in given_up)
            consumer.incremental_unassign([TopicPartition(*each) for each in given_up])

    def close(self, share: "ConsumerShare") -> None:
        """Close a share, and with the last one the consumer."""
        try:
            self.unassign(share, share.partitions)
        finally:
            with self._changed:
                self._shares.remove(share)
                self._changed.notify_all()
                if not self._shares:
                    self._consumer = None
                    share.consumer.close()

    def _is_another_behind(self, share: "ConsumerShare") -> bool:
        return any(each.is_behind for each in self._shares if each is not share)

    def _take(self, share: "ConsumerShare", most: int) -> list[Message]:
        was_behind = share.is_behind
        taken = [share.arrived.popleft() for _ in range(min(most, len(share.arrived)))]
        if was_behind:
            self._changed.notify_all()
        return taken

    def _hand_over(self, messages: list[Message]) -> None:
        """Give each message to the share that reads its partition, and an error of the whole client
        to all. What is of a partition that was given up is dropped."""
        shares = {partition: share for share in self._shares for partition in share.partitions}
        for message in messages:
            share = shares.get(_partition(message))
            if share is not None:
                share.arrived.append(message)
            elif message.topic() is None:
                for each in self._shares:
                    each.arrived.append(message)


class ConsumerShare:
    """One reader's part of a shared consumer, with those of a consumer's methods that reading
    needs.

    Attributes:
        consumer: the consumer; for what only `alone` may use.
        partitions: what this share reads.
        arrived: messages that another share has polled for this one.
    """

    def __init__(self, shared: SharedConsumer, consumer: Consumer) -> None:
        self.consumer = consumer
        self.partitions: set[Partition] = set()
        self.arrived: deque[Message] = deque()
        self._shared = shared

    @property
    def is_behind(self) -> bool:
        """Whether this one has to take what has arrived before others may poll."""
        return len(self.arrived) >= _MOST_HANDED_OVER

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """Return up to so many messages, waiting for the first one for `timeout` seconds."""
        return self._shared.consume(self, num_messages, timeout)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Start reading partitions that no share reads."""
        self._shared.assign(self, partitions)

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Stop reading partitions."""
        self._shared.unassign(self, [(each.topic, each.partition) for each in partitions])

    def close(self) -> None:
        """Stop reading."""
        self._shared.close(self)

    def alone(self) -> AbstractContextManager[Consumer]:
        """The consumer for the time of a `with` block, for brief questions about the cluster: until
        its end no share gets anything."""
        return self._shared.alone(self)


def shared_consumer(settings: Settings) -> SharedConsumer:
    """Return a shared consumer for what a process follows beside its input.

    The client requires a group, which it never joins, and of which the readers ask it nothing.
    """
    properties = reader_properties(
        settings,
        f"{settings.worker.id}-reader",
        relay_group(settings),
        read_ahead_kb=1_024,
        fetch_bytes=32_768,
    )
    return SharedConsumer(lambda: Consumer(properties, logger=client_logger("reader")))


def _partition(message: Message) -> Partition:
    """Return the message's partition; that of a topic without a name for an error of the client."""
    return message.topic() or "", message.partition() or 0
