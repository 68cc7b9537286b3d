"""The client library's admin client."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace
from typing import TypeVar

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    DeletedRecords,
    ListOffsetsResultInfo,
    NewPartitions,
    OffsetSpec,
)

from streamer.kafka.offsets import EARLIEST
from tests.kit.fakes.kafka.cluster import BrokerError, FakeKafka, KafkaApi, NoAnswerError
from tests.kit.fakes.kafka.log import Partition

T = TypeVar("T")


class FakeAdminClient:
    """Answers at once: its futures are done."""

    def __init__(self, kafka: FakeKafka) -> None:
        self._kafka = kafka

    def __enter__(self) -> "FakeAdminClient":
        return self

    def __exit__(self, *error: object) -> None:
        """Close it."""

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        try:
            return self._kafka.metadata(topic, timeout)
        except NoAnswerError:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT)) from None
        except BrokerError as error:
            raise KafkaException(KafkaError(error.code)) from None

    def describe_topics(
        self, topics: TopicCollection, request_timeout: float = -1
    ) -> dict[str, Future[SimpleNamespace]]:
        def describe(name: str) -> SimpleNamespace:
            if name not in self._kafka.topic_ids:
                raise BrokerError(KafkaError.UNKNOWN_TOPIC_OR_PART)
            return SimpleNamespace(name=name, topic_id=self._kafka.topic_ids[name])

        return {
            name: self._done(KafkaApi.METADATA, request_timeout, partial(describe, name))
            for name in topics.topic_names
        }

    def describe_configs(
        self, resources: Iterable[ConfigResource], request_timeout: float = -1
    ) -> dict[ConfigResource, Future[dict[str, ConfigEntry]]]:
        """Nothing is configured."""
        empty = dict[str, ConfigEntry]
        return {each: self._done(KafkaApi.METADATA, request_timeout, empty) for each in resources}

    def create_partitions(self, new: Iterable[NewPartitions]) -> dict[str, Future[None]]:
        return {
            each.topic: self._done(
                KafkaApi.METADATA,
                10.0,
                partial(self._kafka.create, each.topic, each.new_total_count),
            )
            for each in new
        }

    def delete_records(
        self, before: Iterable[TopicPartition], request_timeout: float = -1
    ) -> dict[TopicPartition, Future[DeletedRecords]]:
        def delete(each: TopicPartition) -> DeletedRecords:
            log = self._kafka.logs[each.topic, each.partition]
            if not 0 <= each.offset <= log.end:
                raise BrokerError(KafkaError.OFFSET_OUT_OF_RANGE)
            log.start = max(log.start, each.offset)
            return DeletedRecords(log.start)

        return {
            each: self._done(KafkaApi.DELETE_RECORDS, request_timeout, partial(delete, each))
            for each in before
        }

    def list_offsets(
        self,
        asked: Mapping[TopicPartition, OffsetSpec],
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        request_timeout: float = -1,
    ) -> dict[TopicPartition, Future[ListOffsetsResultInfo]]:
        def find(partition: Partition, spec: OffsetSpec) -> ListOffsetsResultInfo:
            log = self._kafka.logs[partition]
            if spec is EARLIEST:
                return ListOffsetsResultInfo(log.start, -1, -1)
            is_stable = isolation_level is IsolationLevel.READ_COMMITTED
            return ListOffsetsResultInfo(log.stable_end if is_stable else log.end, -1, -1)

        return {
            each: self._done(
                KafkaApi.LIST_OFFSETS,
                request_timeout,
                partial(find, (each.topic, each.partition), spec),
            )
            for each, spec in asked.items()
        }

    def _done(self, request: KafkaApi, timeout: float, do: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(self._kafka.ask(request, timeout, do))
        except NoAnswerError as error:
            code = error.code or KafkaError._TIMED_OUT
            future.set_exception(KafkaException(KafkaError(code)))
        except BrokerError as error:
            future.set_exception(KafkaException(KafkaError(error.code)))
        return future
