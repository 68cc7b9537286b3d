"""How many examples a property is tried with."""

from hypothesis import settings


def examples(count: int) -> int:
    """Return `count`, or fewer in the profile `quick`, in the proportion of its own examples."""
    return max(10, count * settings().max_examples // settings.get_profile("streamer").max_examples)
