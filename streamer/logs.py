"""Structured logs on standard error: one line a happening, as JSON or for people.

What a line is about stands in its fields (`extra=`). Addresses never do: campaigns, batches and
coordinates say enough, and no secret is ever handed to a logger.
"""

import logging
import re
import sys
from datetime import UTC, datetime

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


class _Changes(logging.Filter):
    """Leaves out what a connection said just before, and counts it."""

    _CONNECTION = re.compile(r"\[rdkafka#[^\]]*\] \[thrd:[^\]]*\]")
    _VARIES = re.compile(r"\(after .*\)")

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, tuple[str, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        text = self._VARIES.sub("", record.getMessage())
        found = self._CONNECTION.search(text)
        connection = found.group() if found else ""
        said, repeated = self._said.get(connection, ("", 0))
        if text == said:
            self._said[connection] = said, repeated + 1
            return False
        self._said[connection] = text, 0
        if repeated:
            record.repeated_before = repeated
        return True


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
