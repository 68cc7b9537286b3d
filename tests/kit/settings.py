"""A world's settings, for what tests call in their own process."""

from streamer.settings import KafkaSettings, RedisSettings, Settings
from tests.kit.harness import Harness


def settings_of(harness: Harness) -> Settings:
    """Where its servers and topics are; the rest are the defaults."""
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=harness.bootstrap_servers, group_id=harness.name),
        topics=harness.topics,
        redis=RedisSettings(url=harness.redis_url),
    )
