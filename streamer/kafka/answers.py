"""Waiting for the answers to an admin client's questions, for a limited time."""

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException

PATIENCE_S = 75.0
"""Longer than any request: the client answers each by itself once its `request_timeout`, by default
60 s, has passed. Should it not, as when its thread is stuck, a command must end all the same."""

T = TypeVar("T")


def answer_of(future: Future[T], patience_s: float = PATIENCE_S) -> T:
    """Return the answer.

    Raises:
        KafkaException: the request failed, or there is no answer.
    """
    try:
        error = future.exception(patience_s)
    except FutureTimeoutError:
        raise KafkaException(
            KafkaError(KafkaError._TIMED_OUT, f"no answer after {patience_s:.0f} s")
        ) from None
    if isinstance(error, KafkaException):
        # Another one than the future has: by the traceback, that one would keep its own future
        # alive, and with it the client, until it is found by the garbage collector. Should that
        # run on the client's own thread, which calls back with answers, the process is aborted.
        raise KafkaException(*error.args)
    return future.result()
