"""Length limit for the `detail` text of outcomes and dead letters."""

MAX_BYTES = 2_000
"""Maximum length of a detail in UTF-8. Text from templates or Resend has no limit of its own, and
Kafka rejects an outcome or header that is too large."""

_MARK = " …"
_ROOM = MAX_BYTES - len(_MARK.encode())


def bounded(detail: str) -> str:
    """Return the detail truncated to `MAX_BYTES`, with unencodable characters replaced."""
    if len(detail) <= MAX_BYTES and detail.isascii():
        return detail
    written = detail.encode(errors="replace")
    if len(written) > MAX_BYTES:
        return written[:_ROOM].decode(errors="ignore") + _MARK
    return written.decode()
