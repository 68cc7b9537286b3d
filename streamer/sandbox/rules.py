"""Resend's validation rules for one mail."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

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
_address = re.compile(rf"{_ADDRESS}|[^<>\r\n]*<({_ADDRESS})>\s*").fullmatch
_tag_text = re.compile(r"[A-Za-z0-9_-]{1,256}").fullmatch
_variable_name = re.compile(r"[A-Za-z0-9_]{1,50}").fullmatch
_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_in_a_while = re.compile(r"in (\d{1,6}|an?) ?(min(?:ute)?|hour|day)s?", re.IGNORECASE).fullmatch
_UNITS_S = {"m": 60, "h": 3600, "d": 86_400}

Mail = dict[str, object]


@dataclass(slots=True)
class ParsedEmail:
    """A valid mail."""

    addresses: Sequence[str]
    """The addresses in `to`, bare and in lower case."""
    recipients: int
    """The number of addresses in `to`, `cc` and `bcc`, as counted by the quotas."""
    tags: Mapping[str, str]
    mail: Mail

    @property
    def campaign(self) -> tuple[str, str]:
        """(organization, campaign) from the tags, each "" if missing."""
        return self.tags.get("organization", ""), self.tags.get("campaign", "")


class Rules:
    """Validates mails. Tags that equal those of the mail before are not checked again, but for the
    last one, which is usually the only one of the mail's own.

    Args:
        wall: the current time, for `scheduled_at`.
    """

    def __init__(self, faults: Faults, wall: float) -> None:
        self._refused = faults.refused
        self._refused_domains = _EXAMPLE_DOMAINS if faults.refuse_example_domain else None
        self._wall = wall
        self._shared_tags: list[object] = []
        self._shared: dict[str, str] = {}

    def parse(self, item: object) -> ParsedEmail:
        """Validate a mail.

        Raises:
            RefusalError: the mail is invalid.
        """
        if not isinstance(item, dict):
            raise RefusalError(validation("Each email must be an object."))
        template = item.get("template")
        _check_sender(item.get("from"), may_lack=template is not None)
        to = item.get("to")
        if not to:
            raise RefusalError(missing("to"))
        addresses = self._recipients("to", to)
        if len(addresses) > _MAX_TO:
            raise RefusalError(validation(f"The `to` field can have at most {_MAX_TO} addresses."))
        recipients = len(addresses)
        for field in ("cc", "bcc"):
            if field in item:
                recipients += len(self._recipients(field, item[field]))
        if "reply_to" in item:
            addresses_of("reply_to", item["reply_to"])
        _check_subject(item.get("subject"), may_lack=template is not None)
        _check_content(item)
        if template is not None:
            _check_template(template)
        headers = item.get("headers")
        if headers is not None and not isinstance(headers, dict):
            raise RefusalError(invalid_type("headers"))
        if "topic_id" in item:
            _check_topic(item["topic_id"])
        if "scheduled_at" in item:
            _check_schedule(item["scheduled_at"], self._wall)
        tags = self._tags(item.get("tags"))
        if self._refused and any(names(self._refused, address) for address in addresses):
            raise RefusalError(
                validation("Invalid `to` field. The address is refused by this sandbox.")
            )
        return ParsedEmail(addresses, recipients, tags, item)

    def _recipients(self, field: str, value: object) -> list[str]:
        addresses = addresses_of(field, value)
        if self._refused_domains and any(names(self._refused_domains, a) for a in addresses):
            raise RefusalError(EXAMPLE_DOMAIN)
        return addresses

    def _tags(self, tags: object) -> dict[str, str]:
        if tags is None:
            return {}
        if not isinstance(tags, list):
            raise RefusalError(invalid_type("tags"))
        if not tags:
            return {}
        if len(tags) > _MAX_TAGS:
            raise RefusalError(validation(f"An email can have at most {_MAX_TAGS} tags."))
        shared = tags[:-1]
        if shared != self._shared_tags:
            self._shared = dict(map(_tag, shared))
            self._shared_tags = shared
        name, value = _tag(tags[-1])
        return {**self._shared, name: value}


def addresses_of(field: str, value: object) -> list[str]:
    """Return the bare addresses of a field, in lower case.

    Raises:
        RefusalError: an address is invalid.
    """
    if value is None:
        return []
    addresses = []
    for text in value if isinstance(value, list) else (value,):
        if not (isinstance(text, str) and (found := _address(text))):
            raise RefusalError(invalid_address(field))
        addresses.append((found[1] or text).lower())
    return addresses


@lru_cache(maxsize=1024)
def sender_of(text: str) -> str | None:
    """Return the bare address of a `from`, in lower case; None if invalid."""
    found = _address(text)
    return (found[1] or text).lower() if found else None


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


def _tag(tag: object) -> tuple[str, str]:
    """Return the name and value of a tag."""
    if not isinstance(tag, dict):
        raise RefusalError(invalid_type("tags"))
    name, value = tag.get("name"), tag.get("value")
    if not isinstance(name, str) or not isinstance(value, str):
        raise RefusalError(invalid_type("tags"))
    if not (_tag_text(name) and _tag_text(value)):
        raise RefusalError(_BAD_TAG)
    return name, value


_BAD_TAG: Problem = validation(
    "Tags should only contain ASCII letters, numbers, underscores, or dashes, "
    "and be at most 256 characters."
)
