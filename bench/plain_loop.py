"""The loop that a developer writes in an hour, the baseline for what the worker costs.

    consume -> SMISMEMBER -> render -> SDK -> produce -> flush -> commit

It has none of the worker's guarantees: no claims, no pin, no transaction, no rate limit, no
validation, no signed links. After a crash it mails up to 100 recipients again, and one that is not
JSON ends it. It uses what such loops use: `json`, Jinja2 with cached templates, and the SDK as it
comes.
"""

import json
import signal
import sys
import time
from functools import lru_cache
from types import FrameType
from typing import Any, cast

import resend
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from jinja2 import Environment, Template
from redis import Redis

from bench.measured import READY
from streamer.settings import Settings, load

_BATCH = 100
_POLL_S = 0.2
_TEXT, _HTML = Environment(), Environment(autoescape=True)

_Event = dict[str, Any]  # decoded JSON


class PlainLoop:
    """The loop, single-threaded."""

    def __init__(self, settings: Settings) -> None:
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
        self._producer = Producer({"bootstrap.servers": servers})
        self._redis = Redis.from_url(settings.redis.url)
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
            messages = self._consumer.consume(_BATCH, _POLL_S)
            if messages:
                self._mail(messages)
                self._producer.flush()
                self._consumer.commit(asynchronous=False)
        self._consumer.close()

    def _mail(self, messages: list[Message]) -> None:
        events = [json.loads(message.value() or b"") for message in messages]
        key = f"{{{events[0]['organization_id']}}}:suppressed"
        addresses = [event["email"].lower() for event in events]
        suppressed = cast(list[int], self._redis.smismember(key, addresses))
        mails = [_mail(event) for event, no in zip(events, suppressed, strict=True) if not no]
        ids = iter(resend.Batch.send(mails)["data"] if mails else ())
        for message, event, no in zip(messages, events, suppressed, strict=True):
            outcome = {
                "recipient_id": event["recipient_id"],
                "campaign_id": event["campaign_id"],
                "status": "skipped" if no else "sent",
                "email_id": None if no else next(ids)["id"],
                "occurred_at": time.time(),
            }
            self._producer.produce(self._topics.outcomes, json.dumps(outcome), message.key())


def _mail(event: _Event) -> resend.Emails.SendParams:
    content = event["message"]
    variables = {
        **event["variables"],
        "recipient_id": event["recipient_id"],
        "unsubscribe_url": f"https://shop.example/unsubscribe?r={event['recipient_id']}",
    }
    return {
        "from": content["from"],
        "to": [event["email"]],
        "subject": _template(_TEXT, content["subject"]).render(variables),
        "html": _template(_HTML, content["html"]).render(variables),
    }


@lru_cache(maxsize=1_000)
def _template(environment: Environment, source: str) -> Template:
    return environment.from_string(source)


def _say_ready(consumer: Consumer, partitions: list[TopicPartition]) -> None:
    del consumer, partitions
    print(READY, flush=True)


def main() -> int:
    """Run until SIGTERM."""
    loop = PlainLoop(load())

    def stop(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        loop.stop()

    signal.signal(signal.SIGTERM, stop)
    loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
