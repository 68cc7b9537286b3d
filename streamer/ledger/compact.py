"""How records and results are stored: in few bytes, since the ledger keeps them per recipient.

A record is one byte with the sizes of the two numbers that follow, its partition and its offset.
The top bit of that byte distinguishes it from the text that earlier versions stored.

A result is the number of calls, the number of mails, the ids of accepted mails that are UUIDs, 16
bytes each, and then the other items, if any, with their places in the batch, as compressed JSON.
Earlier versions stored all items like that.
"""

import re
import struct
from functools import lru_cache
from threading import Lock
from uuid import UUID

import orjson
import zstandard

from streamer.model.record import RecordId
from streamer.model.result import SENT, BatchResult, ItemResult

_RECORD = 0x80
_RESULT = b"\x01"
"""Starts a result. What earlier versions stored starts with zstd's magic number."""
_HEAD = struct.Struct(">IHH")
_is_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_UUID_BYTES = 16
_COMPRESSION_LEVEL = 1
_compressor = zstandard.ZstdCompressor(_COMPRESSION_LEVEL)
_compressing = Lock()  # shared: a compressor per thread would take 1 MB each


def write_record(record_id: RecordId) -> bytes:
    """Encode a record's partition and offset, each below 2**64, without its topic."""
    _, partition, offset = record_id
    size = (offset.bit_length() + 7) // 8
    return _head(partition, size) + offset.to_bytes(size, "big")


@lru_cache(1_000)
def _head(partition: int, size: int) -> bytes:
    """Encode a partition, to be followed by an offset of this many bytes."""
    own = max(1, (partition.bit_length() + 7) // 8)
    return bytes([_RECORD | (own - 1) << 4 | size]) + partition.to_bytes(own, "big")


def read_record(stored: bytes) -> RecordId:
    """Decode a record: from `write_record`, followed by its topic; or text, as stored earlier."""
    head = stored[0]
    if not head & _RECORD:
        topic, partition, offset = stored.decode().split("/")
        return RecordId(topic, int(partition), int(offset))
    middle = 2 + (head >> 4 & 7)
    end = middle + (head & 15)
    return RecordId(
        stored[end:].decode(),
        int.from_bytes(stored[1:middle], "big"),
        int.from_bytes(stored[middle:end], "big"),
    )


def write_result(result: BatchResult) -> bytes:
    """Encode a batch's result."""
    ids: list[str] = []
    others: list[tuple[int, str, str | None]] = []
    for place, (word, text) in enumerate(result.items):
        if word == SENT and text is not None and _is_uuid(text):
            ids.append(text)
        else:
            others.append((place, word, text))
    head = _HEAD.pack(result.attempts, len(ids), len(others))
    rest = compress(orjson.dumps(others)) if others else b""
    return _RESULT + head + bytes.fromhex("".join(ids).replace("-", "")) + rest


def read_result(stored: bytes) -> BatchResult:
    """Decode a batch's result, also one that an earlier version stored."""
    if not stored.startswith(_RESULT):
        attempts, found = orjson.loads(zstandard.decompress(stored))
        return BatchResult(attempts, [ItemResult(word, text) for word, text in found])
    attempts, sent, count = _HEAD.unpack_from(stored, len(_RESULT))
    start = len(_RESULT) + _HEAD.size
    end = start + sent * _UUID_BYTES
    items = [
        ItemResult.sent(str(UUID(bytes=stored[at : at + _UUID_BYTES])))
        for at in range(start, end, _UUID_BYTES)
    ]
    # In ascending order, so that each insertion finds the earlier items at their places.
    for place, word, text in orjson.loads(zstandard.decompress(stored[end:])) if count else ():
        items.insert(place, ItemResult(word, text))
    return BatchResult(attempts, items)


def compress(plain: bytes) -> bytes:
    """Compress with zstd."""
    with _compressing:
        return _compressor.compress(plain)
