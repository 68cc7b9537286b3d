"""The body of `POST /emails/batch`: what is valid in it, and what is wrong with the rest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import orjson

from streamer.sandbox.errors import INVALID_TO, Problem, missing, validation
from streamer.sandbox.faults import Faults, names

MAX_ITEMS = 100
_MAX_TO = 50
_MAX_TAGS = 75
_ADDRESS = r"[^\s@<>(),;:\"\\\[\]]+@(?:[^\s@<>(),;:\"\\\[\].]+\.)+[^\s@<>(),;:\"\\\[\].]{2,}"
_bare = re.compile(_ADDRESS).fullmatch
_named = re.compile(rf"[^<>\r\n]*<({_ADDRESS})>\s*").fullmatch
_tag_text = re.compile(r"[A-Za-z0-9_-]{1,256}").fullmatch
_BAD_TAG = validation(
    "Tags should only contain ASCII letters, numbers, underscores, or dashes, "
    "and be at most 256 characters."
)

Mail = dict[str, object]


class Parcel(NamedTuple):
    """One mail that is fit to be accepted."""

    organization: str
    campaign: str
    addresses: Sequence[str]
    """Bare and in lower case, of `to`."""
    recipients: int
    """Of `to`, `cc` and `bcc`: what the quotas count."""
    mail: Mail


@dataclass(slots=True, frozen=True)
class ItemError:
    """One mail that is not, in permissive mode."""

    index: int
    message: str


@dataclass(slots=True)
class Batch:
    """A body that was read: what may be accepted, what may not, or why nothing may."""

    items: int
    parcels: list[Parcel] = field(default_factory=list)
    errors: list[ItemError] = field(default_factory=list)
    refusal: Problem | None = None


def read(body: bytes, *, permissive: bool, faults: Faults) -> Batch:
    """Judge a body."""
    try:
        items: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Batch(0, refusal=validation("The request body is not valid JSON.", 400))
    if not isinstance(items, list):
        return Batch(0, refusal=validation("The request body must be an array of emails."))
    if not items:
        return Batch(0, refusal=validation("The batch must have at least one email."))
    if len(items) > MAX_ITEMS:
        words = f"The batch must have at most {MAX_ITEMS} emails."
        return Batch(len(items), refusal=validation(words))
    batch = Batch(len(items))
    judge = _Judge(faults)
    for index, item in enumerate(items):
        found = judge.parcel(item)
        if isinstance(found, Parcel):
            batch.parcels.append(found)
        elif permissive:
            batch.errors.append(ItemError(index, found.message))
        else:
            # All or nothing, and the error names no index.
            batch.refusal = found
            return batch
    return batch


class _Judge:
    """Judges mail after mail. Neighbours mostly carry equal tags: those are checked once."""

    def __init__(self, faults: Faults) -> None:
        self._refused = faults.refused
        self._last_tags: object = None
        self._last_identity = ("", "")

    def parcel(self, item: object) -> Parcel | Problem:
        if not isinstance(item, dict):
            return validation("Each email must be an object.")
        sender = item.get("from")
        if not sender:
            return missing("from")
        if not isinstance(sender, str) or sender_of(sender) is None:
            return invalid("from")
        to = item.get("to")
        if not to:
            return missing("to")
        addresses: list[str] = []
        for text in to if isinstance(to, list) else (to,):
            address = _address_of(text)
            if address is None:
                return invalid("to")
            addresses.append(address)
        if len(addresses) > _MAX_TO:
            return validation(f"The `to` field can have at most {_MAX_TO} addresses.")
        subject = item.get("subject")
        if not isinstance(subject, str):
            return missing("subject") if subject is None else invalid_type("subject")
        tags = item.get("tags")
        if tags is None:
            identity = ("", "")
        elif tags == self._last_tags:
            identity = self._last_identity
        else:
            judged = _identity_of(tags)
            if isinstance(judged, Problem):
                return judged
            self._last_tags, self._last_identity = tags, judged
            identity = judged
        recipients = len(addresses)
        for name in item:
            if name not in _PLAIN:
                problem = _further(name, item[name])
                if problem is not None:
                    return problem
                recipients += _recipients(name, item[name])
        if self._refused and any(names(self._refused, address) for address in addresses):
            return validation("Invalid `to` field. The address is refused by this sandbox.")
        return Parcel(identity[0], identity[1], addresses, recipients, item)


_PLAIN = frozenset({"from", "to", "subject", "tags", "attachments"})
"""Fields judged above, and one that a batch drops without a word."""
_TEXTS = frozenset({"html", "text"})
_OBJECTS = frozenset({"headers", "template"})
_ADDRESSES = frozenset({"cc", "bcc", "reply_to"})


def _further(name: str, value: object) -> Problem | None:
    if value is None:
        return None
    if name in _TEXTS:
        return None if isinstance(value, str) else invalid_type(name)
    if name in _OBJECTS:
        return None if isinstance(value, dict) else invalid_type(name)
    if name in _ADDRESSES:
        for text in value if isinstance(value, list) else (value,):
            if _address_of(text) is None:
                return invalid(name)
    return None


def _recipients(name: str, value: object) -> int:
    if name not in ("cc", "bcc") or value is None:
        return 0
    return len(value) if isinstance(value, list) else 1


def _address_of(text: object) -> str | None:
    if not isinstance(text, str):
        return None
    if _bare(text):
        return text.lower()
    named = _named(text)
    return named[1].lower() if named else None


@lru_cache(maxsize=1024)
def sender_of(text: str) -> str | None:
    """The bare address of a `from`, in lower case; None if it is none."""
    return _address_of(text)


def _identity_of(tags: object) -> tuple[str, str] | Problem:
    """(organization, campaign) as the tags tell, each "" if they do not."""
    if not isinstance(tags, list):
        return invalid_type("tags")
    if len(tags) > _MAX_TAGS:
        return validation(f"An email can have at most {_MAX_TAGS} tags.")
    found: dict[str, str] = {}
    for tag in tags:
        if not isinstance(tag, dict):
            return invalid_type("tags")
        name, value = tag.get("name"), tag.get("value")
        if not isinstance(name, str) or not isinstance(value, str):
            return invalid_type("tags")
        if not (_tag_text(name) and _tag_text(value)):
            return _BAD_TAG
        found[name] = value
    return found.get("organization", ""), found.get("campaign", "")


def invalid(field_name: str) -> Problem:
    """A field that must hold addresses and does not."""
    return validation(INVALID_TO.replace("`to`", f"`{field_name}`"))


def invalid_type(field_name: str) -> Problem:
    return validation(f"The `{field_name}` field has the wrong type.")
