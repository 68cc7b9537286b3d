"""Kafka and Redis on this machine, for trials and tests.

- `Stack`: both servers; `Stack.ephemeral()` runs them temporarily
- `KafkaServer`, `RedisServer`: a single server, which can be killed and restarted
- `DetachedStack`: both servers, outliving the process that started them; `Service` is the status
  of one of them
- `StackError`: a server cannot be started; `PortInUse`: because its port is in use

Servers end with the process that started them, however it ends, except those of a
`DetachedStack`.
"""

from streamer.stack.detached import DetachedStack, Service
from streamer.stack.errors import PortInUse, StackError
from streamer.stack.kafka import KafkaServer
from streamer.stack.redis import RedisServer
from streamer.stack.stack import Stack

__all__ = [
    "DetachedStack",
    "KafkaServer",
    "PortInUse",
    "RedisServer",
    "Service",
    "Stack",
    "StackError",
]
