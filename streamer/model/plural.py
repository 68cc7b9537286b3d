"""Counts in words. Pure."""


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun, as "1 record" or "2,000 records".

    Args:
        count: the count.
        noun: the noun's singular.
        nouns: its plural, if that is not formed by an s.
    """
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"
