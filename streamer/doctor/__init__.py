"""What is wrong here, and how to mend it: one module for each thing that streamer relies on."""

from collections.abc import Iterator

from streamer.doctor.accounts import check_accounts
from streamer.doctor.finding import Finding, Level
from streamer.doctor.kafka import check_kafka
from streamer.doctor.redis import check_redis
from streamer.doctor.resend import check_resend
from streamer.doctor.settings import check_settings
from streamer.settings import Settings

__all__ = ["Finding", "Level", "examine"]


def examine(settings: Settings) -> Iterator[Finding]:
    """Run every check and yield its findings as they come."""
    yield from check_settings(settings)
    yield from check_kafka(settings)
    yield from check_redis(settings)
    yield from check_resend(settings)
    yield from check_accounts(settings)
