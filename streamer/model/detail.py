"""Length limit for the `detail` text of outcomes and dead letters."""

MOST_BYTES = 2_000
"""Maximum length of a detail in UTF-8. Text from templates or Resend has no limit of its own, and
Kafka rejects an outcome or header that is too large."""

_MARK = " …"
_ROOM = MOST_BYTES - len(_MARK.encode())


def bounded(detail: str) -> str:
    """Return the detail truncated to `MOST_BYTES`, with unencodable characters replaced."""
    if len(detail) <= MOST_BYTES and detail.isascii():
        return detail
    written = detail.encode(errors="replace")
    if len(written) > MOST_BYTES:
        return written[:_ROOM].decode(errors="ignore") + _MARK
    return written.decode()
