"""The headers of a message, as the client library gives them."""

from collections.abc import Callable
from operator import methodcaller
from typing import Protocol

from streamer.model.record import Headers

_Given = Headers | dict[str, str | bytes | None] | None


class Carrier(Protocol):
    """What has headers: confluent_kafka's `Message` does."""

    def headers(self) -> _Given:
        """Its headers; of a `Message` only to be asked for by `header_list`."""

    def set_headers(self, headers: Headers, /) -> None:
        """Replace them."""


# Not called as a method: a call that runs often is specialised by the interpreter, and then it
# does not look whether the client set an exception beside its result. From C it is always checked.
_headers: Callable[[Carrier], _Given] = methodcaller("headers")


def header_list(message: Carrier) -> Headers | None:
    """A message's headers, empty for none; None where a name is not UTF-8.

    Kafka takes any bytes for a name, the client library reads text alone: it then raises a
    SystemError for all of them, and when it is asked again gives a list with a null pointer in
    it, which ends the process that touches it. So such a message has no headers afterwards.
    """
    try:
        headers = _headers(message)
    except (SystemError, UnicodeDecodeError):
        message.set_headers([])
        return None
    return list(headers.items()) if isinstance(headers, dict) else headers or []
