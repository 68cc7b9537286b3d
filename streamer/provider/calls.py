"""Calls of commands to Resend, one after the other: paced, repeated, and explained if they fail."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from streamer.errors import StreamerError
from streamer.provider.client import ApiResponse

PAGE = 100

_PACE_S = 0.25  # leaves most of the account's rate to the workers
_TRIES = 6
_MAX_WAIT_S = 30.0
_RESTRICTED = "restricted_api_key"


class CallError(StreamerError):
    """Resend refuses a call, or does not answer; the message says why and what to do."""


class PacedCalls:
    """Makes calls.

    Args:
        sleep: waits for so many seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep

    def make(self, call: Callable[[], ApiResponse]) -> Mapping[str, object]:
        """Make a call, again while that may help; return the body of its response.

        Raises:
            CallError: it fails.
        """
        for number in range(_TRIES):
            self._sleep(_PACE_S)
            response = call()
            status = response.status or 500
            if response.is_from_resend and status < 300:
                return response.data
            if status != 429 and status < 500:
                break
            if number < _TRIES - 1:
                self._sleep(_wait_s(response, number))
        raise CallError(_explain(response))

    def pages(self, call: Callable[[str | None], ApiResponse]) -> Iterator[list[dict[str, object]]]:
        """Yield the pages of a list.

        Args:
            call: asks for the page after the item with this id; None for the first.

        Raises:
            CallError: a call fails.
        """
        after: str | None = None
        while True:
            page = self.make(partial(call, after))
            items = page.get("data")
            listed = items if isinstance(items, list) else []
            found: list[dict[str, object]] = [each for each in listed if isinstance(each, dict)]
            if found:
                yield found
            if not page.get("has_more") or not found:
                return
            after = str(found[-1].get("id"))


def _wait_s(response: ApiResponse, number: int) -> float:
    told = response.headers.get("retry-after", "")
    return min(_MAX_WAIT_S, float(told) if told.isdecimal() else 2.0**number)


def _explain(response: ApiResponse) -> str:
    if response.status is None:
        return f"no response from Resend: {response.message}"
    said = f"Resend answers {response.status} {response.name}: {response.message}"
    if response.name == _RESTRICTED:
        return f"{said}; the account's key may only send: use one with full access"
    return said
