"""The call rate allowed for an account."""

UNKNOWN_RATE = 2.0
"""Calls per second while no limit is known."""


def allowed_rate(ceiling: float, advertised: float | None) -> float:
    """Return the allowed calls per second.

    Args:
        ceiling: the maximum from the settings; 0 leaves the limit to the provider.
        advertised: the provider's last `ratelimit-limit`; None if it sent none.
    """
    if advertised is None:
        return ceiling or UNKNOWN_RATE
    return min(ceiling, advertised) if ceiling else advertised
