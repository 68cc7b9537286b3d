"""`watch` and `doctor` in a real terminal, while Redis and Kafka go away and come back."""

from collections.abc import Callable

import pytest

from streamer.stack import KafkaServer, RedisServer
from tests.kit.harness import Harness
from tests.kit.operator import CommandRunner
from tests.kit.terminal import terminal


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_watch_and_doctor_outlive_redis_and_kafka(
    make_harness: Callable[..., Harness],
    make_kafka: Callable[[], KafkaServer],
    make_redis: Callable[[], RedisServer],
) -> None:
    kafka, redis = make_kafka(), make_redis()
    operator = CommandRunner.of_harness(make_harness(kafka=kafka, redis=redis))
    operator.define()
    with terminal("watch", environment=operator.environment, columns=100) as watch:
        watch.shows(operator.campaign)
        watch.shows("waiting: 0 records")
        redis.kill()
        watch.shows("Redis at 127.0.0.1")
        with terminal("doctor", environment=operator.environment) as doctor:
            doctor.shows("redis: Redis at 127.0.0.1")
            assert doctor.ends() == 1
            assert "\x1b[31mfailed" in doctor.raw
        redis.restart()
        watch.types("jp")
        watch.shows(f"Pause {operator.campaign}? It is draft")
        watch.types("y")
        watch.shows("paused by operator")
        kafka.kill()
        watch.shows("does not answer")
        kafka.restart()
        watch.shows("waiting: 0 records")
        watch.types("r")
        watch.shows(f"Resume {operator.campaign}?")
        watch.types("y")
        watch.shows("draft")
        watch.types("\x03")
        assert watch.ends() == 130
    with terminal("doctor", environment=operator.environment) as doctor:
        assert doctor.ends() == 0
        assert "\x1b[32mok" in doctor.raw
        assert "failed" not in doctor.text
