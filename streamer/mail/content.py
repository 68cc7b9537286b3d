"""Judging the content of a campaign before its first mail: one set of rules for all who ask. Pure.

`field_faults` holds for every mail, also of an event that carries its own message, which then fails
alone. `content_faults` adds what is wrong for the campaign as a whole.
"""

import re
from collections.abc import Iterator
from datetime import datetime

from streamer.mail.templates import CONTROLS, Templates
from streamer.model.address import InvalidAddressError, check_mailbox
from streamer.model.campaign import Message

MAX_HEADERS = 100
"""Each header is a template; compiling thousands for one mail would take a second."""

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # a safe subset of RFC 5322's ftext


def content_faults(message: Message, templates: Templates, now: datetime) -> list[str]:
    """Return why no recipient of a campaign could get this message; empty if one could.

    Args:
        message: the message.
        templates: compiles its templates.
        now: the current time.
    """
    faults = list(field_faults(message))
    if message.template is None:
        if not (message.subject or "").strip():
            faults.append("subject: empty")
        if not ((message.html or "").strip() or (message.text or "").strip()):
            faults.append("html, text: the mail has no body")
    for field, source in _sources(message):
        faults += [f"{field}: {fault}" for fault in templates.faults(source)]
    if message.expires_at is not None and message.expires_at <= now:
        faults.append(f"expires_at: {message.expires_at.isoformat()} is in the past")
    return faults


def field_faults(message: Message) -> Iterator[str]:
    """Yield what is wrong with the fields that are not templates."""
    yield from _mailbox_faults("from", message.from_)
    for address in reply_addresses(message):
        yield from _mailbox_faults("reply_to", address)
    names = message.headers or {}
    if len(names) > MAX_HEADERS:
        yield f"headers: more than {MAX_HEADERS}"
        return
    for name in names:
        if not _HEADER_NAME.match(name):
            yield f"headers: invalid name {name!r}"


def reply_addresses(message: Message) -> list[str]:
    """Return the addresses of `reply_to`."""
    if message.reply_to is None:
        return []
    return [message.reply_to] if isinstance(message.reply_to, str) else message.reply_to


def variables(message: Message, templates: Templates) -> frozenset[str]:
    """Return the names of all variables that the message's templates may use."""
    return frozenset().union(*(templates.names(source) for _, source in _sources(message)))


def _mailbox_faults(field: str, text: str) -> Iterator[str]:
    if CONTROLS.search(text):
        yield f"{field}: contains a control character or a line break"
        return
    try:
        check_mailbox(text)
    except InvalidAddressError as error:  # Resend would refuse the whole batch for it
        yield f"{field}: {error}; expected the form Acme <news@example.com>"


def _sources(message: Message) -> list[tuple[str, str]]:
    """Return the templates of a message, as pairs of field name and source."""
    single = {"subject": message.subject, "html": message.html, "text": message.text}
    found = [(field, source) for field, source in single.items() if source is not None]
    found.extend((f"headers.{name}", value) for name, value in (message.headers or {}).items())
    return found
