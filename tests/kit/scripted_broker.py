"""librdkafka's own stand-in for a cluster, whose answers a test chooses.

It listens on a real port, so the client under test is librdkafka as it is in production. It keeps
neither transactions nor groups as a broker does: use it for how the client takes an answer, and a
real Kafka for what brokers do.
"""

import ctypes
from types import TracebackType
from typing import Self

from tests.kit.raw import librdkafka

INIT_PRODUCER_ID, ADD_PARTITIONS, ADD_OFFSETS, COMMIT_OFFSETS, END_TRANSACTION = 22, 24, 25, 28, 26
PRODUCE = 0
"""Requests, by their number in Kafka's protocol."""

_PRODUCER = 0
_BROKER = 1


class ScriptedBroker:
    """A cluster of one broker; any topic exists.

    Attributes:
        bootstrap_servers: its address.
    """

    def __init__(self) -> None:
        self._library = library = librdkafka()
        library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        text = ctypes.create_string_buffer(512)
        conf = ctypes.c_void_p(library.rd_kafka_conf_new())
        library.rd_kafka_conf_set(conf, b"log_level", b"0", text, len(text))
        self._client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, text, len(text)))
        assert self._client.value, text.value
        self._cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(self._client, 1))
        self.bootstrap_servers: str = library.rd_kafka_mock_cluster_bootstraps(
            self._cluster
        ).decode()

    def answer(self, request: int, *codes: int, after_ms: int = 0) -> None:
        """Answer the next requests of a kind with these errors (0: none), each after a while; what
        was asked for is done before."""
        for code in codes:
            error = self._library.rd_kafka_mock_broker_push_request_error_rtts(
                self._cluster,
                ctypes.c_int32(_BROKER),
                ctypes.c_int16(request),
                ctypes.c_size_t(1),
                ctypes.c_int(code),
                ctypes.c_int(after_ms),
            )
            assert error == 0, error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)
