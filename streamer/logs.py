"""Structured logs on standard error: one line per event, as JSON or for humans.

Details go into fields (`extra=`). Addresses and secrets are never logged; campaigns, batches and
offsets identify a record well enough.
"""

import logging
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from textwrap import indent
from threading import Lock
from typing import TypeVar

import orjson

from streamer.model.printable import printable, printable_json, printable_lines
from streamer.settings import LogSettings

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: LogSettings, worker: str) -> None:
    """Log to standard error, in the format and at the level of the settings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(worker) if settings.format == "json" else _ForPeople(worker))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # urllib3 logs every connection, at levels that do not suit this program.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def client_logger(name: str) -> logging.Logger:
    """Return a logger for a Kafka client that suppresses repeated lines.

    While a broker is unavailable, a client logs every connection attempt, and every client of the
    process does.
    """
    logger = logging.getLogger(f"streamer.client.{name}")
    if not logger.filters:
        logger.addFilter(_BROKERS)
        logger.addFilter(_Changes())
    return logger


class LastingProblem:
    """Logs a problem when it begins, when its cause changes and every half minute, and its end.

    Args:
        logger: where to.
        begun: the message while it lasts.
        over: the message at its end.
    """

    _AGAIN_S = 30.0

    def __init__(
        self,
        logger: logging.Logger,
        begun: str,
        over: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._begun = begun
        self._over = over
        self._clock = clock
        self._said: dict[str, float] = {}
        """When each cause was logged last."""

    def note(self, cause: str) -> None:
        """Note that it lasts, and why."""
        now = self._clock()
        if cause not in self._said or now - self._said[cause] >= self._AGAIN_S:
            self._said[cause] = now
            self._logger.warning(self._begun, extra={"cause": cause})

    def end(self) -> None:
        """Note that it is over, if there was one."""
        if self._said:
            self._said.clear()
            self._logger.info(self._over)


_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(slots=True)
class _Story:
    """The messages of one connection since it was last up, with the time each was last logged."""

    said: dict[str, float] = field(default_factory=dict)
    left_out: int = 0


class _Changes(logging.Filter):
    """Drops and counts messages that a connection already logged.

    A client logs every attempt for every address of a broker, so messages alternate. A message is
    logged again after the connection was up, and periodically while the problem persists.
    """

    _CONNECTION = re.compile(r"\[[^\]#]*#[^\]]*\] \[thrd:[^\]]*\]")
    _VARIES = re.compile(r"\(after .*\)")
    _WAS_UP = re.compile(r"\(after \d+ms in state UP\b")
    _AGAIN_S = 600.0
    _MOST_CONNECTIONS = 100
    _MOST_TEXTS = 20

    def __init__(self) -> None:
        super().__init__()
        self._stories: dict[str, _Story] = {}
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        text = self._VARIES.sub("", message)
        found = self._CONNECTION.search(text)
        connection = found.group() if found else ""
        with self._lock:
            story = self._stories.pop(connection, None) or _Story()
            self._stories[connection] = story
            _drop_oldest(self._stories, self._MOST_CONNECTIONS)
            if self._WAS_UP.search(message):
                story.said.clear()
            at = story.said.pop(text, None)
            if at is not None and 0 <= record.created - at < self._AGAIN_S:
                story.said[text] = at
                story.left_out += 1
                return False
            story.said[text] = record.created
            _drop_oldest(story.said, self._MOST_TEXTS)
            if story.left_out:
                record.repeated_before = story.left_out
                story.left_out = 0
        return True


class _BrokerFailures(logging.Filter):
    """Drops what another client of this process, or another connection of the client, has already
    logged of a broker that cannot be reached."""

    _FAILURE = re.compile(r"FAIL \[[^\]]*\] \[thrd:[^\]]*\]: (?P<names>(?:\S+: )+)(?P<reason>.*)")
    _ADDRESS = re.compile(r"[^\s/]+:\d+")
    _AFTER = re.compile(r" \(after .*")
    _WAS_UP = re.compile(r"\(after \d+ms in state UP\b")
    _QUIET_S = 5.0
    """Without failures for so long, a broker was back."""
    _AGAIN_S = 600.0
    _MOST = 200

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}
        self._last = float("-inf")
        self._lock = Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        failure = self._FAILURE.match(message)
        if failure is None:
            return True
        address = self._ADDRESS.search(failure["names"])
        key = address.group() if address else "", self._AFTER.sub("", failure["reason"])
        with self._lock:
            if self._WAS_UP.search(message) and record.created - self._last > self._QUIET_S:
                self._said.clear()
            self._last = record.created
            at = self._said.get(key)
            if at is not None and 0 <= record.created - at < self._AGAIN_S:
                return False
            self._said.pop(key, None)
            self._said[key] = record.created
            _drop_oldest(self._said, self._MOST)
        return True


_BROKERS = _BrokerFailures()
"""Shared by all clients of the process."""


def _drop_oldest(entries: dict[_K, _T], most: int) -> None:
    if len(entries) > most:
        del entries[next(iter(entries))]


def _fields(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN}


class _JsonLines(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "worker": self._worker,
            "thread": record.threadName,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return printable_json(orjson.dumps(line, default=str).decode())


class _ForPeople(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        # What others said is quoted here: a line break in it must not begin a line of its own.
        text = printable(f"{record.getMessage()}{fields}")
        line = f"{_time(record)} {record.levelname:<8} {self._worker} {text}"
        if record.exc_info:
            line += "\n" + indent(printable_lines(self.formatException(record.exc_info)), "  ")
        return line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
