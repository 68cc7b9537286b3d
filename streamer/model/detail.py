"""The cause of an ending in words, as long as it can be kept and written."""

MOST_BYTES = 2_000
"""Of a detail, in UTF-8: what a template, a template's author or Resend says has no end of its
own, and stands in a header or an outcome, which Kafka refuses where they are too large."""

_MARK = " …"
_ROOM = MOST_BYTES - len(_MARK.encode())


def bounded(detail: str) -> str:
    """The detail, cut where it is too long, and without what UTF-8 cannot write."""
    if len(detail) <= MOST_BYTES and detail.isascii():
        return detail
    written = detail.encode(errors="replace")
    if len(written) > MOST_BYTES:
        return written[:_ROOM].decode(errors="ignore") + _MARK
    return written.decode()
