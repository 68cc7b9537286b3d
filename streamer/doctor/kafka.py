"""Checks of Kafka: connection, topics and transactions."""

from collections.abc import Iterator

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    ResourceType,
)

from streamer import topics
from streamer.doctor.check_result import CheckResult, failed, ok, warning
from streamer.kafka.error_log import KafkaErrorLog
from streamer.kafka.metadata import read_configs
from streamer.kafka.properties import COMMAND, client_properties
from streamer.kafka.transactions import TransactionalProducer, is_fenced
from streamer.settings import Settings, SettingsError
from streamer.topics import Difference, TopicReport

_PATIENCE_S = 5.0
_METADATA_S = 5.0
_BREAKING = ("cleanup.policy", "min.insync.replicas")
_RETENTION = "offsets.retention.minutes"
_DAY_MINUTES = 1_440
_MIN_MINUTES = 7 * _DAY_MINUTES  # Kafka's default


def check_kafka(settings: Settings) -> Iterator[CheckResult]:
    """Check Kafka. Writes nothing except an empty, aborted transaction."""
    kafka_errors = KafkaErrorLog(settings)
    admin: AdminClient | None = None
    try:
        admin = AdminClient(client_properties(settings, COMMAND), error_cb=kafka_errors.note)
        brokers = admin.list_topics(timeout=_METADATA_S).brokers
        yield ok("kafka", f"{settings.kafka.bootstrap_servers}: brokers: {len(brokers)}")
        minutes = min(filter(None, (_retention(admin, number) for number in brokers)), default=None)
        if minutes is not None:
            yield check_retention(minutes)
        for report in topics.inspect(admin, settings.topics):
            yield from _topic(report)
    except SettingsError as error:
        yield failed("topics", str(error), "give each topic a different name")
    except KafkaException as error:
        if admin is not None:
            admin.poll(0)  # delivers pending errors to `kafka_errors`
        yield failed("kafka", kafka_errors.describe(error.args[0]))
        return
    yield _transactions(settings, kafka_errors)


def check_retention(minutes: int) -> CheckResult:
    """Make a finding about how long the brokers keep the offsets of an inactive group."""
    text = f"the brokers keep the offsets of an inactive group for {_words(minutes)}"
    if minutes >= _MIN_MINUTES:
        return ok("offsets", text)
    return warning(
        "offsets",
        f"{text}: after a longer pause the workers refuse to read the input anew",
        f"set {_RETENTION}={_MIN_MINUTES} or more on the brokers",
    )


def _words(minutes: int) -> str:
    count, unit = (minutes, "minute") if minutes < 60 else (minutes // 60, "hour")
    if minutes >= 2 * _DAY_MINUTES:
        count, unit = minutes // _DAY_MINUTES, "day"
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _retention(admin: AdminClient, broker: int) -> int | None:
    """Return how long a broker keeps the offsets of an empty group; None if it is not visible."""
    (config,) = read_configs(admin, ResourceType.BROKER, [str(broker)]).values()
    return int(config[_RETENTION]) if config.get(_RETENTION) else None


def _topic(report: TopicReport) -> Iterator[CheckResult]:
    subject = f"topic {report.name}"
    if report.missing:
        yield failed(subject, "does not exist", "streamer topics create")
    elif not report.differences:
        yield ok(subject, "configured as expected")
    for difference in report.differences:
        yield _difference(subject, difference)


def _difference(subject: str, difference: Difference) -> CheckResult:
    judge = failed if difference.what in _BREAKING else warning
    return judge(subject, str(difference), difference.mend)


def _transactions(settings: Settings, kafka_errors: KafkaErrorLog) -> CheckResult:
    try:
        # Same prefix as the workers' transactional ids, so that the same permissions apply. Always
        # the same id: the brokers keep each one for days.
        producer = TransactionalProducer(
            settings, COMMAND, "doctor", _PATIENCE_S, error_cb=kafka_errors.note
        )
        producer.begin()
        producer.abort()
    except KafkaException as error:
        if is_fenced(error.args[0]):  # by another doctor, for which they work, too
            return ok("transactions", "begin and abort work")
        return failed(
            "transactions",
            kafka_errors.describe(error.args[0]),
            f"workers need write permission on transactional ids with the prefix "
            f"{settings.kafka.group_id}, and a cluster with few brokers needs a matching "
            f"transaction.state.log.replication.factor",
        )
    return ok("transactions", "begin and abort work")
