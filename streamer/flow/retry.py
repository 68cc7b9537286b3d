"""How long to wait before the same call is made again."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential growth with full jitter: workers that failed together do not return together.

    Attributes:
        base_s: the longest wait after the first failure; it doubles with each further one.
        cap_s: the longest wait of all.
    """

    base_s: float
    cap_s: float

    def delay(self, failures: int, draw: Callable[[], float], at_least_s: float = 0.0) -> float:
        """Seconds to wait.

        Args:
            failures: how many calls in a row have failed, 1 or more.
            draw: gives a random number in [0, 1).
            at_least_s: what the other side asked for, as in `retry-after`.
        """
        # 2.0 ** 1024 overflows; the cap is reached long before.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 64))
        return at_least_s + ceiling * draw()
