"""Structured logs on standard error: one line a happening, as JSON or for people.

What a line is about stands in its fields (`extra=`). Addresses never do: campaigns, batches and
coordinates say enough, and no secret is ever handed to a logger.
"""

import logging
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import TypeVar

import orjson

from streamer.settings import Log

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Log, worker: str) -> None:
    """Send all loggers' lines to standard error, in the settings' format and level."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(worker) if settings.format == "json" else _ForPeople(worker))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    # Their lines name each connection, at levels that are not ours.
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def client_logger(name: str) -> logging.Logger:
    """A logger for a Kafka client: of its lines those that say something new.

    While a broker is away a client says so at each try to reach it.
    """
    logger = logging.getLogger(f"streamer.client.{name}")
    if not logger.filters:
        logger.addFilter(_Changes())
    return logger


_T = TypeVar("_T")


@dataclass(slots=True)
class _Story:
    """What one connection said since it was up: each text, and when that came through last."""

    said: dict[str, float] = field(default_factory=dict)
    left_out: int = 0


class _Changes(logging.Filter):
    """Leaves out what a connection said before, and counts it.

    A client says each try of each address of a broker, so the texts alternate. They come again
    once the connection was up in between, and now and then while the trouble lasts.
    """

    _CONNECTION = re.compile(r"\[rdkafka#[^\]]*\] \[thrd:[^\]]*\]")
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


def _drop_oldest(entries: dict[str, _T], most: int) -> None:
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
        return orjson.dumps(line, default=str).decode()


class _ForPeople(logging.Formatter):
    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname:<8} {self._worker} {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
