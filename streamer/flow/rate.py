"""How fast an account may be called."""

UNKNOWN_RATE = 2.0
"""Calls a second while nobody has said how many there may be."""


def allowed_rate(ceiling: float, advertised: float | None) -> float:
    """Calls a second.

    Args:
        ceiling: what the settings allow; 0 leaves it to the provider.
        advertised: what the provider's `ratelimit-limit` said last; None if it said nothing.
    """
    if advertised is None:
        return ceiling or UNKNOWN_RATE
    return min(ceiling, advertised) if ceiling else advertised
