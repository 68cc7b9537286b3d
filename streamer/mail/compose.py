"""From a recipient and a campaign's message to the bytes of one mail in Resend's batch."""

import re
from threading import Lock

import orjson
from pydantic import JsonValue

from streamer.mail.templates import RenderError, Templates, TooLargeError
from streamer.mail.unsubscribe import UnsubscribeLinks
from streamer.model.campaign import Message
from streamer.model.event import RecipientEvent

__all__ = ["Composer", "RenderError", "TooLargeError"]

_MOST_PREPARED = 1024
_TAG_LENGTH = 256

# Whatever some reader takes for the end of a line: CR, LF, VT, FF, NEL, LS, PS.
_LINE_BREAKS = re.compile(r"(?:\r\n|[\n\r\x0b\x0c\x85\u2028\u2029])+")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 5322's ftext, less the odd ones
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_-]")
_OURS = ("list-unsubscribe", "list-unsubscribe-post")


class Composer:
    """Makes mails; may be called from any thread.

    Args:
        links: None to send without unsubscribe headers; `unsubscribe_url` is undefined then.
        max_bytes: of one mail, as JSON.
    """

    def __init__(
        self, templates: Templates, links: UnsubscribeLinks | None, max_bytes: int
    ) -> None:
        self._templates = templates
        self._links = links
        self._max_bytes = max_bytes
        self._prepared: dict[tuple[object, ...], dict[str, object]] = {}
        self._lock = Lock()

    def compose(self, event: RecipientEvent, address: str, message: Message) -> bytes:
        """The JSON of one mail to the normalised address.

        Raises:
            RenderError: the content cannot be made for this recipient.
            TooLargeError: it would have more than `max_bytes`.
        """
        mail = self._base(event, message).copy()
        mail["to"] = [address]
        variables = dict(event.variables)
        variables |= {
            "email": address,
            "recipient_id": event.recipient_id,
            "campaign_id": event.campaign_id,
            "organization_id": event.organization_id,
        }
        if event.name is not None:
            variables["name"] = event.name
        if self._links is not None:
            url = self._links.url(event.organization_id, event.campaign_id, address)
            variables["unsubscribe_url"] = url
            headers = mail.get("headers")
            mail["headers"] = {
                **(headers if isinstance(headers, dict) else {}),
                "List-Unsubscribe": f"<{url}>",
                "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            }
        self._render_into(mail, message, event, variables)
        try:
            body = orjson.dumps(mail)
        except orjson.JSONEncodeError as error:  # a lone surrogate, a number beyond 64 bits
            raise RenderError(f"the content cannot be written as JSON: {error}") from None
        if len(body) > self._max_bytes:
            raise TooLargeError(f"{len(body)} bytes, {self._max_bytes} are allowed")
        return body

    def _render_into(
        self,
        mail: dict[str, object],
        message: Message,
        event: RecipientEvent,
        variables: dict[str, JsonValue],
    ) -> None:
        if message.subject is not None:
            subject = self._templates.render_text(message.subject, variables)
            mail["subject"] = clean_line(subject)
        if message.template is not None:
            of_recipient = dict(event.variables)
            if "unsubscribe_url" in variables:
                of_recipient["unsubscribe_url"] = variables["unsubscribe_url"]
            mail["template"] = {
                "id": message.template.id,
                "variables": {**message.template.variables, **of_recipient},
            }
        if message.html is not None:
            mail["html"] = self._templates.render_html(message.html, variables)
        if message.text is not None:
            mail["text"] = self._templates.render_text(message.text, variables)

    def _base(self, event: RecipientEvent, message: Message) -> dict[str, object]:
        """What the mails of a campaign share; made once for each content."""
        key = (
            event.organization_id,
            event.campaign_id,
            message.from_,
            message.topic_id,
            message.scheduled_at,
            message.reply_to if isinstance(message.reply_to, str) else repr(message.reply_to),
            repr(message.headers) if message.headers else None,
            repr(message.tags) if message.tags else None,
        )
        base = self._prepared.get(key)
        if base is None:
            base = _shared_fields(event, message)
            with self._lock:
                if len(self._prepared) >= _MOST_PREPARED:
                    del self._prepared[next(iter(self._prepared))]
                self._prepared[key] = base
        return base


def clean_line(text: str) -> str:
    """The text as one line: line breaks become one space, other control characters go."""
    if text.isprintable():
        return text
    return _CONTROLS.sub("", _LINE_BREAKS.sub(" ", text))


def _shared_fields(event: RecipientEvent, message: Message) -> dict[str, object]:
    base: dict[str, object] = {"from": _no_controls("from", message.from_)}
    if message.reply_to is not None:
        given = [message.reply_to] if isinstance(message.reply_to, str) else message.reply_to
        base["reply_to"] = [_no_controls("reply_to", address) for address in given]
    if message.headers:
        base["headers"] = {
            _header_name(name): clean_line(value)
            for name, value in message.headers.items()
            if name.lower() not in _OURS
        }
    tags = {tag.name: tag.value for tag in message.tags or ()}
    # Ours win: by them the campaign's mails are told apart in Resend's webhooks.
    tags |= {"campaign": event.campaign_id, "organization": event.organization_id}
    base["tags"] = [
        {"name": name, "value": _NOT_IN_TAGS.sub("_", value)[:_TAG_LENGTH]}
        for name, value in tags.items()
    ]
    if message.topic_id is not None:
        base["topic_id"] = message.topic_id
    if message.scheduled_at is not None:
        base["scheduled_at"] = message.scheduled_at
    return base


def _no_controls(field: str, value: str) -> str:
    if _CONTROLS.search(value):
        raise RenderError(f"{field} has a control character or a line break")
    return value


def _header_name(name: str) -> str:
    if not _HEADER_NAME.match(name):
        raise RenderError(f"{name!r} is no header's name")
    return name
