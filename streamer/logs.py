"""Structured logs on standard error: one line a happening, as JSON or for people.

What a line is about stands in its fields (`extra=`). Addresses never do: campaigns, batches and
coordinates say enough, and no secret is ever handed to a logger.
"""

import logging
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
