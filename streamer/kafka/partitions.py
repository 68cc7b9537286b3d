"""In which partition a record of a key is."""

from zlib import crc32

from streamer.settings import Settings

_PARTITIONER = "partitioner"
_BY_CRC32 = ("consistent", "consistent_random")


def partition_of(settings: Settings, key: bytes | None, count: int) -> int | None:
    """Return the partition that this project's producers choose for a key, out of `count`.

    None where that cannot be told: without a key librdkafka takes any partition, and the operator
    may have chosen another partitioner than librdkafka's default one.
    """
    chosen = settings.kafka.properties.get(_PARTITIONER, _BY_CRC32[-1])
    if not key or chosen not in _BY_CRC32:
        return None
    return crc32(key) % count
