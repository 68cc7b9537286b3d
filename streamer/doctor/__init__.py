"""Diagnosing problems and suggesting fixes; one module per dependency of streamer."""

from collections.abc import Iterator

from streamer.doctor.accounts import check_accounts
from streamer.doctor.campaigns import check_campaigns
from streamer.doctor.check_result import CheckResult, Level
from streamer.doctor.kafka import check_kafka
from streamer.doctor.redis import check_redis
from streamer.doctor.resend import check_resend
from streamer.doctor.settings import check_settings
from streamer.doctor.workers import check_workers
from streamer.settings import Settings

__all__ = ["CheckResult", "Level", "examine"]


def examine(settings: Settings) -> Iterator[CheckResult]:
    """Run all checks, yielding findings as they are made."""
    yield from check_settings(settings)
    yield from check_kafka(settings)
    yield from check_redis(settings)
    yield from check_resend(settings)
    yield from check_accounts(settings)
    yield from check_workers(settings)
    yield from check_campaigns(settings)
