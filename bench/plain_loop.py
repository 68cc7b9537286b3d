"""A naive consumer loop, the baseline for what the worker costs.

    poll -> SMISMEMBER -> render -> SDK -> produce -> commit

Polls one record at a time, sends batches of 100 with the unmodified SDK (its own HTTP client,
mails as dicts), renders the content carried by each event, produces outcomes with a plain
producer, flushes, and commits synchronously. It has none of the worker's guarantees: no claims,
no pin, no transaction, no rate limit, no orderly rebalance. After a crash it mails up to 100
recipients again.

It parses, renders and signs with the same code or library as the worker, uses the worker's
settings, and stops on SIGTERM. Options for two choices that such loops make either way:

- `--cached`: cache compiled templates, as the worker does, instead of compiling one for each mail
- `--flush-each`: flush after each outcome instead of once per batch, which is far slower
"""

import json
import signal
import sys
import time
from types import FrameType
from typing import cast

import resend
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from minijinja import Environment
from pydantic import JsonValue
from redis import Redis

from streamer.ledger import keys
from streamer.mail.templates import Templates
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.address import normalise
from streamer.model.event import RecipientEvent, parse
from streamer.settings import Settings, load

READY = "ready"
"""The line printed once partitions are assigned."""

_BATCH = 100
_POLL_S = 0.2


class PlainLoop:
    """The loop, single-threaded. See the module for its options."""

    def __init__(self, settings: Settings, *, cached: bool, flush_each: bool) -> None:
        servers = settings.kafka.bootstrap_servers
        self._topics = settings.topics
        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": settings.kafka.group_id,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        self._producer = Producer({"bootstrap.servers": servers, "compression.type": "lz4"})
        self._redis = Redis.from_url(settings.redis.url)
        self._templates = Templates(settings.mail.max_bytes) if cached else None
        self._jinja = Environment(
            undefined_behavior="strict", auto_escape_callback=lambda name: name == "html"
        )
        self._flush_each = flush_each
        self._links = UnsubscribeLinks(
            settings.unsubscribe.base_url or "", settings.unsubscribe.secrets
        )
        resend.api_url = settings.api_url
        resend.api_key = "re_sandbox"
        self._stopping = False

    def stop(self) -> None:
        """Stop after the current batch."""
        self._stopping = True

    def run(self) -> None:
        """Mail until stopped."""
        self._consumer.subscribe([self._topics.recipients], on_assign=_say_ready)
        while not self._stopping:
            messages = self._poll_batch()
            if messages:
                self._mail(messages)
                self._consumer.commit(asynchronous=False)
        self._consumer.close()

    def _poll_batch(self) -> list[Message]:
        messages: list[Message] = []
        while len(messages) < _BATCH:
            message = self._consumer.poll(_POLL_S)
            if message is None:
                break
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            messages.append(message)
        return messages

    def _mail(self, messages: list[Message]) -> None:
        found = [parse(message.value()) for message in messages]
        addresses = [normalise(event.email) for event in found]
        key = keys.suppressed(found[0].organization_id)
        suppressed = cast(list[int], self._redis.smismember(key, addresses))
        mails = [
            self._render(event, address)
            for event, address, no in zip(found, addresses, suppressed, strict=True)
            if not no
        ]
        ids = iter(resend.Batch.send(mails)["data"] if mails else ())
        for message, event, no in zip(messages, found, suppressed, strict=True):
            email_id = None if no else next(ids)["id"]
            self._producer.produce(
                self._topics.outcomes, _outcome(message, event, email_id), message.key()
            )
            if self._flush_each:
                self._producer.flush()
        self._producer.flush()

    def _render(self, event: RecipientEvent, address: str) -> resend.Emails.SendParams:
        content = event.message
        if content is None or content.html is None or content.subject is None:
            raise ValueError(f"event of {event.recipient_id} without content")
        url = self._links.url(event.organization_id, event.campaign_id, address)
        variables: dict[str, JsonValue] = {
            **event.variables,
            "email": address,
            "recipient_id": event.recipient_id,
            "campaign_id": event.campaign_id,
            "organization_id": event.organization_id,
            "unsubscribe_url": url,
        }
        return {
            "from": content.from_,
            "to": [address],
            "subject": self._render_one("text", content.subject, variables),
            "html": self._render_one("html", content.html, variables),
            "headers": {
                "List-Unsubscribe": f"<{url}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            },
            "tags": [
                {"name": "campaign", "value": event.campaign_id},
                {"name": "organization", "value": event.organization_id},
            ],
        }

    def _render_one(self, kind: str, source: str, variables: dict[str, JsonValue]) -> str:
        if self._templates is None:
            return self._jinja.render_str(source, kind, **variables)
        if kind == "html":
            return self._templates.render_html(source, variables)
        return self._templates.render_text(source, variables)


def _outcome(message: Message, event: RecipientEvent, email_id: str | None) -> bytes:
    return json.dumps(
        {
            "organization_id": event.organization_id,
            "campaign_id": event.campaign_id,
            "recipient_id": event.recipient_id,
            "email": event.email,
            "status": "skipped" if email_id is None else "sent",
            "reason": "suppressed" if email_id is None else None,
            "email_id": email_id,
            "occurred_at": time.time(),
            "source": {
                "topic": message.topic(),
                "partition": message.partition(),
                "offset": message.offset(),
            },
        }
    ).encode()


def _say_ready(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    del consumer, partitions
    print(READY, flush=True)


def main() -> int:
    """Run until SIGTERM."""
    arguments = sys.argv[1:]
    loop = PlainLoop(load(), cached="--cached" in arguments, flush_each="--flush-each" in arguments)

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        loop.stop()

    signal.signal(signal.SIGTERM, stop)
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
