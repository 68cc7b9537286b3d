"""Faults of calls to a server in memory."""

from collections import Counter
from collections.abc import Callable
from functools import update_wrapper
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from redis import exceptions

P = ParamSpec("P")
T = TypeVar("T")


class CallFaults:
    """What happens before and after the calls, which are known by the name of the method.

    Attributes:
        made: the calls so far, also those that failed.
        before: called before each call has an effect; what it raises is raised by the call.
        after: likewise once the call has had its effect.
    """

    def __init__(self) -> None:
        self.made: list[str] = []
        self.before: Callable[[str], None] = _nothing
        self.after: Callable[[str], None] = _nothing
        self._refused: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()

    def refuse(self, name: str, times: int = 1) -> None:
        """Let the next calls of that name fail without an effect."""
        self._refused[name] += times

    def lose_reply(self, name: str, times: int = 1) -> None:
        """Let the next calls of that name fail after they had their effect."""
        self._lost[name] += times

    def begin(self, name: str) -> None:
        """Note a call, or fail it."""
        self.made.append(name)
        self.before(name)
        if self._refused[name]:
            self._refused[name] -= 1
            raise exceptions.ConnectionError("the server cannot be reached")

    def end(self, name: str) -> None:
        """Fail a call that had its effect, if it is to fail."""
        if self._lost[name]:
            self._lost[name] -= 1
            raise exceptions.TimeoutError("the reply is lost")
        self.after(name)


class FaultyServer(Protocol):
    """Something with calls that can fail."""

    faults: CallFaults


S = TypeVar("S", bound=FaultyServer)


def remote(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Make a method a call to the server, so that it can fail."""

    def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.faults.begin(method.__name__)
        reply = method(self, *args, **kwargs)
        self.faults.end(method.__name__)
        return reply

    update_wrapper(call, method)
    return call


def _nothing(name: str) -> None:
    del name
