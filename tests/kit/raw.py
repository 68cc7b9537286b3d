"""Writes records that the Python client rejects, through the C library bundled with it."""

import ctypes
from functools import cache
from importlib.metadata import files

_PRODUCER = 0
_END, _TOPIC, _PARTITION, _VALUE, _MSGFLAGS, _HEADERS = 0, 1, 3, 4, 7, 10  # rd_kafka_vtype_t
_COPY = 2


@cache
def librdkafka() -> ctypes.CDLL:
    """The C library from confluent-kafka's wheel."""
    path = next(f for f in files("confluent-kafka") or () if f.name.startswith("librdkafka-"))
    library = ctypes.CDLL(str(path.locate()))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


def produce_raw(
    bootstrap_servers: str,
    topic: str,
    value: bytes,
    headers: list[tuple[bytes, bytes]],
    partition: int = 0,
    count: int = 1,
) -> None:
    """Write records with arbitrary bytes as header names, even if not UTF-8."""
    library = librdkafka()
    text = ctypes.create_string_buffer(512)
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    key = b"bootstrap.servers"
    assert library.rd_kafka_conf_set(conf, key, bootstrap_servers.encode(), text, len(text)) == 0
    producer = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, conf, text, len(text)))
    assert producer.value, text.value
    for _ in range(count):
        made = ctypes.c_void_p(library.rd_kafka_headers_new(ctypes.c_size_t(len(headers))))
        for name, content in headers:
            library.rd_kafka_header_add(
                made,
                name,
                ctypes.c_ssize_t(len(name)),
                content,
                ctypes.c_ssize_t(len(content)),
            )
        error = library.rd_kafka_producev(
            producer,
            ctypes.c_int(_TOPIC),
            ctypes.c_char_p(topic.encode()),
            ctypes.c_int(_PARTITION),
            ctypes.c_int32(partition),
            ctypes.c_int(_MSGFLAGS),
            ctypes.c_int(_COPY),
            ctypes.c_int(_VALUE),
            ctypes.c_char_p(value),
            ctypes.c_size_t(len(value)),
            ctypes.c_int(_HEADERS),
            made,
            ctypes.c_int(_END),
        )
        assert error == 0, error
    assert library.rd_kafka_flush(producer, 10_000) == 0
    library.rd_kafka_destroy(producer)
