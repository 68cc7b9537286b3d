"""What Kafka's clients say, without their repetitions."""

import logging

import pytest

from streamer.logs import client_logger

_LINE = "FAIL [rdkafka#consumer-{client}] [thrd:b:{port}/1]: b:{port}/1: {what} (after {ms}ms in x)"


def test_a_client_s_line_comes_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    logger = client_logger("of a test")
    assert client_logger("of a test").filters == logger.filters
    with caplog.at_level(logging.INFO):
        logger.info(_LINE.format(client=1, port=1, what="Disconnected", ms=9))
        for ms in range(20):
            for client in (1, 2):
                logger.error(_LINE.format(client=client, port=1, what="Connect failed", ms=ms))
            logger.error(_LINE.format(client=1, port=2, what="Connect failed", ms=ms))
        logger.info(_LINE.format(client=1, port=1, what="Disconnected", ms=2))
    said = [record.getMessage() for record in caplog.records]
    assert sum("Connect failed" in line for line in said) == 3
    assert sum("Disconnected" in line for line in said) == 2
    assert vars(caplog.records[-1])["repeated_before"] == 19
