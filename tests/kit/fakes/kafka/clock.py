"""A clock that moves only when somebody waits."""


class KafkaClock:
    """Stands for the module `time` in the modules under test.

    Attributes:
        now: seconds since an arbitrary point.
    """

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
