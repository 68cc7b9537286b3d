"""The demo: three campaigns on a new Kafka and Redis, with a worker killed in the third.

- `run_demo`: runs the given acts
- `ACTS`: the acts of `streamer demo`; each one is an `Act`
- `Screen`: shows progress, and may request the end; `table` shows the results
- `ActReport`, `DemoError`, `DemoInterruptedError`: the result of an act, or why there is none
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
