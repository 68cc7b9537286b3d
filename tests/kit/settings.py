"""A world's settings, for what tests call in their own process."""

from streamer.settings import Kafka, Redis, Settings
from tests.kit.world import World


def settings_of(world: World) -> Settings:
    """Where its servers and topics are; the rest are the defaults."""
    return Settings(
        kafka=Kafka(bootstrap_servers=world.bootstrap_servers, group_id=world.name),
        topics=world.topics,
        redis=Redis(url=world.redis_url),
    )
