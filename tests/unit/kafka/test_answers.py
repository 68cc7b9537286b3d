"""Waiting for an admin client."""

import gc
import weakref
from concurrent.futures import Future

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamer.kafka.answers import answer_of


def test_what_is_never_answered_is_not_waited_for_forever() -> None:
    with pytest.raises(KafkaException) as raised:
        answer_of(Future[int](), 0.01)
    assert raised.value.args[0].code() == KafkaError._TIMED_OUT


def test_an_answer_is_returned_and_an_error_raised() -> None:
    good, bad = Future[int](), Future[int]()
    good.set_result(7)
    bad.set_exception(KafkaException(KafkaError(KafkaError._TRANSPORT)))
    assert answer_of(good) == 7
    with pytest.raises(KafkaException):
        answer_of(bad)


def test_an_error_does_not_keep_what_failed_alive() -> None:
    """Nothing is left for the garbage collector, on whichever thread it runs."""

    def ask(future: Future[int]) -> None:
        future.set_exception(KafkaException(KafkaError(KafkaError._TRANSPORT)))
        with pytest.raises(KafkaException):
            answer_of(future)

    future = Future[int]()
    known = weakref.ref(future)
    gc.disable()
    try:
        ask(future)
        del future
        assert known() is None
    finally:
        gc.enable()
