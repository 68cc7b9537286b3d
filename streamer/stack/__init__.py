"""Kafka and Redis on this machine, for trials and tests.

- `Stack`: both together; `Stack.ephemeral()` for a while
- `Kafka`, `Redis`: one alone, to be killed and restarted
- `DetachedStack`: both, beyond the end of the process that started them; a `Service` is what is
  known of one of them
- `StackError`: one of them cannot be had; `PortInUse`: because of its port

Servers end with the process that started them, however it ends, except those of a
`DetachedStack`.
"""

from streamer.stack.detached import DetachedStack, Service
from streamer.stack.errors import PortInUse, StackError
from streamer.stack.kafka import Kafka
from streamer.stack.redis import Redis
from streamer.stack.stack import Stack

__all__ = ["DetachedStack", "Kafka", "PortInUse", "Redis", "Service", "Stack", "StackError"]
