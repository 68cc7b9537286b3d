"""A harness's settings, for code that tests call in their own process."""

from streamer.settings import KafkaSettings, RedisSettings, Settings
from tests.kit.harness import Harness


def settings_of(harness: Harness) -> Settings:
    """Return settings with the harness's servers and topics, and defaults for the rest."""
    return Settings(
        kafka=KafkaSettings(bootstrap_servers=harness.bootstrap_servers, group_id=harness.name),
        topics=harness.topics,
        redis=RedisSettings(url=harness.redis_url),
    )
