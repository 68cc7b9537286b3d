"""Repeats a call that fails for a while, as when a coordinator moves or loads."""

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

T = TypeVar("T")

_PAUSE_S = 0.2


def repeat(
    call: Callable[[], T],
    patience_s: float,
    is_temporary: Callable[[KafkaError], bool] = lambda _: True,
) -> T:
    """Call until it succeeds.

    Args:
        patience_s: how long to go on; the last call may begin just before that time is over.
        is_temporary: whether another call may succeed after this error.

    Raises:
        KafkaException: the last failure.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return call()
        except KafkaException as exception:
            if not is_temporary(exception.args[0]) or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_S)
