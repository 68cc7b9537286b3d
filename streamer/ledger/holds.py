"""Holds: stop sending for an account, or a sender's domain within it, on all workers.

A provider response puts a hold when the problem is not in the mails. The pinned batches that drew
such responses then test in turn, at intervals, whether the hold is over. Operators can put holds
too, and release any; only an operator can release an operator's hold.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from streamer.ledger import keys
from streamer.ledger.confirming import Argument, ConfirmedScript
from streamer.ledger.connection import Client
from streamer.ledger.scripts import read


class By(StrEnum):
    """The originator of a hold: a provider response, an event that says the same, or an operator.

    What an event tells of does not show in the responses, so its hold is not tested before its
    end.
    """

    ANSWER = "answer"
    EVENT = "event"
    OPERATOR = "operator"


class DrawnBy(BaseModel):
    """The batch that drew the response which put a hold.

    Attributes:
        status: the HTTP status of the response; None if there was no response, or if the hold was
            put in a test.
    """

    model_config = ConfigDict(frozen=True)

    organization_id: str
    batch_id: str
    status: int | None = None


class Hold(BaseModel):
    """A hold, and why it was put.

    Attributes:
        reason: the name of the error, as in metrics; or `operator` or `outage`.
        detail: the provider's message, or the operator's.
        until: when the problem ends by itself; None if unknown.
        drawn_by: None for an operator's hold, or one put by an earlier version.
    """

    model_config = ConfigDict(frozen=True)

    by: By
    reason: str
    detail: str
    since: datetime
    until: datetime | None = None
    drawn_by: DrawnBy | None = None


class AccountState(NamedTuple):
    """The state of an account in the ledger.

    Attributes:
        holds: by sender's domain; the key None is the whole account.
        limit: the rate limit in calls per second that the provider advertised last.
        failures: consecutive failed calls.
    """

    holds: dict[str | None, Hold]
    limit: int | None
    failures: int


class BatchRef(NamedTuple):
    """A pinned batch."""

    organization: str
    batch_id: str


class ProbeTurn(NamedTuple):
    """The turn to test a hold with `batch`; None if there is no batch to test it with."""

    batch: BatchRef | None


class PlacedHold(NamedTuple):
    """A hold that was put.

    Attributes:
        domain: the sender's domain that is held; None if the whole account is.
        is_new: whether it was not held before, or for a different reason.
    """

    domain: str | None
    is_new: bool


class HoldTests(NamedTuple):
    """The tests of a hold.

    Attributes:
        due: the time of the next test; None if there is none.
        batches: the batches to test with, in order of their turns.
    """

    due: datetime | None
    batches: list[BatchRef]


class Holds:
    """The holds of all accounts. To put and release them is confirmed when it returns."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._put = ConfirmedScript(client, read("put_hold"))
        self._due = client.register_script(read("due_hold"))
        self._release = ConfirmedScript(client, read("release_hold"))

    def put(
        self,
        account: str,
        domain: str | None,
        hold: Hold,
        probe_s: float = 0,
        batch: BatchRef | None = None,
        sender: str = "",
    ) -> PlacedHold:
        """Put a hold.

        A hold put by a response replaces one put by a response with a different reason.

        Args:
            domain: the sender's domain; None for the whole account. A response to a batch of a
                doubted domain (see `release`) holds only that domain.
            probe_s: seconds until the first test.
            batch: the pinned batch that drew the response, to test the hold with.
            sender: the domain of that batch's sender.
        """
        args: list[Argument] = [
            _field(domain),
            hold.model_dump_json(),
            hold.by.value,
            hold.reason,
            round(probe_s * 1000),
            sender,
            "" if batch is None else _entry(batch),
        ]
        of_sender = keys.hold_batches(account, _field(sender))
        key_names = [*_keys(account, domain), of_sender, keys.hold_doubts(account)]
        is_new, field = cast(tuple[int, bytes], self._put(keys=key_names, args=args))
        return PlacedHold(_domain(field), bool(is_new))

    def due(self, account: str, domain: str | None, probe_s: float) -> ProbeTurn | None:
        """Take the turn to test a hold; None if no test is due, or the hold is not tested.

        Args:
            probe_s: seconds until the next test.
        """
        args: list[Argument] = [_field(domain), round(probe_s * 1000)]
        reply = self._due(keys=_keys(account, domain), args=args)
        return None if reply is None else ProbeTurn(_batch(cast(bytes, reply)))

    def next_batch(self, account: str, domain: str | None) -> BatchRef | None:
        """Return the next batch to use within the same test of a hold; None if there is none."""
        key = keys.hold_batches(account, _field(domain))
        entry = self._client.lmove(key, key, "LEFT", "RIGHT")
        return _batch(cast(bytes | None, entry) or b"")

    def forget(self, account: str, domain: str | None, batch: BatchRef) -> None:
        """Stop using a batch to test the hold."""
        key = keys.hold_batches(account, _field(domain))
        for entry in cast(list[bytes], self._client.lrange(key, 0, -1)):
            if _batch(entry) == batch:
                self._client.lrem(key, 0, cast(str, entry))

    def tests(self, account: str, domain: str | None) -> HoldTests:
        """Return when a hold is tested next, and with which batches."""
        field = _field(domain)
        due = _number(cast(bytes | None, self._client.hget(keys.account_probes(account), field)))
        entries = self._client.lrange(keys.hold_batches(account, field), 0, -1)
        batches = map(_batch, cast(list[bytes], entries))
        return HoldTests(
            None if due is None else datetime.fromtimestamp(due / 1000, UTC),
            [batch for batch in batches if batch is not None],
        )

    def release(self, account: str, domain: str | None, by: By, meant: Hold | None = None) -> bool:
        """Release a hold; an operator's hold only if `by` is the operator.

        When an operator releases an account's hold put by responses, the sender domains of the
        batches that drew them become doubted: if their batches draw such responses again, only
        these domains are held.

        Args:
            meant: the hold to release; a hold that has replaced it is kept.

        Returns:
            False if nothing was released.
        """
        since = "" if meant is None else str(meant.model_dump(mode="json")["since"])
        return bool(
            self._release(
                keys=[*_keys(account, domain), keys.hold_doubts(account)],
                args=[_field(domain), by.value, since],
            )
        )

    def read(self, accounts: Iterable[str]) -> dict[str, AccountState]:
        """Return the state of accounts, in one round trip."""
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


def _domain(field: bytes) -> str | None:
    return None if field == b"*" else field.decode()


def _entry(batch: BatchRef) -> str:
    return f"{batch.organization}/{batch.batch_id}"


def _batch(entry: bytes) -> BatchRef | None:
    """Parse an entry of a hold's batches, which ends with the sender's domain."""
    organization, _, batch_id = entry.decode().partition(" ")[0].rpartition("/")
    return BatchRef(organization, batch_id) if batch_id else None


def _holds(fields: dict[bytes, bytes]) -> dict[str | None, Hold]:
    return {_domain(name): _hold(text) for name, text in fields.items()}


def _hold(text: bytes) -> Hold:
    try:
        return Hold.model_validate_json(text)
    except ValidationError:
        # Written by a newer version, or corrupt: it still counts as a hold.
        return Hold(
            by=By.OPERATOR, reason="unreadable", detail=text.decode(errors="replace"),
            since=datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
        )  # fmt: skip


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
