"""What is not Resend's: numbers, orders, and the pages."""

from collections.abc import Iterator, Sequence
from itertools import islice

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from streamer.sandbox import page
from streamer.sandbox.api import Api
from streamer.sandbox.clock import Clock
from streamer.sandbox.errors import METHOD_NOT_ALLOWED, NOT_FOUND, Problem
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.http import JSON, Answer, Request
from streamer.sandbox.tally import Acceptance, Call, Repeat, Stats, Tally

JSON_LINES = "application/x-ndjson"
_LINES_A_CHUNK = 1000


class FaultOrder(BaseModel):
    """Body of `POST /_sandbox/faults`."""

    model_config = ConfigDict(extra="forbid")

    faults: Faults
    account: str | None = None


class PlayOrder(BaseModel):
    """Body of `POST /_sandbox/play`."""

    model_config = ConfigDict(extra="forbid")

    plays: list[Play]
    account: str | None = None


class LimitOrder(BaseModel):
    """Body of `POST /_sandbox/limit`."""

    model_config = ConfigDict(extra="forbid")

    limit: int | None = Field(ge=1)
    account: str | None = None


class AdvanceOrder(BaseModel):
    """Body of `POST /_sandbox/advance`."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(ge=0)


class UnknownAccountError(ValueError):
    """An order for an account that the sandbox was not started with."""


class Control:
    """Orders and questions, the same in process and over HTTP."""

    def __init__(self, api: Api, tally: Tally, clock: Clock, keeps: bool) -> None:
        self._api = api
        self._tally = tally
        self._clock = clock
        self._keeps = keeps

    def order(self, faults: Faults, account: str | None = None) -> None:
        """Change the fields given in `faults`, for one account or for all."""
        self._check(account)
        self._api.order(faults, account)

    def play(self, plays: Sequence[Play], account: str | None = None) -> None:
        """Play answers to the letter, to the calls of one account or of all."""
        self._check(account)
        for play in plays:
            self._api.script.add(play, account)

    def set_limit(self, limit: int | None, account: str | None = None) -> None:
        """Change requests a second of one account or of all, from the next call on."""
        self._check(account)
        for each in self._api.accounts.all():
            if account is None or each.name == account:
                each.limit = limit

    def _check(self, account: str | None) -> None:
        if account is not None and self._api.accounts.named(account) is None:
            raise UnknownAccountError(f"there is no account {account!r}")

    def stats(self) -> Stats:
        """Numbers since the last reset."""
        accounts = {}
        for account in self._api.accounts.all():
            daily, monthly = account.used(self._clock.wall())
            accounts[account.name] = self._tally.account(account.name).model_copy(
                update={"limit": account.limit, "daily_used": daily, "monthly_used": monthly}
            )
        return self._tally.stats(accounts)

    def reset(self) -> None:
        """Forget mails, counts, idempotency keys and quotas. Faults and limits stay."""
        self._tally.reset()
        self._api.memory.clear()
        for account in self._api.accounts.all():
            account.reset()

    def answer(self, request: Request) -> Answer | None:
        """Answer a call over HTTP; None: the path is not ours."""
        if request.path in _READS or request.path.startswith("/mails/"):
            return self._read(request) if request.method == "GET" else METHOD_NOT_ALLOWED.answer()
        if request.path.startswith("/_sandbox/"):
            if request.method != "POST":
                return METHOD_NOT_ALLOWED.answer()
            return self._write(request)
        return None

    def _read(self, request: Request) -> Answer:
        match request.path:
            case "/stats":
                return Answer(200, orjson.dumps(self.stats().model_dump()))
            case "/_sandbox/acceptances":
                if not self._keeps:
                    return Problem(409, "not_kept", "Acceptances are not kept.").answer()
                return _lines(self._tally.acceptances)
            case "/_sandbox/calls":
                return _lines(self._tally.calls)
            case "/_sandbox/repeats":
                return _lines(list(self._tally.repeats()))
            case "/":
                return page.listing(self._tally.latest, self.stats())
            case path:
                kept = self._tally.kept(path.removeprefix("/mails/"))
                return page.gone() if kept is None else page.preview(kept)

    def _write(self, request: Request) -> Answer:
        try:
            match request.path:
                case "/_sandbox/faults":
                    order = FaultOrder.model_validate_json(bytes(request.body))
                    self.order(order.faults, order.account)
                case "/_sandbox/play":
                    played = PlayOrder.model_validate_json(bytes(request.body))
                    self.play(played.plays, played.account)
                case "/_sandbox/limit":
                    limit = LimitOrder.model_validate_json(bytes(request.body))
                    self.set_limit(limit.limit, limit.account)
                case "/_sandbox/advance":
                    advance = AdvanceOrder.model_validate_json(bytes(request.body))
                    self._clock.advance(advance.seconds)
                case "/_sandbox/calm":
                    self._api.calm()
                case "/_sandbox/expire":
                    self._api.memory.expire()
                case "/_sandbox/reset":
                    self.reset()
                case _:
                    return NOT_FOUND.answer()
        except (ValidationError, UnknownAccountError) as error:
            return Problem(422, "invalid_order", str(error)).answer()
        return Answer(200, b"{}", JSON)


_READS = frozenset({"/", "/stats", "/_sandbox/acceptances", "/_sandbox/calls", "/_sandbox/repeats"})


def _lines(rows: Sequence[Acceptance | Call | Repeat]) -> Answer:
    # As many as there are now: a list that grows while it is read would have no end.
    return Answer(200, _chunks(islice(rows, len(rows))), JSON_LINES)


def _chunks(rows: Iterator[Acceptance | Call | Repeat]) -> Iterator[bytes]:
    while some := list(islice(rows, _LINES_A_CHUNK)):
        yield b"".join(
            orjson.dumps(row._asdict(), option=orjson.OPT_APPEND_NEWLINE) for row in some
        )
