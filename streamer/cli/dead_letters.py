"""How dead letters are shown."""

import base64

import orjson

from streamer.cli.common import say, warn
from streamer.cli.output import say_block
from streamer.model.instants import as_text, from_milliseconds
from streamer.model.plural import plural
from streamer.recovery.dead_letters import StoredDeadLetter

COLUMNS = (
    ("OFFSET", 10),
    ("TIME", 24),
    ("REASON", 16),
    ("CAMPAIGN", 24),
    ("SOURCE", 24),
    ("DETAIL", 0),
)


def row(dead_letter: StoredDeadLetter) -> tuple[str, ...]:
    """Return the cells of its row of a list."""
    return (
        dead_letter.place,
        _time(dead_letter),
        dead_letter.reason,
        _campaign(dead_letter),
        str(dead_letter.source),
        dead_letter.detail,
    )


def summary(dead_letter: StoredDeadLetter) -> dict[str, object]:
    """Return what a list has of it as JSON."""
    names = dead_letter.names
    return {
        "place": dead_letter.place,
        "time": _time(dead_letter),
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "organization_id": names.organization,
        "campaign_id": names.campaign_id,
        "recipient_id": names.recipient_id,
        "email": names.email,
        "source": dead_letter.source._asdict(),
    }


def whole(dead_letter: StoredDeadLetter) -> dict[str, object]:
    """Return all of it as JSON."""
    value = dead_letter.stored.value
    return {
        **summary(dead_letter),
        "key": _plain(dead_letter.stored.key),
        "headers": [{"name": n, "value": _plain(v)} for n, v in dead_letter.stored.headers],
        "value": _plain(value),
        # Exact bytes, for a value that is not text.
        "value_base64": None if value is None else base64.b64encode(value).decode(),
    }


def show_dead_letter(dead_letter: StoredDeadLetter) -> None:
    """Print all of it."""
    stored = dead_letter.stored
    lines = {
        "place": dead_letter.place,
        "time": _time(dead_letter),
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "campaign": _campaign(dead_letter),
        "source": str(dead_letter.source),
        "key": "(none)" if stored.key is None else _text(stored.key),
    }
    for name, text in lines.items():
        say(f"{name}: {text}")
    say("headers:")
    for name, value in stored.headers:
        say(f"  {name}: {_plain(value) or ''}")
    say("value:" if stored.value is not None else "value: (none)")
    try:
        text = orjson.dumps(orjson.loads(stored.value or b""), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        text = _text(stored.value or b"")
    say_block(text, "  ")


def warn_of_malformed(count: int) -> None:
    """Warn of records of the topic that are no dead letters, if there are any."""
    if count:
        warn(
            f"{plural(count, 'record')} of the topic skipped: without the headers of a dead letter"
        )


def _campaign(dead_letter: StoredDeadLetter) -> str:
    organization, campaign_id = dead_letter.names[:2]
    return f"{organization}/{campaign_id}" if organization and campaign_id else "-"


def _time(dead_letter: StoredDeadLetter) -> str:
    return as_text(from_milliseconds(dead_letter.stored.timestamp_ms))


def _plain(value: str | bytes | None) -> str | None:
    return _text(value) if isinstance(value, bytes) else value


def _text(value: bytes) -> str:
    return value.decode(errors="backslashreplace")
