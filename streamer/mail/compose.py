"""Composing one mail of a Resend batch from a recipient and a campaign's message."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import orjson

from streamer.mail.content import CONTROLS, field_faults, reply_addresses
from streamer.mail.templates import RenderError, Templates, TooLargeError, Variables
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.mail.values import OutOfRangeError, readable
from streamer.model.campaign import Message
from streamer.model.encoding import to_json
from streamer.model.event import RecipientEvent

__all__ = ["Composer", "RenderError", "TooLargeError"]

_MAX_PREPARED = 256
_MAX_PREPARED = 20_000  # characters; anything larger is prepared again for each mail
_TAG_LENGTH = 256

# Everything that some mail client treats as a line break: CR, LF, VT, FF, NEL, LS, PS.
_LINE_BREAKS = re.compile(r"(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])+")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # JSON escape, after an even number of backslashes
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_-]")
_OURS = ("list-unsubscribe", "list-unsubscribe-post")


class Composer:
    """Composes mails. Thread-safe.

    Args:
        templates: renders the message's templates.
        links: with None no unsubscribe headers are added, the message's own are kept and
            `unsubscribe_url` is undefined.
        max_bytes: maximum size of one mail as JSON.
    """

    def __init__(
        self, templates: Templates, links: UnsubscribeLinks | None, max_bytes: int
    ) -> None:
        self._templates = templates
        self._links = links
        self._max_bytes = max_bytes
        self._prepared: dict[tuple[object, ...], _Shared] = {}
        self._lock = Lock()

    def compose(self, event: RecipientEvent, address: str, message: Message) -> bytes:
        """Return the JSON of one mail to the normalised address.

        A template stored at Resend gets its own variables, overridden by the recipient's, and
        these by `unsubscribe_url`.

        Raises:
            RenderError: the content cannot be rendered for this recipient.
            TooLargeError: the mail is larger than `max_bytes`.
        """
        shared = self._shared(event, message)
        mail = shared.fields.copy()
        mail["to"] = [address]
        try:
            variables = readable(event.variables)
        except OutOfRangeError as error:
            raise RenderError(str(error)) from None
        variables["email"] = address
        variables["recipient_id"] = event.recipient_id
        variables["campaign_id"] = event.campaign_id
        variables["organization_id"] = event.organization_id
        if event.name is not None:
            variables["name"] = event.name
        url = None
        if self._links is not None:
            url = self._links.url(event.organization_id, event.campaign_id, address)
            variables["unsubscribe_url"] = url
        headers = shared.headers.copy()
        for name, template in shared.header_templates:
            headers[name] = clean_line(self._templates.render_text(template, variables))
        if url is not None:
            headers["List-Unsubscribe"] = f"<{url}>"
            headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        if headers:
            mail["headers"] = headers
        if message.template is not None:
            mail["template"] = {
                "id": message.template.id,
                "variables": message.template.variables
                | event.variables
                | ({} if url is None else {"unsubscribe_url": url}),
            }
        self._render_into(mail, message, variables)
        try:
            body = to_json(mail)
        except orjson.JSONEncodeError as error:  # a lone surrogate, a number beyond 64 bits
            raise RenderError(f"the content cannot be encoded as JSON: {error}") from None
        if b"\\u0000" in body and _NUL.search(body):
            # NUL is invalid in mail, and Resend might reject the whole batch for it.
            raise RenderError("the content contains a NUL character")
        if len(body) > self._max_bytes:
            raise TooLargeError(f"the mail has {len(body)} bytes, the limit is {self._max_bytes}")
        return body

    def _render_into(self, mail: dict[str, object], message: Message, variables: Variables) -> None:
        """Render the content; skip the text if the HTML is already too large."""
        if message.subject is not None:
            mail["subject"] = clean_line(self._templates.render_text(message.subject, variables))
        length = 0
        if message.html is not None:
            mail["html"] = html = self._templates.render_html(message.html, variables)
            length = len(html)
        if message.text is not None and length <= self._max_bytes:
            mail["text"] = self._templates.render_text(message.text, variables)

    def _shared(self, event: RecipientEvent, message: Message) -> "_Shared":
        """Return what the mails of a campaign share, cached by content."""
        reply_to, headers, tags = message.reply_to, message.headers, message.tags
        # By content: events that carry a message have equal but distinct objects.
        key = (
            event.organization_id,
            event.campaign_id,
            message.from_,
            message.topic_id,
            message.scheduled_at,
            tuple(reply_to) if isinstance(reply_to, list) else reply_to,
            tuple(headers.items()) if headers else None,
            tuple([(tag.name, tag.value) for tag in tags]) if tags else None,
        )
        shared = self._prepared.get(key)
        if shared is None:
            ours = _OURS if self._links is not None else ()
            shared = _share(event, message, ours)
            if len(repr(key)) > _MAX_PREPARED:
                return shared
            with self._lock:
                if len(self._prepared) >= _MAX_PREPARED:
                    del self._prepared[next(iter(self._prepared))]
                self._prepared[key] = shared
        return shared


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the mails of a campaign share; copied into each."""

    fields: dict[str, object]
    headers: dict[str, str]
    header_templates: list[tuple[str, str]]


def clean_line(text: str) -> str:
    """Turn line breaks into one space and remove other control characters."""
    if text.isprintable():
        return text
    return CONTROLS.sub("", _LINE_BREAKS.sub(" ", text))


def _share(event: RecipientEvent, message: Message, ours: Sequence[str]) -> _Shared:
    """Prepare what the mails share.

    Args:
        event: gives the campaign.
        message: gives the content.
        ours: lower-case names of headers to leave out, since the composer adds them.
    """
    for fault in field_faults(message):
        raise RenderError(fault)
    fields: dict[str, object] = {"from": message.from_}
    if message.reply_to is not None:
        fields["reply_to"] = reply_addresses(message)
    if message.topic_id is not None:
        fields["topic_id"] = message.topic_id
    if message.scheduled_at is not None:
        fields["scheduled_at"] = message.scheduled_at
    # These override the message's tags: they identify the campaign in Resend's webhooks.
    tags = {_tag(tag.name): _tag(tag.value) for tag in message.tags or ()}
    tags |= {"campaign": _tag(event.campaign_id), "organization": _tag(event.organization_id)}
    fields["tags"] = [{"name": name, "value": value} for name, value in tags.items()]
    headers: dict[str, str] = {}
    header_templates = []
    for name, value in (message.headers or {}).items():
        if name.lower() in ours:
            continue
        if "{" in value:
            header_templates.append((name, value))
        else:
            headers[name] = clean_line(value)
    return _Shared(fields, headers, header_templates)


def _tag(text: str) -> str:
    return _NOT_IN_TAGS.sub("_", text)[:_TAG_LENGTH]
