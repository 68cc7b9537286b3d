"""Holds: trouble that is nobody's fault stops an account, or a sender's domain, for all workers.

An answer of the provider's puts a hold, and the pinned batches that drew it test in turn, from time
to time, whether it is over. An operator's hold ends only by the operator, who may end any.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from streamer.ledger import keys
from streamer.ledger.connection import Client
from streamer.ledger.scripts import Argument, read


class By(StrEnum):
    """Who put a hold."""

    ANSWER = "answer"
    OPERATOR = "operator"


class DrawnBy(BaseModel):
    """The batch that drew the answer which put a hold.

    Attributes:
        status: of that answer; None if there was none, or if the hold was put in a test.
    """

    model_config = ConfigDict(frozen=True)

    organization_id: str
    batch_id: str
    status: int | None = None


class Hold(BaseModel):
    """Why nothing is sent.

    Attributes:
        reason: the name of the error, as in metrics; `operator`; or `outage`.
        detail: the provider's words, or the operator's.
        until: when it ends by itself; None if that is not known.
        drawn_by: None for an operator's, and for one of an earlier version.
    """

    model_config = ConfigDict(frozen=True)

    by: By
    reason: str
    detail: str
    since: datetime
    until: datetime | None = None
    drawn_by: DrawnBy | None = None


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


class ProbeTurn(NamedTuple):
    """The turn to test a hold, with this batch; None where there is none to test it with."""

    batch: BatchRef | None


class PlacedHold(NamedTuple):
    """A hold that was put.

    Attributes:
        domain: of the sender, which is held; None if the account is.
        is_new: whether that was not held before, or for something else.
    """

    domain: str | None
    is_new: bool


class HoldTests(NamedTuple):
    """Who tests a hold.

    Attributes:
        due: when it is tested next; None if it is not.
        batches: with which, in their turn.
    """

    due: datetime | None
    batches: list[BatchRef]


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
        sender: str = "",
    ) -> PlacedHold:
        """Put a hold. One of an answer takes the place of another answer's for another reason.

        Args:
            domain: of the sender; None for the whole account. An answer to a batch of a domain that
                is doubted holds that domain alone.
            probe_s: seconds until it is tested first.
            batch: the pinned batch that drew the answer, to test it with.
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
        """Take the turn to test a hold; None if it is not due, or not to be tested.

        Args:
            probe_s: seconds until the next test.
        """
        args: list[Argument] = [_field(domain), round(probe_s * 1000)]
        reply = self._due(keys=_keys(account, domain), args=args)
        return None if reply is None else ProbeTurn(_batch(cast(bytes, reply)))

    def next_batch(self, account: str, domain: str | None) -> BatchRef | None:
        """The batch whose turn it is to test a hold, within one test; None if there is none."""
        key = keys.hold_batches(account, _field(domain))
        entry = self._client.lmove(key, key, "LEFT", "RIGHT")
        return _batch(cast(bytes | None, entry) or b"")

    def forget(self, account: str, domain: str | None, batch: BatchRef) -> None:
        """Test the hold with this batch no more."""
        key = keys.hold_batches(account, _field(domain))
        for entry in cast(list[bytes], self._client.lrange(key, 0, -1)):
            if _batch(entry) == batch:
                self._client.lrem(key, 0, cast(str, entry))

    def tests(self, account: str, domain: str | None) -> HoldTests:
        """Who tests a hold, and when next."""
        field = _field(domain)
        due = _number(cast(bytes | None, self._client.hget(keys.account_probes(account), field)))
        entries = self._client.lrange(keys.hold_batches(account, field), 0, -1)
        batches = map(_batch, cast(list[bytes], entries))
        return HoldTests(
            None if due is None else datetime.fromtimestamp(due / 1000, UTC),
            [batch for batch in batches if batch is not None],
        )

    def release(self, account: str, domain: str | None, by: By, meant: Hold | None = None) -> bool:
        """End a hold; an operator's hold only if `by` is the operator. False if there is none.

        If an operator ends the hold of an account which answers had put, and these are drawn again
        by batches of the same senders' domains, it is these domains that are held.

        Args:
            meant: the hold; another that took its place stays.
        """
        since = "" if meant is None else str(meant.model_dump(mode="json")["since"])
        return bool(
            self._release(
                keys=[*_keys(account, domain), keys.hold_doubts(account)],
                args=[_field(domain), by.value, since],
            )
        )

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


def _domain(field: bytes) -> str | None:
    return None if field == b"*" else field.decode()


def _entry(batch: BatchRef) -> str:
    return f"{batch.organization}/{batch.batch_id}"


def _batch(entry: bytes) -> BatchRef | None:
    """Read an entry of a hold's batches, behind which its sender's domain stands."""
    organization, _, batch_id = entry.decode().partition(" ")[0].rpartition("/")
    return BatchRef(organization, batch_id) if batch_id else None


def _holds(fields: dict[bytes, bytes]) -> dict[str | None, Hold]:
    return {_domain(name): _hold(text) for name, text in fields.items()}


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
