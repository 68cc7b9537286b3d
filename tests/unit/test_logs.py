"""What Kafka's clients say, without their repetitions."""

import logging

import pytest

from streamer import logs
from streamer.logs import LastingProblem, client_logger

_LINE = (
    "REQTMOUT [rdkafka#consumer-{client}] [thrd:b:{port}/1]: b:{port}/1: {what} (after {ms}ms in x)"
)

_UP = _LINE.replace("in x", "in state UP")


def test_a_repeated_client_line_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = client_logger("of a test")
    assert client_logger("of a test").filters == logger.filters
    with caplog.at_level(logging.INFO):
        logger.info(_UP.format(client=1, port=1, what="Disconnected", ms=9))
        for ms in range(20):
            for client in (1, 2):
                logger.error(_LINE.format(client=client, port=1, what="Connect failed", ms=ms))
            logger.error(_LINE.format(client=1, port=2, what="Connect failed", ms=ms))
        logger.info(_UP.format(client=1, port=1, what="Disconnected", ms=2))
    said = [record.getMessage() for record in caplog.records]
    assert sum("Connect failed" in line for line in said) == 3
    assert sum("Disconnected" in line for line in said) == 2
    assert vars(caplog.records[-1])["repeated_before"] == 19


def test_a_lasting_problem_is_logged_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    problem = LastingProblem(logging.getLogger("of a test"), "paused", "goes on", lambda: now)
    with caplog.at_level(logging.INFO):
        problem.end()
        for second in range(40):
            now = float(second)
            problem.note("refused" if second % 2 else "reset")
        problem.end()
        problem.end()
        problem.note("refused")
    said = [(each.getMessage(), vars(each).get("cause")) for each in caplog.records]
    begun = [("paused", "reset"), ("paused", "refused")]
    assert said == [*begun, *begun, ("goes on", None), ("paused", "refused")]


def _line(what: str, state: str = "CONNECT", thread: str = "b:1/1", client: int = 1) -> str:
    return (
        f"FAIL [rdkafka#producer-{client}] [thrd:{thread}]: {thread}: {what} "
        f"(after 3ms in state {state})"
    )


IPV4 = "Connect to ipv4#127.0.0.1:1 failed: Connection refused"
IPV6 = "Connect to ipv6#[::1]:1 failed: Connection refused"
CLOSED = "Disconnected"


class _Clock:
    """Says lines at times, and notes those that came through."""

    def __init__(self) -> None:
        self.filter = logs._Changes()
        self.said: list[logging.LogRecord] = []

    def say(self, at: float, text: str) -> bool:
        record = logging.makeLogRecord({"msg": text, "created": at})
        if not self.filter.filter(record):
            return False
        self.said.append(record)
        return True


def test_alternating_lines_are_logged_once_each() -> None:
    clock = _Clock()
    for second in range(0, 100, 2):
        clock.say(second, _line(IPV4))
        clock.say(second + 1, _line(IPV6))
        clock.say(second + 1, _line(IPV4, thread="main"))
        clock.say(second + 1, _line(IPV6, thread="main"))
    assert len(clock.said) == 4


def test_a_successful_connection_resets_suppression() -> None:
    clock = _Clock()
    for start in (0, 20):
        assert clock.say(start, _line(CLOSED, "UP"))
        for second in range(start, start + 20):
            clock.say(second, _line(IPV4))
            clock.say(second, _line(IPV6))
    texts = [record.getMessage() for record in clock.said]
    assert [sum(what in text for text in texts) for what in (CLOSED, IPV4, IPV6)] == [2, 2, 2]
    assert vars(clock.said[3])["repeated_before"] == 38
    assert not hasattr(clock.said[4], "repeated_before")


def test_persistent_problems_are_logged_periodically() -> None:
    clock = _Clock()
    for second in range(3_600):
        clock.say(second, _line(IPV4))
        clock.say(second, _line(IPV6))
    assert len(clock.said) == 12
    assert vars(clock.said[2])["repeated_before"] == 1_198


def test_remembered_lines_are_bounded() -> None:
    clock = _Clock()
    for number in range(100_000):
        assert clock.say(0.0, _line(f"{number} requests timed out", client=number % 5_000))
    stories = clock.filter._stories
    assert sum(len(story.said) for story in stories.values()) <= 2_000


_DEATH = (
    "{name}: Disconnected: connection closed by peer: receive 0 after POLLIN (after 900ms in "
    "state UP)",
    "{name}: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT)",
)


def test_the_death_of_a_broker_is_logged_once_for_all_clients() -> None:
    brokers = logs._BrokerFailures()

    def say(at: float) -> list[str]:
        said = []
        for client in ("w-0#consumer-4", "w-0-progress#consumer-8", "relay#consumer-9"):
            for thread, name in (
                ("127.0.0.1:9/1", "127.0.0.1:9/1"),
                ("GroupCoordinator", "GroupCoordinator: 127.0.0.1:9"),
            ):
                for text in _DEATH:
                    line = f"FAIL [{client}] [thrd:{thread}]: {text.format(name=name)}"
                    if brokers.filter(logging.makeLogRecord({"msg": line, "created": at})):
                        said.append(line)
        return said

    assert len(say(100)) == 2
    assert not any(say(at) for at in range(101, 160))
    assert len(say(200)) == 2  # it was back meanwhile
    other = "FAIL [w-0#consumer-4] [thrd:127.0.0.1:8/2]: 127.0.0.1:8/2: Disconnected (after 1ms"
    assert brokers.filter(logging.makeLogRecord({"msg": other, "created": 201}))
    assert brokers.filter(logging.makeLogRecord({"msg": "SESSTMOUT [x] [y]: z", "created": 201}))


NASTY = "ok\n2026-01-01 INFO forged\x1b[2J\x9b2J\u202e"


@pytest.mark.parametrize("form", ["human", "json"])
def test_no_data_forges_a_log_line(form: str) -> None:
    record = logging.makeLogRecord({"msg": "%s", "args": (NASTY,), "said": NASTY})
    formatter = logs._ForPeople("w") if form == "human" else logs._JsonLines("w")
    assert formatter.format(record).isprintable()
    try:
        raise ValueError(NASTY)
    except ValueError as error:
        record.exc_info = (ValueError, error, None)
    first, *others = formatter.format(record).split("\n")
    assert first.isprintable()
    assert all(line.startswith("  ") and line.isprintable() for line in others)
