"""How long to wait before a call is retried."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter, so that workers do not retry simultaneously.

    Attributes:
        base_s: the maximum wait after the first failure; it doubles with each further failure.
        cap_s: the overall maximum wait.
    """

    base_s: float
    cap_s: float

    def delay(self, failures: int, draw: Callable[[], float], at_least_s: float = 0.0) -> float:
        """Return the seconds to wait.

        Args:
            failures: the number of consecutive failures, at least 1.
            draw: returns a random number in [0, 1).
            at_least_s: the minimum wait requested by the server, as in `retry-after`; added to the
                backoff.
        """
        # 2.0 ** 1024 overflows; the cap is reached long before.
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, 64))
        return at_least_s + ceiling * draw()
