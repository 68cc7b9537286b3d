"""Kafka and Redis on this machine, for trials and tests.

- `Stack`: both together; `Stack.ephemeral()` for a while
- `Kafka`, `Redis`: one alone, to be killed and restarted
- `StackError`: one of them cannot be had
"""

from streamer.stack.errors import StackError
from streamer.stack.kafka import Kafka
from streamer.stack.redis import Redis
from streamer.stack.stack import Stack

__all__ = ["Kafka", "Redis", "Stack", "StackError"]
