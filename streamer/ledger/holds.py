"""Holds: trouble that is nobody's fault stops an account, or a sender's domain, for all workers.

An answer of the provider's puts a hold, and the pinned batch that drew it tests from time to time
whether it is over. An operator's hold ends only by the operator.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.scripts import Argument, read

OUTAGE = "outage"
"""The reason of a hold for an account whose every call fails, where other accounts do not."""


class By(StrEnum):
    """Who put a hold."""

    ANSWER = "answer"
    OPERATOR = "operator"


class Hold(BaseModel):
    """Why nothing is sent.

    Attributes:
        reason: the name of the error, as in metrics; `operator`; or `outage`.
        detail: the provider's words, or the operator's.
        until: when it ends by itself; None if that is not known.
    """

    model_config = ConfigDict(frozen=True)

    by: By
    reason: str
    detail: str
    since: datetime
    until: datetime | None = None


class Release(StrEnum):
    """What came of asking for the end of a hold."""

    RELEASED = "released"
    DUE = "due"
    """A worker tests at once whether it is over."""
    NONE = "none"


class AccountState(NamedTuple):
    """What the ledger says of an account.

    Attributes:
        holds: by the sender's domain; None stands for the whole account.
        limit: calls a second that the provider's answers named last.
        failures: calls in a row that failed.
    """

    holds: dict[str | None, Hold]
    limit: int | None
    failures: int


class BatchRef(NamedTuple):
    """A pinned batch."""

    organization: str
    batch_id: str


class Turn(NamedTuple):
    """The turn to test a hold, with this batch; None where there is none to test it with."""

    batch: BatchRef | None


class Holds:
    """The holds of all accounts."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._put = client.register_script(read("put_hold"))
        self._due = client.register_script(read("due_hold"))
        self._release = client.register_script(read("release_hold"))

    def put(
        self,
        account: str,
        domain: str | None,
        hold: Hold,
        probe_s: float = 0,
        batch: BatchRef | None = None,
    ) -> bool:
        """Put a hold; returns whether there was none.

        Args:
            domain: of the sender; None for the whole account.
            probe_s: seconds until it is tested first.
            batch: the pinned batch that drew the answer, to test it with.
        """
        args: list[Argument] = [
            _field(domain),
            hold.model_dump_json(),
            hold.by.value,
            round(probe_s * 1000),
            "" if batch is None else f"{batch.organization}/{batch.batch_id}",
        ]
        return bool(self._put(keys=_keys(account, domain), args=args))

    def due(self, account: str, domain: str | None, probe_s: float) -> Turn | None:
        """Take the turn to test a hold; None if it is not due, or not to be tested.

        Args:
            probe_s: seconds until the next test.
        """
        args: list[Argument] = [_field(domain), round(probe_s * 1000)]
        reply = self._due(keys=_keys(account, domain), args=args)
        if reply is None:
            return None
        organization, _, batch_id = cast(bytes, reply).decode().rpartition("/")
        return Turn(BatchRef(organization, batch_id) if batch_id else None)

    def forget(self, account: str, domain: str | None, batch: BatchRef) -> None:
        """Test the hold with this batch no more."""
        key = keys.hold_batches(account, _field(domain))
        self._client.lrem(key, 0, f"{batch.organization}/{batch.batch_id}")

    def release(self, account: str, domain: str | None, by: By) -> Release:
        """End a hold; an operator's hold only if `by` is the operator."""
        reply = self._release(keys=_keys(account, domain), args=[_field(domain), by.value])
        return Release.NONE if reply is None else Release(cast(bytes, reply).decode())

    def read(self, accounts: Iterable[str]) -> dict[str, AccountState]:
        """The state of accounts, in one round trip."""
        names = list(accounts)
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.hgetall(keys.account_holds(name))
            pipeline.hmget(keys.account_health(name), ("limit", "failures"))
        replies = pipeline.execute()
        return {
            name: AccountState(_holds(holds), _number(limit), _number(failures) or 0)
            for name, holds, (limit, failures) in zip(
                names, replies[::2], replies[1::2], strict=True
            )
        }


def _field(domain: str | None) -> str:
    return domain or "*"


def _keys(account: str, domain: str | None) -> list[str]:
    return [
        keys.account_holds(account),
        keys.account_probes(account),
        keys.hold_batches(account, _field(domain)),
    ]


def _holds(fields: dict[bytes, bytes]) -> dict[str | None, Hold]:
    return {None if name == b"*" else name.decode(): _hold(text) for name, text in fields.items()}


def _hold(text: bytes) -> Hold:
    try:
        return Hold.model_validate_json(text)
    except ValidationError:
        # Of a newer version, or a mistake: held all the same.
        return Hold(
            by=By.OPERATOR, reason="unreadable", detail=text.decode(errors="replace"),
            since=datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
        )  # fmt: skip


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
