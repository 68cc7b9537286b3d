"""Composing one mail of a Resend batch from a recipient and a campaign's message."""

import re
from dataclasses import dataclass
from threading import Lock

import orjson

from streamer.errors import InvalidDataError
from streamer.mail.content import field_faults, reply_addresses
from streamer.mail.pieces import NoPiecesError, PieceMaker, Pieces
from streamer.mail.templates import (
    RenderError,
    Templates,
    TooLargeError,
    Variables,
    clean_line,
)
from streamer.mail.unsubscribe import CampaignLinks, UnsubscribeLinks
from streamer.mail.values import OutOfRangeError, readable
from streamer.model.campaign import Message, memory_of
from streamer.model.encoding import to_json
from streamer.model.event import RecipientEvent
from streamer.model.record import RecordId
from streamer.model.reference import TAG, campaign_check, place

__all__ = ["Composer", "RenderError", "TooLargeError"]

_MAX_PREPARED_BYTES = 16_000_000
_COPIES = 3
"""How often a text may be kept: in the message, in the fields and in the pieces."""
_USES_BEFORE_PIECES = 10
_TAG_LENGTH = 256
_MAX_TAGS = 75  # Resend's limit

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # JSON escape, after an even number of backslashes
_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_-]")
_OURS = ("list-unsubscribe", "list-unsubscribe-post")

_PreparedKey = tuple[int, str, str, bool]
"""The message's identity, organization, campaign, and whether there is an input record."""


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
        self._prepared: dict[_PreparedKey, _Prepared] = {}
        self._prepared_bytes = 0
        self._lock = Lock()

    def compose(
        self,
        event: RecipientEvent,
        address: str,
        message: Message,
        record_id: RecordId | None = None,
    ) -> bytes:
        """Return the JSON of one mail to the normalised address.

        A template stored at Resend gets its own variables, overridden by the recipient's, and
        these by `unsubscribe_url`.

        Args:
            event: the recipient.
            address: the recipient's normalised address.
            message: the content.
            record_id: the input record, to which the mail's tags then refer.

        Raises:
            RenderError: the content cannot be rendered for this recipient.
            TooLargeError: the mail is larger than `max_bytes`.
        """
        prepared = self._prepare(event, message, has_record=record_id is not None)
        try:
            variables = readable(event.variables)
        except OutOfRangeError as error:
            raise RenderError(str(error)) from None
        own = {
            "email": address,
            "recipient_id": event.recipient_id,
            "campaign_id": event.campaign_id,
            "organization_id": event.organization_id,
        }
        if event.name is not None:
            own["name"] = event.name
        url, token = None, ""
        if prepared.links is not None:
            token = prepared.links.sign(address)
            url = own["unsubscribe_url"] = prepared.links.prefix + token
        where = place(record_id) if record_id is not None else ""
        if prepared.pieces is not None:
            body = prepared.pieces.fill(variables, own, token, where)
            if body is not None and len(body) <= self._max_bytes:
                return body
        together = {**variables, **own}
        mail = self._fields(prepared, event, address, where, url, together, self._templates)
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

    def _fields(
        self,
        prepared: "_Prepared",
        event: RecipientEvent,
        address: str,
        where: str,
        url: str | None,
        variables: Variables,
        templates: Templates | PieceMaker,
    ) -> dict[str, object]:
        """Return the fields of a mail, without its text if the HTML is already too large.

        Args:
            prepared: what it shares with others.
            event: the recipient.
            address: the recipient's normalised address.
            where: the place of the input record, for the reference.
            url: for unsubscribing, if there are links.
            variables: those of the templates.
            templates: renders them.
        """
        message = prepared.message
        mail = prepared.fields.copy()
        mail["to"] = [address]
        if prepared.check is not None:
            mail["tags"] = [*prepared.tags, {"name": TAG, "value": prepared.check + where}]
        headers = prepared.headers.copy()
        for name, template in prepared.header_templates:
            headers[name] = templates.render_line(template, variables)
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
        if message.subject is not None:
            mail["subject"] = templates.render_line(message.subject, variables)
        length = 0
        if message.html is not None:
            mail["html"] = html = templates.render_html(message.html, variables)
            length = len(html)
        if message.text is not None and length <= self._max_bytes:
            mail["text"] = templates.render_text(message.text, variables)
        return mail

    def _prepare(self, event: RecipientEvent, message: Message, *, has_record: bool) -> "_Prepared":
        """Return what the mails of a campaign share, kept by the identity of the message."""
        key = (id(message), event.organization_id, event.campaign_id, has_record)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = _prepare(event, message, self._links, has_record=has_record)
            self._keep(key, prepared)
        # Not at once: an event may carry a message of its own.
        prepared.uses = uses = prepared.uses + 1
        if uses == _USES_BEFORE_PIECES:
            prepared.pieces = self._cut(prepared, event)
        return prepared

    def _keep(self, key: _PreparedKey, prepared: "_Prepared") -> None:
        with self._lock:
            if key in self._prepared:
                return
            self._prepared[key] = prepared
            self._prepared_bytes += prepared.size
            while self._prepared_bytes > _MAX_PREPARED_BYTES and len(self._prepared) > 1:
                oldest = self._prepared.pop(next(iter(self._prepared)))
                self._prepared_bytes -= oldest.size

    def _cut(self, prepared: "_Prepared", event: RecipientEvent) -> Pieces | None:
        """Return the pieces of a campaign's mails; None if they have none."""
        if prepared.message.template is not None:
            return None  # its variables differ as a whole
        maker = PieceMaker(self._max_bytes)
        shared = {"campaign_id": event.campaign_id, "organization_id": event.organization_id}
        url = None
        if prepared.links is not None:
            url = shared["unsubscribe_url"] = prepared.links.prefix + maker.token
        try:
            address, where = maker.mark("email"), maker.where
            mail = to_json(self._fields(prepared, event, address, where, url, shared, maker))
            # A larger one may lack its text.
            return maker.cut(mail, self._templates) if len(mail) <= self._max_bytes else None
        except (NoPiecesError, InvalidDataError, orjson.JSONEncodeError):
            return None


@dataclass(slots=True)
class _Prepared:
    """What the mails of a campaign share: their message, and fields to be copied into each.

    Attributes:
        tags: those in `fields`.
        check: the first part of the reference, which is added to the tags; None for none.
        links: None if the mails have none.
        pieces: None if the mails have none, or not yet.
        uses: for how many mails it was used, roughly.
    """

    message: Message
    fields: dict[str, object]
    headers: dict[str, str]
    header_templates: list[tuple[str, str]]
    tags: list[dict[str, str]]
    check: str | None
    links: CampaignLinks | None
    pieces: Pieces | None = None
    uses: int = 0

    @property
    def size(self) -> int:
        """Approximate memory, including that of the pieces."""
        return _COPIES * memory_of(self.message)


def _prepare(
    event: RecipientEvent, message: Message, links: UnsubscribeLinks | None, *, has_record: bool
) -> _Prepared:
    """Prepare what the mails of a campaign share.

    Args:
        event: gives the campaign.
        message: gives the content.
        links: makes the unsubscribe links, whose headers replace the message's own.
        has_record: whether the mails refer to input records.
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
    check = None
    if has_record and len(tags.keys() - {TAG}) < _MAX_TAGS:
        tags.pop(TAG, None)
        check = campaign_check(event.organization_id, event.campaign_id)
    listed = [{"name": name, "value": value} for name, value in tags.items()]
    fields["tags"] = listed
    headers: dict[str, str] = {}
    header_templates = []
    for name, value in (message.headers or {}).items():
        if links is not None and name.lower() in _OURS:
            continue
        if "{" in value:
            header_templates.append((name, value))
        else:
            headers[name] = clean_line(value)
    of_campaign = None
    if links is not None:
        of_campaign = links.campaign(event.organization_id, event.campaign_id)
    return _Prepared(message, fields, headers, header_templates, listed, check, of_campaign)


def _tag(text: str) -> str:
    return _NOT_IN_TAGS.sub("_", text)[:_TAG_LENGTH]
