"""What a worker needs before it starts, looked at all at once."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamer.errors import FAILED, WRONG_USE
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.metadata import partitions_of
from streamer.kafka.properties import COMMAND, client_properties
from streamer.ledger.connection import REDIS_ERRORS, UNREACHABLE, connect
from streamer.ledger.failure import redis_failure, redis_location
from streamer.ledger.persistence import coverage, read_persistence
from streamer.model.printable import key_hint
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.route import check_url
from streamer.settings import Settings, SettingsError
from streamer.topics import wanted_topics
from streamer.worker.process import make_composer

_METADATA_S = 2.0


@dataclass(slots=True)
class StartReport:
    """What was found.

    Attributes:
        facts: what the worker works with, by subject, as far as it is known.
        faults: what has to be mended, each with its remedy.
        exit_code: with which a process ends that cannot start for these faults.
        absent: what is waited for, since it may come by itself.
    """

    facts: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    exit_code: int = FAILED
    absent: list[str] = field(default_factory=list)

    def refuse(self, setting: str) -> None:
        """Note a fault of the settings, or of a server's, for which no worker may start."""
        self.faults.append(setting)
        self.exit_code = WRONG_USE


def examine_start(settings: Settings, workers: int) -> StartReport:
    """Look at the settings, the keys, Kafka and Redis; makes no call to Resend and writes nothing.

    Args:
        settings: the settings.
        workers: number of workers on this machine.
    """
    report = StartReport()
    for check in (partial(make_composer, settings), partial(check_url, settings.api_url)):
        try:
            check()
        except SettingsError as error:
            report.refuse(str(error))
    report.faults += _missing_keys(settings)
    _look_at_kafka(settings, report)
    _look_at_redis(settings, report)
    report.facts["resend"] = settings.api_url
    for name, account in settings.accounts.items():
        whom = "all others" if account.organizations is None else ", ".join(account.organizations)
        rate = f"{account.requests_per_second:g} calls/s" if account.requests_per_second else ""
        words = (f"organizations: {whom}", rate or "Resend's rate", _key(settings, name))
        report.facts[f"account {name}"] = "; ".join(words)
    port = settings.metrics.port
    last = f" to {port + workers - 1}" if workers > 1 else ""
    report.facts["metrics"] = f"port {port}{last}, /metrics /healthz /readyz" if port else "none"
    report.facts["workers"] = f"{workers}, id {settings.worker.id}"
    return report


def _missing_keys(settings: Settings) -> Iterator[str]:
    try:
        accounts = Accounts(settings.accounts)
    except ValueError as error:
        yield f"accounts: {error}"
        return
    for name in accounts.names():
        try:
            accounts.key(name)
        except NoKeyError as error:
            yield f"{error}: set it, or change accounts in the settings"


def _key(settings: Settings, name: str) -> str:
    try:
        return f"key {key_hint(Accounts(settings.accounts).key(name))}"
    except (ValueError, NoKeyError):
        return "no key"


def _look_at_kafka(settings: Settings, report: StartReport) -> None:
    kafka_errors = KafkaErrorLog(settings)
    admin: AdminClient | None = None
    try:
        names = [topic.name for topic in wanted_topics(settings.topics, 1, 1)]
        admin = AdminClient(client_properties(settings, COMMAND), error_cb=kafka_errors.note)
        found = partitions_of(admin, names, _METADATA_S)
    except SettingsError as error:
        report.refuse(str(error))
        return
    except KafkaException as error:
        if admin is not None:
            admin.poll(0)  # delivers pending errors to `kafka_errors`
        text = kafka_errors.describe(error.args[0])
        is_passing = admin is not None and not kafka_errors.is_refusal
        (report.absent if is_passing else report.faults).append(text)
        return
    if missing := [name for name in names if name not in found]:
        report.faults.append(
            f"Kafka has no topic {', '.join(missing)}: create them with streamer topics create"
        )
    count = len(found.get(settings.topics.recipients, ()))
    report.facts["kafka"] = (
        f"{settings.kafka.bootstrap_servers}, group {settings.kafka.group_id}, "
        f"{settings.topics.recipients} with {count} partitions"
    )


def _look_at_redis(settings: Settings, report: StartReport) -> None:
    address = redis_location(settings.redis)
    try:
        client = connect(settings.redis, 1)
    except ValueError as error:
        report.refuse(f"redis.url: {error}")
        return
    except REDIS_ERRORS as error:
        _note_redis(settings, error, report)
        return
    try:
        client.exists("streamer:epoch")
        persistence = read_persistence(client)
        if persistence.eviction not in (None, "noeviction"):
            report.refuse(
                f"Redis at {address} has maxmemory-policy {persistence.eviction}, and could evict "
                f"claims: CONFIG SET maxmemory-policy noeviction, and set it in redis.conf"
            )
        report.facts["redis"] = f"{address}; {coverage(persistence, client.durability)}"
    except REDIS_ERRORS as error:
        _note_redis(settings, error, report)
    finally:
        client.close()


def _note_redis(settings: Settings, error: Exception, report: StartReport) -> None:
    passing = isinstance(error, UNREACHABLE)
    (report.absent if passing else report.faults).append(redis_failure(settings, error))
