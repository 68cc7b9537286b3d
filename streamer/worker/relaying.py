"""Returns parked records to the input once what they wait for is over.

One worker of the cluster at a time runs the relay, on a thread of its own. It reads ahead in the
parked topic, and notes what each record waits for and its offset. When a wait is over, it reads its
records again and writes them to the input, with their original coordinates. The same transaction
commits which records have left: the committed offset is the base, before which all have left, and
its metadata encodes those that left beyond the base. The other records stay where they are.

The producer and the consumers of what returns are there only while something returns. All relays
share one transactional id: a producer fences that of another relay, and what that one has committed
is read after. A relay that has missed some of it starts anew.

A record that Kafka refuses to write to the input is resolved in place, in the transaction that
notes that it left, so that it does not block the others.

If the metadata becomes too long, or most of what a new relay would read has left, the remaining
records are moved to the topic's tail. Records that are not needed any more are deleted.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from streamer import metrics
from streamer.errors import StreamerError
from streamer.flow.departures import Departures, Place
from streamer.flow.offsets import OffsetSet, OffsetSpan
from streamer.flow.waitlist import Waitlist
from streamer.kafka.answers import answer_of
from streamer.kafka.metadata import partitions_of, topic_id
from streamer.kafka.offsets import committed
from streamer.kafka.on_demand import OnDemand
from streamer.kafka.properties import client_properties, reader_properties, relay_group
from streamer.kafka.reading import PartitionReader
from streamer.kafka.shared import WAIT_S, SharedConsumer
from streamer.kafka.transactions import Delivered, State, TransactionalProducer, is_refused
from streamer.kafka.writing import chunked
from streamer.ledger.connection import Client
from streamer.ledger.relayed import Relayed
from streamer.logs import client_logger
from streamer.model.progress import progress_records
from streamer.model.record import DeadLetter, Outcome, Parked, Record
from streamer.model.shrink import shrink
from streamer.model.wire import dead_letter_headers, left_header, moved_headers, outcome_value
from streamer.settings import Settings
from streamer.worker.endings import count_endings
from streamer.worker.parked import ParkedRecord, read_parked_record
from streamer.worker.scopes import ParkScopes
from streamer.worker.unmovable import end_unmovable

logger = logging.getLogger(__name__)

_CLIENT = "relay"
_LOOK_EVERY_S = 0.5
_PARTITIONS_EVERY_S = 30.0
# The broker drops the offsets of a group without members some time after they were committed.
_RENEW_EVERY_S = 600.0
_CUT_EVERY_S = 60.0
# How many offsets of released records to read before looking for newly released ones.
_OFFSETS_A_TURN = 20_000
# Records per transaction. One that leaves alone adds at most five bytes to the metadata.
_CHUNK = 500
# A broker's `offset.metadata.max.bytes` is 4,096; a chunk adds 3,200 at most.
_MAX_TEXT = 3_600
# Offsets beyond the base that have left, and that a new relay would read in vain.
_MAX_WASTE = 10_000
_TRIES = 3
_CALL_TIMEOUT_S = 10.0
_PATIENCE_S = 5.0
_OFFSETS_TIMEOUT_S = 20.0


class RelayError(StreamerError):
    """Parked records cannot be returned; the message says why."""


class SupersededError(StreamerError):
    """Another relay has returned records since this one has read which have left."""


class RelaySession:
    """One relay's term as leader, and its view of the parked topic.

    Raises:
        KafkaException: Kafka cannot be used.
        ReadError: a parked record that was read before cannot be read again.
        RelayError: parked records cannot be returned.
        SupersededError: another relay was the leader meanwhile.
        redis.exceptions.RedisError: Redis cannot be used.
    """

    def __init__(
        self, settings: Settings, client: Client, scopes: ParkScopes, readers: SharedConsumer
    ) -> None:
        self._topics = settings.topics
        self._scopes = scopes
        self._settings = settings
        self._client = client
        self._inputs = 0
        self._departures = Departures()
        self._waitlist = Waitlist()
        self._cut: dict[int, int] = {}
        now = time.monotonic()
        self._look_at = self._renew_at = now
        self._partitions_at, self._cut_at = now + _PARTITIONS_EVERY_S, now + _CUT_EVERY_S
        share = readers.open()
        self._share = share
        self._ahead = PartitionReader(share, 100, WAIT_S)
        self._offsets = OnDemand(self._consumer, lambda consumer: consumer.close())
        self._producer = OnDemand(self._make_producer)
        try:
            self._producer()  # before the offsets are read
            name = topic_id(self._admin(), self._topics.parked)
            self._relayed = Relayed(client, settings.kafka.group_id, name)
            self._look_for_partitions()
        except BaseException:
            self.close()
            raise

    def step(self) -> Iterator[None]:
        """Do the next part of the work; yields after each transaction, where it may be abandoned.

        Raises what the class does.
        """
        self.look_ahead()
        now = time.monotonic()
        if now >= self._look_at:
            released = self._scopes.released(self._waitlist.waits)
            if released:
                yield from self.bring_back(released)
            for _, partition in [*self._ahead.ended]:
                end = self._ahead.positions[self._topics.parked, partition]
                if self._departures.is_wasteful(partition, end, _MAX_WASTE):
                    yield from self._move_all(partition, released)
            # Look again at once while released records may be left to return.
            self._look_at = now if released else now + _LOOK_EVERY_S
        self._keep_up(now)

    def look_ahead(self) -> None:
        """Read the next parked records, and note what they wait for."""
        for seen in self._ahead.read():
            if seen.offset < seen.start:
                continue
            if seen.start < seen.offset:
                self._departures.note_gap(seen.partition, seen.start, seen.offset)
            if seen.message is None or (seen.partition, seen.offset) in self._departures:
                continue
            copy = read_parked_record(seen)
            if copy is None:
                logger.error(
                    "skipping a record of the parked topic that streamer did not write",
                    extra={"partition": seen.partition, "offset": seen.offset},
                )
                self._departures.skip((seen.partition, seen.offset))
            else:
                self._waitlist.note(copy.wait, seen.partition, seen.offset)

    def bring_back(self, released: Collection[Parked]) -> Iterator[None]:
        """Return the first records of these waits to the input; yields after each transaction."""
        started, returned = time.monotonic(), 0
        taken = self._waitlist.take(released, _OFFSETS_A_TURN)
        spans = {
            partition: [OffsetSpan(max(start, base), end) for start, end in spans if end > base]
            for partition, spans in taken.spans.items()
            for base in (self._departures.base_of(partition),)
        }
        with closing(self._reader()) as reader:
            found = (
                copy
                for copy in self._copies(reader, spans)
                if copy.offset < taken.limits.get((copy.wait, copy.partition), 0)
            )
            for chunk in chunked(found, _CHUNK):
                for partition in self._departures.crowded_after(_places(chunk), _MAX_TEXT):
                    yield from self._move_all(partition, released)
                left = [copy for copy in chunk if _place(copy) not in self._departures]
                yield from self._move(left, released)
                returned += len(chunk)
        logger.info(
            "returned parked records",
            extra={"records": returned, "seconds": round(time.monotonic() - started, 1)},
        )

    def close(self) -> None:
        """Stop reading; an open transaction is ended by the start of the next relay."""
        self._ahead.close()
        self._offsets.drop()

    # Moving

    def _admin(self) -> AdminClient:
        # Made for each use, like the readers of released records: a client has several threads.
        properties = client_properties(self._settings, f"{_CLIENT}-progress")
        return AdminClient(properties, logger=client_logger(_CLIENT))

    def _consumer(self) -> Consumer:
        properties = reader_properties(
            self._settings,
            _CLIENT,
            relay_group(self._settings),
            read_ahead_kb=1_024,
            fetch_bytes=32_768,
        )
        return Consumer(properties, logger=client_logger(_CLIENT))

    def _reader(self) -> PartitionReader:
        return PartitionReader(self._consumer(), 100)

    def _make_producer(self) -> TransactionalProducer:
        """Make a producer, which fences that of another relay and ends its open transaction.

        Raises:
            SupersededError: that relay has returned records that are parked still for this one.
        """
        producer = TransactionalProducer(
            self._settings, _CLIENT, f"{_CLIENT}.{_CLIENT}", logger=client_logger("producer")
        )
        known = self._departures.partitions
        if known and self._departures.lacks(self._read_gone(known)):
            raise SupersededError
        return producer

    def _copies(
        self, reader: PartitionReader, spans: dict[int, list[OffsetSpan]]
    ) -> Iterator[ParkedRecord]:
        """The records in the spans that are still parked.

        All were read before. So it waits for them, as a new leader may not show the last ones yet.
        """
        for found in reader.read_spans(self._topics.parked, spans, _CALL_TIMEOUT_S):
            for seen in found:
                if (seen.partition, seen.offset) not in self._departures:
                    copy = read_parked_record(seen)
                    if copy is not None:
                        yield copy

    def _move_all(self, partition: int, released: Collection[Parked]) -> Iterator[None]:
        """Move all records of a partition: released ones to the input, the others to the
        partition's tail, in order."""
        started, moved = time.monotonic(), 0
        place = (self._topics.parked, partition)
        while place not in self._ahead.ended:  # or later records would overtake these
            self.look_ahead()
            yield
        span = OffsetSpan(self._departures.base_of(partition), self._ahead.positions[place])
        with closing(self._reader()) as reader:
            for chunk in chunked(self._copies(reader, {partition: [span]}), _CHUNK):
                yield from self._move(chunk, released)
                moved += len(chunk)
        logger.info(
            "compacted parked records",
            extra={
                "partition": partition,
                "records": moved,
                "seconds": round(time.monotonic() - started, 1),
            },
        )

    def _move(self, copies: list[ParkedRecord], released: Collection[Parked]) -> Iterator[None]:
        """Write released records to the input and others to the tail; yields after each
        transaction. A record that is refused for its size is resolved instead."""
        if not copies:
            return
        error = self._commit(copies, partial(self._write_moved, copies, released))
        if error is None:
            metrics.RETURNED.inc(sum(copy.wait in released for copy in copies))
        yield
        if error is None:
            return
        if len(copies) == 1:
            yield from self._end(copies[0], error, is_back=copies[0].wait in released)
            return
        # The broker refuses all that arrives together: bisect to find the record at fault.
        half = len(copies) // 2
        yield from self._move(copies[:half], released)
        yield from self._move(copies[half:], released)

    def _write_moved(
        self, copies: list[ParkedRecord], released: Collection[Parked], delivered: Delivered
    ) -> None:
        for copy in copies:
            is_back = copy.wait in released
            # Back to its original partition, which keeps the partition's records in order.
            self._producer().produce(
                self._topics.recipients if is_back else self._topics.parked,
                copy.value,
                copy.key,
                copy.original.partition % self._inputs if is_back else copy.partition,
                moved_headers(copy.headers, copy.partition, copy.offset, back=is_back),
                delivered,
            )

    def _end(self, copy: ParkedRecord, error: KafkaError, *, is_back: bool) -> Iterator[None]:
        """Resolve a record that cannot be moved, with as much content as Kafka accepts; yields as
        `_move` does."""
        record = end_unmovable(copy, self._client, is_back=is_back)
        logger.error(
            "Kafka rejected a parked record, resolving it",
            extra={
                "record": str(copy.original),
                "parked_at": f"{copy.partition}/{copy.offset}",
                "error": error.str(),
            },
        )
        metrics.REFUSED.labels("parked").inc()
        write = partial(self._write_ending, record, copy)
        while (refusal := self._commit([copy], write)) is not None:
            yield
            if shrink(record) is None:
                raise RelayError(
                    f"Kafka rejects the smallest possible result of {copy.original}: "
                    f"{refusal.str()}; check the topics: streamer topics create"
                )
        count_endings([record])
        yield

    def _write_ending(self, record: Record, copy: ParkedRecord, delivered: Delivered) -> None:
        resolution = record.resolution
        left = left_header(copy.partition, copy.offset)
        if isinstance(resolution, DeadLetter):
            topic, value = self._topics.dead_letters, record.value
            headers = [*dead_letter_headers(record, resolution), left]
        elif isinstance(resolution, Outcome):
            topic, value, headers = self._topics.outcomes, outcome_value(record, resolution), [left]
        else:
            raise AssertionError(f"the record at {record.record_id} is not resolved")
        producer = self._producer()
        producer.produce(topic, value, record.key, -1, headers, delivered)
        for progress, key in progress_records([record]):
            producer.produce(self._topics.progress, progress, key)

    def _commit(
        self, copies: list[ParkedRecord], write: Callable[[Delivered], None]
    ) -> KafkaError | None:
        """Write in one transaction that also notes that these records have left.

        Returns:
            The error of a refused record, in which case nothing is written; else None.
        """
        tries = _TRIES
        producer = self._producer()
        while True:
            refusals: list[KafkaError] = []
            try:
                with self._noting(self._departures.after(_places(copies))):
                    write(partial(_note_refusal, refusals))
            except KafkaException:
                if producer.state is not State.READY:
                    raise
                if refusals:
                    return refusals[0]
                # After an abort librdkafka may number its messages wrongly, once: retry.
                tries -= 1
                if not tries:
                    raise
            else:
                return None

    @contextmanager
    def _noting(self, gone: dict[int, OffsetSet]) -> Iterator[None]:
        """A transaction that also commits what will have left the partitions."""
        producer = self._producer()
        with producer.transaction(_PATIENCE_S):
            yield
            producer.send_offsets(
                [
                    TopicPartition(self._topics.parked, p, g.base, g.encode())
                    for p, g in gone.items()
                ],
                # No consumer is a member: a relay is fenced by its transactional id alone.
                self._offsets().consumer_group_metadata(),
            )
        self._departures.commit(gone)
        self._relayed.keep(gone)

    # Maintenance

    def _keep_up(self, now: float) -> None:
        self._producer.rest()
        self._offsets.rest()
        if now >= self._partitions_at:
            self._partitions_at = now + _PARTITIONS_EVERY_S
            self._look_for_partitions()
        if now >= self._renew_at:
            self._renew_at = now + _RENEW_EVERY_S
            self._renew()
        if now >= self._cut_at:
            self._cut_at = now + _CUT_EVERY_S
            self._delete_before()

    def _look_for_partitions(self) -> None:
        """Start reading new partitions of the parked topic, and count those of the input."""
        topics = (self._topics.recipients, self._topics.parked)
        # A client must know of a new partition before it reads or writes there.
        with self._share.alone() as consumer:
            found = partitions_of(consumer, topics)
        if self._producer.current is not None:
            self._producer.current.refresh_metadata()
        for name in topics:
            if name not in found:
                raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, name))
        self._inputs = len(found[self._topics.recipients])
        new = sorted({*found[self._topics.parked]} - {*self._departures.partitions})
        if not new:
            return
        self._offsets.drop()  # one that is there may not know of them
        gone = self._read_gone(new)
        self._departures.add_partitions(gone)
        self._ahead.start({(self._topics.parked, p): each.base for p, each in gone.items()})

    def _read_gone(self, partitions: Iterable[int]) -> dict[int, OffsetSet]:
        """Which records have left the partitions, by the broker's offsets and the ledger's copy.

        Raises:
            RelayError: the offsets cannot be decoded, or the broker lost records of a partition.
        """
        asked = [(self._topics.parked, partition) for partition in partitions]
        offsets = self._offsets()
        gone: dict[int, OffsetSet] = {}
        try:
            known = self._relayed.read()
            for each in committed(offsets, asked, _OFFSETS_TIMEOUT_S):
                here = OffsetSet.decode(max(0, each.offset), each.metadata)
                both = here.union(known.get(each.partition, here))
                if both != here:
                    logger.warning(
                        "the broker lost the relay's offsets, using those of the ledger",
                        extra={"partition": each.partition, "offset": both.base},
                    )
                gone[each.partition] = both
                _, end = offsets.get_watermark_offsets(
                    TopicPartition(self._topics.parked, each.partition), _CALL_TIMEOUT_S
                )
                if both.base > end:
                    raise RelayError(
                        f"{self._topics.parked}/{each.partition} ends at {end}, but its records up "
                        f"to {both.base} were returned: the broker lost some of its records"
                    )
        except ValueError as error:
            raise RelayError(f"cannot read the relay's offsets: {error}") from None
        return gone

    def _renew(self) -> None:
        """Commit the offsets again, or the broker drops them."""
        gone = self._departures.known()
        if gone:
            with self._noting(gone):
                pass

    def _delete_before(self) -> None:
        """Delete the records before each base."""
        wanted = {
            partition: base
            for partition, base in self._departures.bases().items()
            if base > self._cut.get(partition, 0)
        }
        if not wanted:
            return
        asked = [TopicPartition(self._topics.parked, p, end) for p, end in wanted.items()]
        admin = self._admin()  # has to live until it has answered
        try:
            for future in admin.delete_records(asked, request_timeout=_CALL_TIMEOUT_S).values():
                answer_of(future)
        except KafkaException as exception:
            logger.warning(
                "cannot delete returned records from the parked topic",
                extra={"error": exception.args[0].str()},
            )
        else:
            self._cut |= wanted


def _note_refusal(
    refusals: list[KafkaError], error: KafkaError | None, message: Message | None
) -> None:
    del message
    if error is not None and is_refused(error):
        refusals.append(error)


def _place(copy: ParkedRecord) -> Place:
    return copy.partition, copy.offset


def _places(copies: Iterable[ParkedRecord]) -> list[Place]:
    return [_place(copy) for copy in copies]
