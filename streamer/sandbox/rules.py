"""Resend's validation rules for one mail."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

from streamer.sandbox.errors import (
    EXAMPLE_DOMAIN,
    Problem,
    RefusalError,
    invalid_address,
    invalid_type,
    missing,
    validation,
)
from streamer.sandbox.faults import Faults, names

_MAX_TO = 50
_MAX_TAGS = 75
_MAX_VARIABLE = 2000
_EXAMPLE_DOMAINS = frozenset({"@example.com"})
_ADDRESS = r"[^\s@<>(),;:\"\\\[\]]+@(?:[^\s@<>(),;:\"\\\[\].]+\.)+[^\s@<>(),;:\"\\\[\].]{2,}"
_bare = re.compile(_ADDRESS).fullmatch
_named = re.compile(rf"[^<>\r\n]*<({_ADDRESS})>\s*").fullmatch
_tag_text = re.compile(r"[A-Za-z0-9_-]{1,256}").fullmatch
_variable_name = re.compile(r"[A-Za-z0-9_]{1,50}").fullmatch
_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_in_a_while = re.compile(r"in (\d{1,6}|an?) ?(min(?:ute)?|hour|day)s?", re.IGNORECASE).fullmatch
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}

Mail = dict[str, object]


class ParsedEmail(NamedTuple):
    """A valid mail."""

    organization: str
    campaign: str
    addresses: Sequence[str]
    """The addresses in `to`, bare and in lower case."""
    recipients: int
    """The number of addresses in `to`, `cc` and `bcc`, as counted by the quotas."""
    mail: Mail


class Rules:
    """Validates mails. Equal tags on consecutive mails, the usual case, are checked only once.

    Args:
        wall: the current time, for `scheduled_at`.
    """

    def __init__(self, faults: Faults, wall: float) -> None:
        self._refused = faults.refused
        self._refused_domains = _EXAMPLE_DOMAINS if faults.refuse_example_domain else None
        self._wall = wall
        self._last_tags: object = None
        self._last_identity = ("", "")

    def parse(self, item: object) -> ParsedEmail:
        """Validate a mail.

        Raises:
            RefusalError: the mail is invalid.
        """
        if not isinstance(item, dict):
            raise RefusalError(validation("Each email must be an object."))
        template = item.get("template")
        _check_sender(item.get("from"), may_lack=template is not None)
        if not item.get("to"):
            raise RefusalError(missing("to"))
        addresses = self._recipients(item, "to")
        if len(addresses) > _MAX_TO:
            raise RefusalError(validation(f"The `to` field can have at most {_MAX_TO} addresses."))
        recipients = len(addresses)
        for field in ("cc", "bcc"):
            if field in item:
                recipients += len(self._recipients(item, field))
        if "reply_to" in item:
            addresses_of("reply_to", item["reply_to"])
        _check_subject(item.get("subject"), may_lack=template is not None)
        _check_content(item)
        if template is not None:
            _check_template(template)
        _check_headers(item.get("headers"))
        _check_topic(item.get("topic_id"))
        _check_schedule(item.get("scheduled_at"), self._wall)
        organization, campaign = self._identity(item.get("tags"))
        if self._refused and any(names(self._refused, address) for address in addresses):
            raise RefusalError(
                validation("Invalid `to` field. The address is refused by this sandbox.")
            )
        return ParsedEmail(organization, campaign, addresses, recipients, item)

    def _recipients(self, item: Mail, field: str) -> list[str]:
        addresses = addresses_of(field, item[field])
        if self._refused_domains and any(names(self._refused_domains, a) for a in addresses):
            raise RefusalError(EXAMPLE_DOMAIN)
        return addresses

    def _identity(self, tags: object) -> tuple[str, str]:
        """Return (organization, campaign) from the tags, each "" if missing."""
        if tags is None:
            return "", ""
        if tags != self._last_tags:
            self._last_identity = _check_tags(tags)
            self._last_tags = tags
        return self._last_identity


def addresses_of(field: str, value: object) -> list[str]:
    """Return the bare addresses of a field, in lower case.

    Raises:
        RefusalError: an address is invalid.
    """
    if value is None:
        return []
    addresses = []
    for text in value if isinstance(value, list) else (value,):
        address = _address_of(text)
        if address is None:
            raise RefusalError(invalid_address(field))
        addresses.append(address)
    return addresses


@lru_cache(maxsize=1024)
def sender_of(text: str) -> str | None:
    """Return the bare address of a `from`, in lower case; None if invalid."""
    return _address_of(text)


def scheduled_time(text: str, wall: float) -> float | None:
    """Parse a `scheduled_at` to wall clock seconds; None if it cannot be parsed.

    Supports ISO 8601 and phrases like `in 5 minutes`, `in an hour` and `in 2 days`. Resend
    understands more natural language than this.
    """
    if found := _in_a_while(text.strip()):
        count = int(found[1]) if found[1].isdecimal() else 1
        return wall + count * _UNITS_S[found[2][0].lower()]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _address_of(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    if _bare(text):
        return text.lower()
    named = _named(text)
    return named[1].lower() if named else None


def _check_sender(sender: object, *, may_lack: bool) -> None:
    if not sender:
        if not may_lack:
            raise RefusalError(missing("from"))
    elif not isinstance(sender, str) or sender_of(sender) is None:
        raise RefusalError(invalid_address("from"))


def _check_subject(subject: object, *, may_lack: bool) -> None:
    if subject is None:
        if not may_lack:
            raise RefusalError(missing("subject"))
    elif not isinstance(subject, str):
        raise RefusalError(invalid_type("subject"))
    elif not subject:
        raise RefusalError(missing("subject"))


def _check_content(item: Mail) -> None:
    html, text, template = item.get("html"), item.get("text"), item.get("template")
    if html is not None and not isinstance(html, str):
        raise RefusalError(invalid_type("html"))
    if text is not None and not isinstance(text, str):
        raise RefusalError(invalid_type("text"))
    if template is None:
        if not html and not text:
            raise RefusalError(missing("html", "text"))
    elif html is not None or text is not None:
        raise RefusalError(validation("A `template` excludes `html` and `text`."))


def _check_template(template: object) -> None:
    if not isinstance(template, dict):
        raise RefusalError(invalid_type("template"))
    if not isinstance(template.get("id"), str) or not template["id"]:
        raise RefusalError(missing("template.id"))
    variables = template.get("variables")
    if variables is None:
        return
    if not isinstance(variables, dict):
        raise RefusalError(invalid_type("template.variables"))
    for name, value in variables.items():
        if not _variable_name(name):
            raise RefusalError(
                validation(
                    "Names of template variables have 1 to 50 ASCII letters, digits or underscores."
                )
            )
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (isinstance(value, str) and len(value) <= _MAX_VARIABLE):
            raise RefusalError(
                validation(
                    f"The template variable `{name}` must be a number, or a string of at most "
                    f"{_MAX_VARIABLE} characters."
                )
            )


def _check_headers(headers: object) -> None:
    if headers is not None and not isinstance(headers, dict):
        raise RefusalError(invalid_type("headers"))


def _check_topic(topic: object) -> None:
    if topic is not None and not (isinstance(topic, str) and _uuid(topic)):
        raise RefusalError(validation("The `topic_id` must be a valid UUID."))


def _check_schedule(at: object, wall: float) -> None:
    if at is None:
        return
    time = scheduled_time(at, wall) if isinstance(at, str) else None
    if time is None:
        raise RefusalError(
            validation("Invalid `scheduled_at` field: use ISO 8601 or natural language.")
        )
    if time <= wall:
        raise RefusalError(validation("The `scheduled_at` field must be in the future."))


def _check_tags(tags: object) -> tuple[str, str]:
    """Return the values of the tags `organization` and `campaign`, each "" if missing."""
    if not isinstance(tags, list):
        raise RefusalError(invalid_type("tags"))
    if len(tags) > _MAX_TAGS:
        raise RefusalError(validation(f"An email can have at most {_MAX_TAGS} tags."))
    found: dict[str, str] = {}
    for tag in tags:
        if not isinstance(tag, dict):
            raise RefusalError(invalid_type("tags"))
        name, value = tag.get("name"), tag.get("value")
        if not isinstance(name, str) or not isinstance(value, str):
            raise RefusalError(invalid_type("tags"))
        if not (_tag_text(name) and _tag_text(value)):
            raise RefusalError(_BAD_TAG)
        found[name] = value
    return found.get("organization", ""), found.get("campaign", "")


_BAD_TAG: Problem = validation(
    "Tags should only contain ASCII letters, numbers, underscores, or dashes, "
    "and be at most 256 characters."
)
