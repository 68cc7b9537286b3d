"""The sandbox's own endpoints: statistics, commands and web pages."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from itertools import islice
from typing import Annotated
from urllib.parse import urlsplit

import orjson
from pydantic import Field, TypeAdapter

from streamer.sandbox import page
from streamer.sandbox.accounts import AccountRegistry, SandboxAccount
from streamer.sandbox.api import Api
from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config, Limit
from streamer.sandbox.errors import FOREIGN_PAGE, METHOD_NOT_ALLOWED, NOT_FOUND, Problem
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.http import HttpResponse, Request
from streamer.sandbox.recorder import Acceptance, Call, Recorder, Stats
from streamer.sandbox.suppressions import Origin

JSON_TYPE, JSON_LINES = "application/json", "application/x-ndjson"
_LINES_A_CHUNK = 1000


class Control:
    """Handles commands and queries over HTTP; all other calls go to the API.

    The path of a command is its method's name; the JSON body holds the arguments.
    """

    def __init__(self, config: Config, clock: Clock) -> None:
        self._clock = clock
        self._keeps = config.keep_acceptances
        self._recorder = Recorder(config, self._clock)
        self._api = Api(config, AccountRegistry(config.accounts), self._recorder, self._clock)
        self._orders: dict[str, TypeAdapter[None]] = {
            name: TypeAdapter(getattr(self, name))
            for name in (
                *("faults", "play", "limit", "suppress", "advance", "webhook"),
                *("reset_faults", "reset"),
            )
        }

    def faults(self, faults: Faults, account: str | None = None) -> None:
        """Change the fields set in `faults`, for one account or for all."""
        self._check(account)
        self._api.faults.set_faults(faults, account)

    def play(self, plays: list[Play], account: str | None = None) -> None:
        """Add verbatim responses to the calls of one account or of all."""
        self._check(account)
        for play in plays:
            self._api.script.add(play, account)

    def limit(self, limit: Limit, account: str | None = None) -> None:
        """Change the requests per second of one account or of all, from the next call on."""
        for each in self._named(account):
            each.limit = limit

    def suppress(
        self, emails: list[str], origin: Origin = "manual", account: str | None = None
    ) -> None:
        """Add addresses to the suppression list of one account or of all."""
        for each in self._named(account):
            for email in emails:
                each.suppressions.add(email.lower(), self._clock.wall(), origin)

    def advance(self, seconds: Annotated[float, Field(ge=0)]) -> None:
        """Advance the server's wall clock."""
        self._clock.advance(seconds)

    def webhook(self, url: str | None) -> None:
        """Send webhooks of what is accepted from now on to a URL, or to none."""
        self._api.webhooks.url = url

    def reset_faults(self) -> None:
        """Restore the initial faults and remove scripted responses."""
        self._api.faults.reset()
        self._api.script.clear()

    def reset(self) -> None:
        """Clear mails, counts, idempotency keys, quotas, suppressions; keep faults and limits."""
        self._recorder.reset()
        self._api.emails.memory.clear()
        for account in self._api.accounts.all():
            account.reset()

    def _named(self, account: str | None) -> list[SandboxAccount]:
        self._check(account)
        return [each for each in self._api.accounts.all() if account in (None, each.name)]

    def _check(self, account: str | None) -> None:
        if account is not None and self._api.accounts.named(account) is None:
            raise ValueError(f"unknown account {account!r}")

    def stats(self) -> Stats:
        """Return the statistics since the last reset."""
        accounts = {}
        for account in self._api.accounts.all():
            daily, monthly = account.used(self._clock.wall())
            accounts[account.name] = self._recorder.account(account.name).model_copy(
                update={"limit": account.limit, "daily_used": daily, "monthly_used": monthly}
            )
        return self._recorder.stats(accounts, self._api.webhooks.pending)

    async def handle(self, request: Request) -> HttpResponse:
        """Respond to a call."""
        if not _is_trusted(request):
            return FOREIGN_PAGE.answer()
        if request.path in _READS or request.path.startswith("/mails/"):
            return self._read(request) if request.method == "GET" else METHOD_NOT_ALLOWED.answer()
        if request.path.startswith("/_sandbox/"):
            return self._write(request) if request.method == "POST" else METHOD_NOT_ALLOWED.answer()
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return page.nowhere()  # a person with a wrong URL, who is told nothing by JSON
        return await self._api.handle(request)

    def _read(self, request: Request) -> HttpResponse:
        match request.path:
            case "/stats":
                return HttpResponse(200, orjson.dumps(self.stats().model_dump()))
            case "/_sandbox/acceptances":
                if not self._keeps:
                    return Problem(409, "not_kept", "Acceptances are not kept.").answer()
                return _lines(self._recorder.acceptances)
            case "/_sandbox/calls":
                return _lines(self._recorder.calls)
            case "/":
                return page.search(self._recorder.latest, page.Search.parse(request.query))
            case "/list":
                wanted = page.Search.parse(request.query)
                twice = self._recorder.twice()
                return page.listing(self._recorder.latest, twice, self.stats(), wanted)
            case path:
                kept = self._recorder.kept(path.removeprefix("/mails/"))
                return page.gone() if kept is None else page.preview(kept)

    def _write(self, request: Request) -> HttpResponse:
        order = self._orders.get(request.path.removeprefix("/_sandbox/"))
        if order is None:
            return NOT_FOUND.answer()
        # A page of another site can send any other type without asking first.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
            return Problem(415, "unsupported_media_type", f"Expected {JSON_TYPE}.").answer()
        try:
            order.validate_json(request.body or b"{}")
        except ValueError as error:  # includes pydantic.ValidationError
            return Problem(422, "invalid_order", str(error)).answer()
        return HttpResponse(200, b"{}")


_READS = frozenset({"/", "/list", "/stats", "/_sandbox/acceptances", "/_sandbox/calls"})


def _is_trusted(request: Request) -> bool:
    """Whether a call comes from a program, or from this server's own pages.

    Browsers on this machine reach the sandbox for any page that they show. Such a call names the
    page's origin, or, where the page's own host name was made to point here, that name.
    """
    host = request.headers.get("host", "")
    return _is_local(host) and request.headers.get("origin") in (None, f"http://{host}")


@lru_cache(maxsize=64)
def _is_local(host: str) -> bool:
    """Whether nobody else can own the name in a Host header."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if "." not in name or name.endswith((".test", ".localhost")):
            return True
        ip_address(name)
    except ValueError:  # malformed, or not an address
        return False
    return True


def _lines(rows: Sequence[Acceptance | Call]) -> HttpResponse:
    # Limit to the current length: the list can grow while it is read.
    return HttpResponse(200, content_type=JSON_LINES, chunks=_chunks(islice(rows, len(rows))))


def _chunks(rows: Iterator[Acceptance | Call]) -> Iterator[bytes]:
    while some := list(islice(rows, _LINES_A_CHUNK)):
        yield b"".join(
            orjson.dumps(row._asdict(), option=orjson.OPT_APPEND_NEWLINE) for row in some
        )
