"""What a worker's log says while Kafka is away: that it is, and not how often it tried."""

import re
import time
from collections import Counter
from collections.abc import Callable

import pytest

from streamer.stack import KafkaServer
from tests.kit.harness import Harness

_OUTAGE_S = 30.0
_MOST_LINES = 14
_TIME = re.compile(r"^(\S+T\S+)\.\d+Z ")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_an_outage_of_kafka_has_few_lines(
    make_kafka: Callable[[], KafkaServer], make_harness: Callable[..., Harness]
) -> None:
    kafka = make_kafka()
    harness = make_harness(kafka=kafka)
    harness.settings["STREAMER_PROGRESS__EMBEDDED"] = "true"
    worker = harness.start_worker()
    harness.produce(harness.event(number) for number in range(500))
    harness.await_resolutions(500)
    before = len(worker.words().splitlines())
    kafka.kill()
    time.sleep(_OUTAGE_S)
    lines = worker.words().splitlines()[before:]
    assert 1 <= len(lines) <= _MOST_LINES, "\n".join(lines)
    within_a_second = Counter(_TIME.sub(r"\1 ", line) for line in lines)
    assert [line for line, count in within_a_second.items() if count > 1] == []
