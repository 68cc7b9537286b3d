"""JSON encoding without excess memory."""

import orjson


def to_json(value: object) -> bytes:
    """Return the value as JSON, in a buffer of exactly its length.

    The bytes from orjson keep its whole allocation, several times their length. With thousands of
    mails in memory that would be most of a worker's memory, and bad for the CPU cache.

    Raises:
        orjson.JSONEncodeError: the value cannot be encoded.
    """
    return memoryview(orjson.dumps(value)).tobytes()
