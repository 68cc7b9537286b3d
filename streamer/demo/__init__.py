"""The demonstration: three campaigns on a fresh Kafka and Redis, a worker killed in the third.

- `run_demo`: the whole of it, with the acts that are given
- `ACTS`: the acts of `streamer demo`
- `ActReport`, `DemoError`, `DemoInterruptedError`: what came of one, or why nothing did
"""

from streamer.demo.acts import ACTS, Act, ActReport
from streamer.demo.run import DemoError, DemoInterruptedError, run_demo

__all__ = ["ACTS", "Act", "ActReport", "DemoError", "DemoInterruptedError", "run_demo"]
