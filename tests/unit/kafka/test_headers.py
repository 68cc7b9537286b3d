"""A message's headers, in each form that the client gives them, and where it cannot."""

from confluent_kafka import Message

from streamer.kafka.headers import header_list
from streamer.model.record import Headers


class _Unreadable:
    """A message as the client makes it of a header whose name is not UTF-8."""

    def __init__(self) -> None:
        self._headers: Headers | None = None

    def headers(self) -> Headers:
        if self._headers is None:
            raise SystemError("headers returned a result with an exception set")
        return self._headers

    def set_headers(self, headers: Headers, /) -> None:
        self._headers = headers


def test_headers_become_a_list() -> None:
    assert header_list(Message(headers=None)) == []
    assert header_list(Message(headers=[("a", b"1"), ("a", None)])) == [("a", b"1"), ("a", None)]
    assert header_list(Message(headers={"a": b"1"})) == [("a", b"1")]


def test_unreadable_headers_are_none_and_read_once() -> None:
    message = _Unreadable()
    assert header_list(message) is None
    assert header_list(message) == []
