"""Limits of requests: a rate in all and by address. Pure; time is an argument."""

from collections import OrderedDict

_BURST_S = 2.0
_MAX_ADDRESSES = 10_000


class Bucket:
    """A token bucket that holds what accrues in two seconds, but at least one."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._room = max(1.0, rate * _BURST_S)
        self._tokens = self._room
        self._at = now

    def take(self, now: float) -> bool:
        """Take a token; False if there is none."""
        self._tokens = min(self._room, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class RequestLimits:
    """The rate in all, and by address, of which the latest are remembered.

    Args:
        rate: requests per second in all.
        rate_by_address: requests per second from one address.
    """

    def __init__(self, rate: float, rate_by_address: float, now: float) -> None:
        self._all = Bucket(rate, now)
        self._rate_by_address = rate_by_address
        self._by_address: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, address: str, now: float) -> bool:
        """Whether a request from the address is within the limits; it then counts.

        One address that exceeds its own limit takes nothing from the others.
        """
        bucket = self._by_address.get(address)
        if bucket is None:
            bucket = self._by_address[address] = Bucket(self._rate_by_address, now)
            if len(self._by_address) > _MAX_ADDRESSES:
                self._by_address.popitem(last=False)
        else:
            self._by_address.move_to_end(address)
        return bucket.take(now) and self._all.take(now)
