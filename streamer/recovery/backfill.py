"""Fetching the events that the gateway missed, from Resend's record of webhooks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import cast
from urllib.parse import urlsplit

from confluent_kafka import KafkaError, Message, Producer
from pydantic import JsonValue

from streamer.errors import StreamerError
from streamer.kafka.properties import COMMAND, producer_properties
from streamer.model.mail_event import (
    KeyedEvent,
    Origin,
    UnreadableEventError,
    event_of_webhook,
)
from streamer.provider.calls import CallError, PacedCalls
from streamer.provider.client import ResendClient
from streamer.settings import Settings

_FLUSH_S = 30.0
_ACKNOWLEDGED = "success"

Progress = Callable[[int, int], None]
"""Called with the numbers of events seen and written so far."""


class BackfillError(StreamerError):
    """The events cannot be fetched or written; the message says why."""


@dataclass(slots=True)
class BackfillReport:
    """What was done, or in a dry run would be.

    Attributes:
        seen: events at Resend since then.
        acknowledged: of those, how many the gateway had taken.
        written: written now.
        unreadable: not written, as they are no events.
    """

    seen: int = 0
    acknowledged: int = 0
    written: int = 0
    unreadable: int = 0


class Backfill:
    """Writes to the topic of events what Resend could not deliver to the gateway.

    Safe to repeat, and while Resend still tries: each event keeps its id, and counts once.
    """

    def __init__(
        self,
        settings: Settings,
        resend: ResendClient,
        account: str,
        key: str,
        progress: Progress,
        calls: PacedCalls | None = None,
    ) -> None:
        self._topics = settings.topics
        self._resend = resend
        self._account = account
        self._key = key
        self._progress = progress
        self._calls = calls or PacedCalls()
        self._errors: list[KafkaError] = []
        self._producer = Producer(
            {**producer_properties(settings, COMMAND), "acks": "all", "enable.idempotence": True}
        )
        self.report = BackfillReport()

    def run(self, since: datetime, *, dry_run: bool) -> None:
        """Fetch and write the events since then.

        Raises:
            BackfillError: the account has no webhook to this gateway, or Kafka does not take them.
            CallError: Resend cannot be used; `report` says what was done.
        """
        for webhook_id in self._webhooks():
            ask = partial(self._resend.webhook_events, self._key, webhook_id)
            for page in self._calls.pages(ask):
                is_past = self._take(webhook_id, page, since, dry_run=dry_run)
                self._progress(self.report.seen, self.report.written)
                if is_past:
                    break

    def _webhooks(self) -> list[str]:
        """Return the ids of the account's webhooks that lead to a gateway."""
        found = self._calls.make(lambda: self._resend.webhooks(self._key)).get("data")
        path = f"/webhooks/{self._account}"
        ids = [
            str(each.get("id"))
            for each in (found if isinstance(found, list) else [])
            if isinstance(each, dict)
            and urlsplit(str(each.get("endpoint"))).path.rstrip("/").endswith(path)
        ]
        if not ids:
            raise BackfillError(
                f"account {self._account} has no webhook at Resend whose URL ends in {path}"
            )
        return ids

    def _take(
        self,
        webhook_id: str,
        page: list[dict[str, object]],
        since: datetime,
        *,
        dry_run: bool,
    ) -> bool:
        """Write the missed events of a page; return whether it reaches back far enough."""
        written = 0
        for summary in page:
            if _instant(summary.get("created_at")) < since:
                self._flush(written)
                return True
            self.report.seen += 1
            if summary.get("status") == _ACKNOWLEDGED:
                self.report.acknowledged += 1
                continue
            event = None if dry_run else self._event(webhook_id, str(summary.get("id")))
            if event is not None:
                self._producer.produce(
                    self._topics.events, event.value, event.key, on_delivery=self._on_delivery
                )
                self._producer.poll(0)
            written += event is not None or dry_run
        self._flush(written)
        return False

    def _event(self, webhook_id: str, event_id: str) -> KeyedEvent | None:
        found = self._calls.make(
            lambda: self._resend.webhook_event(self._key, webhook_id, event_id)
        )
        payload = found.get("payload")
        origin = Origin("backfill", self._account, event_id, datetime.now(UTC))
        try:
            return event_of_webhook(
                cast(dict[str, JsonValue], payload) if isinstance(payload, dict) else {},
                origin,
                self._topics.recipients,
            )
        except UnreadableEventError:
            self.report.unreadable += 1
            return None

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        del message
        if error is not None:
            self._errors.append(error)

    def _flush(self, written: int) -> None:
        left = self._producer.flush(_FLUSH_S)
        if self._errors or left:
            why = self._errors[0].str() if self._errors else "no acknowledgement"
            raise BackfillError(f"{self._topics.events}: {why}; the command is safe to repeat")
        self.report.written += written


def _instant(text: object) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        raise CallError(f"Resend gives no time for an event, but {str(text)[:100]!r}") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
