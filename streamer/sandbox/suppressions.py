"""`/suppressions`: the addresses to which an account no longer delivers mail."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import dropwhile, islice
from typing import Literal, NamedTuple, get_args
from urllib.parse import parse_qs, unquote
from uuid import uuid4

import orjson

from streamer.sandbox import errors
from streamer.sandbox.errors import RefusalError
from streamer.sandbox.http import HttpResponse, Request
from streamer.sandbox.rules import addresses_of

PATH = "/suppressions"
_MAX_AT_ONCE = 100
_PAGE = 20

Origin = Literal["bounce", "complaint", "manual"]


class Suppression(NamedTuple):
    """A suppressed address."""

    id: str
    email: str
    origin: Origin
    source_id: str | None
    """The id of the mail that bounced or caused the complaint."""
    wall: float


class SuppressionList:
    """The suppressions of one account, in insertion order."""

    def __init__(self) -> None:
        self._by_email: dict[str, Suppression] = {}

    def add(
        self, email: str, wall: float, origin: Origin = "manual", source_id: str | None = None
    ) -> Suppression:
        """Suppress a lower-case address. An existing suppression is returned unchanged."""
        new = Suppression(str(uuid4()), email, origin, source_id, wall)
        return self._by_email.setdefault(email, new)

    def find(self, id_or_email: str) -> Suppression | None:
        """Return the suppression with this id or address, if there is one."""
        if "@" in id_or_email:
            return self._by_email.get(id_or_email.strip().lower())
        return next((each for each in self if each.id == id_or_email), None)

    def remove(self, id_or_email: str) -> Suppression | None:
        """Remove a suppression and return it, if there is one."""
        found = self.find(id_or_email)
        return found and self._by_email.pop(found.email)

    def __iter__(self) -> Iterator[Suppression]:
        """Iterate over the suppressions, latest first."""
        return reversed(self._by_email.values())


def answer(request: Request, suppressions: SuppressionList, wall: float) -> HttpResponse:
    """Handle a call to `/suppressions` or a path below it.

    Raises:
        RefusalError: the request is invalid, or the endpoint or suppression does not exist.
    """
    below = [unquote(part) for part in request.path.removeprefix(PATH).split("/")[1:]]
    match request.method, below:
        case "GET", []:
            return _list(suppressions, request.query)
        case "POST", []:
            (email,) = _addresses([_body(request).get("email")])
            return _answer(_shown(suppressions.add(email, wall)), 201)
        case "POST", ["batch", "add"]:
            emails = dict.fromkeys(_addresses(_some(_body(request), "emails")))
            added = [_shown(suppressions.add(email, wall)) for email in emails]
            return _answer({"data": added}, 201)
        case "POST", ["batch", "remove"]:
            return _answer({"data": _removed(suppressions, _body(request))})
        case "GET", [id_or_email]:
            found = suppressions.find(id_or_email)
            return _answer({"object": "suppression"} | _row(_known(found)))
        case "DELETE", [id_or_email]:
            gone = _known(suppressions.remove(id_or_email))
            return _answer(_shown(gone) | {"deleted": True})
        case _, [] | [_] | ["batch", "add" | "remove"]:
            raise RefusalError(errors.METHOD_NOT_ALLOWED)
    raise RefusalError(errors.NOT_FOUND)


def _list(suppressions: SuppressionList, query: str) -> HttpResponse:
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    origin, limit, after = asked.get("origin"), asked.get("limit", str(_PAGE)), asked.get("after")
    if origin is not None and origin not in get_args(Origin):
        raise RefusalError(errors.validation("Invalid `origin` parameter."))
    if not (limit.isdecimal() and 1 <= int(limit) <= _MAX_AT_ONCE):
        raise RefusalError(errors.validation("The `limit` must be between 1 and 100."))
    rows = iter(suppressions)
    if after is not None:
        rows = dropwhile(lambda each: each.id != after, rows)
        if next(rows, None) is None:
            raise RefusalError(errors.validation("The `after` parameter names no suppression."))
    wanted = (each for each in rows if origin in (None, each.origin))
    page = list(islice(wanted, int(limit)))
    return _answer(
        {
            "object": "list",
            "has_more": next(wanted, None) is not None,
            "data": [_row(each) for each in page],
        }
    )


def _removed(suppressions: SuppressionList, body: dict[str, object]) -> list[dict[str, object]]:
    """Remove suppressions and return those that existed."""
    if ("emails" in body) == ("ids" in body):
        raise RefusalError(errors.validation("Provide either `emails` or `ids`, but not both."))
    wanted = _some(body, "emails" if "emails" in body else "ids")
    gone = [suppressions.remove(each) for each in wanted if isinstance(each, str)]
    return [_shown(each) | {"deleted": True} for each in gone if each is not None]


def _body(request: Request) -> dict[str, object]:
    body: object = errors.parse_json(request.body)
    if not isinstance(body, dict):
        raise RefusalError(errors.validation("The request body must be an object."))
    return body


def _some(body: dict[str, object], field: str) -> list[object]:
    values = body.get(field)
    if not isinstance(values, list) or not 1 <= len(values) <= _MAX_AT_ONCE:
        raise RefusalError(errors.validation(f"`{field}` must hold between 1 and 100 items."))
    return values


def _addresses(values: list[object]) -> list[str]:
    blank_off = [each.strip() if isinstance(each, str) else each for each in values]
    return addresses_of("email", blank_off)


def _known(found: Suppression | None) -> Suppression:
    if found is None:
        raise RefusalError(errors.not_found("Suppression"))
    return found


def _shown(suppression: Suppression) -> dict[str, object]:
    return {"object": "suppression", "id": suppression.id}


def _row(suppression: Suppression) -> dict[str, object]:
    return {
        "id": suppression.id,
        "email": suppression.email,
        "origin": suppression.origin,
        "source_id": suppression.source_id,
        "created_at": timestamp(suppression.wall),
    }


def timestamp(wall: float) -> str:
    """Format a time as Resend does."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S.%f}+00"


def _answer(body: dict[str, object], status: int = 200) -> HttpResponse:
    return HttpResponse(status, orjson.dumps(body))
