"""JSON in as few bytes of memory as it has."""

import orjson


def to_json(value: object) -> bytes:
    """The value's JSON.

    orjson leaves its result all the room that it had reserved, several times the length: kept
    by the thousands, mails and outcomes would take most of a worker's memory, and each a part
    that the processor has not seen for long.

    Raises:
        orjson.JSONEncodeError: as `orjson.dumps`.
    """
    return memoryview(orjson.dumps(value)).tobytes()
