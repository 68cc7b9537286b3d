"""Safe access to message headers as returned by the client library."""

from collections.abc import Callable
from operator import methodcaller
from typing import Protocol

from streamer.model.record import Headers

_Given = Headers | dict[str, str | bytes | None] | None


class Carrier(Protocol):
    """Anything with headers, such as confluent_kafka's `Message`."""

    def headers(self) -> _Given:
        """Return the headers. For a `Message`, call `header_list` instead."""

    def set_headers(self, headers: Headers, /) -> None:
        """Replace the headers."""


# Called through C on purpose: the interpreter specialises hot method calls and then does not check
# whether the client set an exception alongside a result. Calls made from C are always checked.
_headers: Callable[[Carrier], _Given] = methodcaller("headers")


def header_list(message: Carrier) -> Headers | None:
    """Return a message's headers, `[]` if it has none, or None if a header name is not UTF-8.

    Kafka allows any bytes in a header name, but the client library only reads text. On other
    bytes the first call raises SystemError, and the next one returns a list containing a null
    pointer that crashes the process when touched. The headers of such a message are therefore
    cleared.
    """
    try:
        headers = _headers(message)
    except (SystemError, UnicodeDecodeError):
        message.set_headers([])
        return None
    return list(headers.items()) if isinstance(headers, dict) else headers or []
