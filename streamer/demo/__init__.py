"""The demonstration: three campaigns on a fresh Kafka and Redis, a worker killed in the third.

- `run_demo`: the whole of it, with the acts that are given
- `ACTS`: the acts of `streamer demo`; each an `Act`
- `Screen`: who watches, and may want it to end; `table` shows the end
- `ActReport`, `DemoError`, `DemoInterruptedError`: what came of it, or why nothing did
"""

from streamer.demo.acts import ACTS, Act
from streamer.demo.reports import ActReport
from streamer.demo.run import run_demo
from streamer.demo.screen import Screen
from streamer.demo.stage import DemoError, DemoInterruptedError

__all__ = [
    "ACTS",
    "Act",
    "ActReport",
    "DemoError",
    "DemoInterruptedError",
    "Screen",
    "run_demo",
]
