"""The request body for Resend's batch endpoint: a JSON array of mails, kept byte for byte."""

from collections.abc import Sequence


class Payload:
    """Mails joined into one body, only once: copying one costs more than rendering a mail.

    Attributes:
        body: the JSON array.
        lengths: the length of each mail in bytes, in order.
    """

    __slots__ = ("body", "lengths")

    def __init__(self, mails: Sequence[bytes]) -> None:
        parts = [b"["]
        for mail in mails:
            parts += (mail, b",")
        if mails:
            parts.pop()
        parts.append(b"]")
        self.body = b"".join(parts)
        self.lengths = [len(mail) for mail in mails]

    @classmethod
    def restored(cls, body: bytes, lengths: list[int]) -> "Payload":
        """Restore a payload from its body and lengths."""
        payload = cls.__new__(cls)
        payload.body, payload.lengths = body, lengths
        return payload

    def __len__(self) -> int:
        return len(self.lengths)

    def mails(self) -> list[bytes]:
        """Return the bytes of each mail."""
        mails, start = [], 1
        for length in self.lengths:
            mails.append(self.body[start : start + length])
            start += length + 1
        return mails

    def halves(self) -> tuple["Payload", "Payload"]:
        """Split into two payloads, always at the same mail."""
        mails = self.mails()
        half = len(mails) // 2
        return Payload(mails[:half]), Payload(mails[half:])
