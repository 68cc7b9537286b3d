"""Several workers on one Kafka: whatever moves, dies or is answered, each record ends once.

The source, the committer and the pipeline's rebalances are the real ones. Of what lies between them
is left that a record is decided some time after it was read.
"""

from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import orjson
import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.batcher import Batcher
from streamer.flow.breaker import DeadLetterBreaker
from streamer.kafka import repeating, transactions
from streamer.model.pulse import OffsetMetadata
from streamer.model.reasons import DeadReason
from streamer.model.record import DeadLetter, Record
from streamer.model.wire import SOURCE_OFFSET, SOURCE_PARTITION
from streamer.settings import Settings
from streamer.worker import committer as committer_module
from streamer.worker import pipeline as pipeline_module
from streamer.worker import source as source_module
from streamer.worker.admission import Admission
from streamer.worker.arrivals import SourceError
from streamer.worker.committer import Committer, fencing_producer
from streamer.worker.dispatch import Dispatcher
from streamer.worker.life import Life
from streamer.worker.measures import Measures
from streamer.worker.pipeline import Pipeline
from streamer.worker.probing import Prober
from streamer.worker.relay import Relay
from streamer.worker.reporting import WorkerReporter
from streamer.worker.source import RecordSource
from streamer.worker.verifying import EpochVerifier
from streamer.worker.waiter import Waiter
from tests.kit.fakes.kafka import FakeKafka, KafkaApi, Silence
from tests.kit.fakes.kafka.cluster import Answer

_SETTINGS = Settings()
_TOPICS = _SETTINGS.topics
_PARTITIONS = 3
_WORKERS = 3
_DECIDED = DeadLetter(DeadReason.UNDECODABLE, "")


class _Office:
    """Stands for all between reading and committing: records wait, and are decided."""

    def __init__(self, source: RecordSource) -> None:
        self._source = source
        self._queued: list[Record] = []
        self._in_flight: list[Record] = []

    def poll(self, now: float) -> list[Record]:
        return self._source.poll(5, 0.05)

    def admit(self, records: list[Record]) -> None:
        self._queued += records

    def discard(self, records: list[Record]) -> set[int]:
        """What was not begun is dropped."""
        dropped = {id(record) for record in self._queued} & {id(record) for record in records}
        self._queued = [record for record in self._queued if id(record) not in dropped]
        return dropped

    def begin(self) -> None:
        """Send what is queued."""
        self._in_flight += self._queued
        self._queued.clear()

    def decide(self, count: int) -> None:
        """Decide the last ones first, so that they wait for those before them."""
        for _ in range(min(count, len(self._in_flight))):
            self._in_flight.pop().resolve(_DECIDED, 0.0)


class _Worker:
    """One worker's life; `run_once` is its loop."""

    def __init__(self, kafka: FakeKafka, number: int) -> None:
        worker = _SETTINGS.worker.model_copy(update={"id": f"w-{number}"})
        settings = _SETTINGS.model_copy(update={"worker": worker})
        self._source = RecordSource(settings)
        self.consumer = kafka.consumers[-1]
        self.committer = Committer(
            fencing_producer(settings),
            _TOPICS,
            self._source.group_metadata,
            "e",
            lambda: 0,
            _PARTITIONS,
            DeadLetterBreaker(1_000, 1.0),
            lambda name: None,
        )
        self.office = office = _Office(self._source)
        nothing = SimpleNamespace(start=lambda: None, close=lambda: None)
        self._pipeline = Pipeline(
            self._source,
            cast(Admission, office),
            cast(Batcher, office),
            cast(Dispatcher, SimpleNamespace(dispatch=lambda now: office.begin())),
            self.committer,
            cast(Measures, SimpleNamespace(is_much_done=lambda: True, measure=lambda now: None)),
            cast(EpochVerifier, SimpleNamespace(verify=lambda offsets, beat: None)),
            cast(WorkerReporter, SimpleNamespace(report=lambda now: None)),
            cast(Prober, nothing),
            cast(Relay, nothing),
            Waiter(),
            cast(Life, nothing),
            1.0,
        )
        self._source.start(_belongs, self._pipeline._finish_revoked)

    def run_once(self) -> None:
        self._pipeline._tick()

    def commit(self) -> None:
        """What a worker does that was frozen just before its commit."""
        self.committer.commit(self._source.windows)

    def close(self) -> None:
        self._source.close()
        self.committer.close()


def _belongs(committed: set[OffsetMetadata]) -> Future[dict[int, int]]:
    future: Future[dict[int, int]] = Future()
    future.set_result({})
    return future


class _Company:
    """Workers on one Kafka, each of which is started again when it dies.

    A worker that is replaced while it is frozen may wake up: it goes on as if nothing had happened.
    """

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka
        self._workers: dict[int, _Worker] = {}
        self._frozen: list[_Worker] = []
        self._written = Counter[int]()

    def write(self, partition: int, count: int) -> None:
        """Write input records."""
        place = (_TOPICS.recipients, partition)
        self._kafka.write((place, b"?", None, []) for _ in range(count))
        self._written[partition] += count

    def run(self, number: int, call: str, count: int = 0) -> None:
        """Let a worker do something; it dies of what ends a worker."""
        try:
            worker = self._workers.get(number)
            if worker is None:
                worker = self._workers[number] = _Worker(self._kafka, number)
            if call == "decide":
                worker.office.decide(count)
            elif call == "commit":
                worker.commit()
            elif call == "stop":
                worker.close()
                del self._workers[number]
            else:
                worker.run_once()
        except (KafkaException, SourceError):
            self.kill(number)

    def kill(self, number: int) -> None:
        """A worker dies, of which the group does not know yet."""
        self._workers.pop(number, None)

    def replace(self, number: int) -> None:
        """A worker freezes, and another is started in its place."""
        worker = self._workers.pop(number, None)
        if worker is not None:
            self._frozen.append(worker)

    def wake(self, call: str) -> None:
        """Let a frozen worker go on."""
        if self._frozen:
            with suppress(KafkaException, SourceError):
                worker = self._frozen[-1]
                if call == "commit":
                    worker.commit()
                else:
                    worker.run_once()

    def expel(self) -> None:
        """The session of a member ends, whether its worker lives or not."""
        group = self._kafka.group(_SETTINGS.kafka.group_id)
        for member in [*group.members.values()][:1]:
            group.expel(member)

    def bury(self) -> None:
        """End the sessions of all members whose workers are dead."""
        group = self._kafka.group(_SETTINGS.kafka.group_id)
        alive = {worker.consumer.member_id for worker in self._workers.values()}
        for member_id, member in [*group.members.items()]:
            if member_id not in alive:
                group.expel(member)

    def endings(self) -> Counter[tuple[int, int]]:
        """How often each record ended, by its partition and offset."""
        found: Counter[tuple[int, int]] = Counter()
        for records in self._kafka.committed(_TOPICS.dead_letters).values():
            for stored in records.values():
                headers = dict(stored.headers)
                partition, offset = headers[SOURCE_PARTITION], headers[SOURCE_OFFSET]
                found[orjson.loads(partition or b""), orjson.loads(offset or b"")] += 1
        return found

    def inputs(self) -> set[tuple[int, int]]:
        """All input records."""
        return {
            (partition, offset)
            for (_, partition), records in self._kafka.committed(_TOPICS.recipients).items()
            for offset in records
        }


_STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, _PARTITIONS - 1), st.integers(1, 4)),
    st.tuples(
        st.sampled_from(["run", "run", "run", "decide", "commit", "stop"]),
        st.integers(0, _WORKERS - 1),
        st.integers(1, 6),
    ),
    st.tuples(st.sampled_from(["kill", "replace"]), st.integers(0, _WORKERS - 1), st.just(0)),
    st.tuples(st.sampled_from(["expel", "wake to run", "wake to commit"]), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 12), st.just(0)),
    st.tuples(
        st.sampled_from(
            [
                KafkaApi.INIT_PRODUCER_ID,
                KafkaApi.PRODUCE,
                KafkaApi.ADD_OFFSETS,
                KafkaApi.COMMIT_OFFSETS,
                KafkaApi.END_TRANSACTION,
                KafkaApi.FETCH_OFFSETS,
            ]
        ),
        st.sampled_from(
            [
                *Silence,
                KafkaError.NOT_COORDINATOR,
                KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
                KafkaError.UNKNOWN_PRODUCER_ID,
            ]
        ),
        st.just(0),
    ),
)


@given(st.lists(_STEPS, max_size=40))
def test_any_handover_resolves_each_record_once(
    steps: list[tuple[str | KafkaApi, int | Answer, int]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        kafka = FakeKafka({_TOPICS.recipients: _PARTITIONS, _TOPICS.dead_letters: 1})
        kafka.install(
            patch, transactions, repeating, source_module, committer_module, pipeline_module
        )
        for module in (source_module, committer_module, pipeline_module):
            patch.setattr(module.logger, "disabled", True)
        company = _Company(kafka)
        for what, number, count in steps:
            if isinstance(what, KafkaApi):
                kafka.answer(what, number)
            elif not isinstance(number, int):
                raise AssertionError("only brokers are silent")
            elif what == "write":
                company.write(number, count)
            elif what == "wait":
                kafka.clock.sleep(number)
            elif what == "kill":
                company.kill(number)
            elif what == "replace":
                company.replace(number)
            elif what == "expel":
                company.expel()
            elif what.startswith("wake"):
                company.wake(what.removeprefix("wake to "))
            else:
                company.run(number, what, count)
            assert max(company.endings().values(), default=1) == 1
        for _ in range(100):
            company.bury()
            for number in range(_WORKERS):
                company.run(number, "run")
                company.run(number, "decide", 100)
            if company.endings().keys() == company.inputs():
                break
        assert company.endings() == dict.fromkeys(company.inputs(), 1)
