"""Splits a batch that was refused as a whole into halves, down to the offending mail.

The idempotency keys of the halves derive from the batch's key, and their bytes from the pinned
ones. Progress is stored with the batch, because an adopter must know that it was split: if it
sent the whole batch after the refusal is over, the first half would go out twice.

Mails that all use the same missing template are rejected together, in one call.

A refusal for an unknown reason may or may not be caused by one of the mails. A mail is blamed
only if other parts of its batch were accepted before it was refused alone once more. Until a part
is accepted, one mail and the remaining halves on the way down to it are in doubt and are not
split further: they are sent again and again, and given up in the end.
"""

from collections.abc import Callable
from typing import NamedTuple

import orjson

from streamer.flow.policy import Blame, UnexplainedRefusal
from streamer.model.disposition import Accepted, Conflicting, Rejected
from streamer.model.payload import Payload
from streamer.model.reasons import Reason, Status
from streamer.model.record import Parked
from streamer.model.result import ItemResult
from streamer.worker.pinned import PinnedBatch

Settled = Accepted | Rejected | UnexplainedRefusal | Conflicting | ItemResult
"""The result of all mails of a key; an ItemResult applies to each of them."""


class KeyResult(NamedTuple):
    """The result of sending an idempotency key.

    Attributes:
        settled: the result of all its mails, or what they wait for.
        untouched: whether every call was definitely refused, so that Resend accepted none of it.
    """

    settled: Settled | Parked
    untouched: bool


SendKey = Callable[[str, Payload, Blame], KeyResult]
"""Sends a payload under an idempotency key until the result is definite, or it must wait."""


class Halving:
    """Sends one batch, whole or in halves.

    Args:
        save_split_progress: called whenever more is known of the batch's parts, before anything
            else is sent.
    """

    def __init__(
        self,
        batch: PinnedBatch,
        send_key: SendKey,
        save_split_progress: Callable[[PinnedBatch], None],
    ) -> None:
        self._batch = batch
        self._learned = batch.split_progress
        self._send_key = send_key
        self._save_split_progress = save_split_progress
        self._in_doubt: list[tuple[str, Payload]] = []
        """Parts refused for an unknown reason while no part of the batch was accepted."""

    def send(self) -> list[ItemResult] | Parked:
        """Send the batch; return the result of each mail, or what the batch waits for."""
        while True:
            self._in_doubt = []
            items = self._send("", self._batch.payload)
            if items is not None:
                return items
            for suffix, payload in self._in_doubt:
                if self._some_taken():
                    break
                insisted = self._send(suffix, payload, insists=True)
                if isinstance(insisted, Parked):
                    return insisted

    def _send(
        self, suffix: str, payload: Payload, *, insists: bool = False
    ) -> list[ItemResult] | Parked | None:
        """Send a payload under the batch's idempotency key with this suffix.

        Args:
            insists: send it until it is accepted, must wait, or is given up.

        Returns:
            None if some of it is in doubt.
        """
        split_progress = self._learned
        if suffix in split_progress.parts:
            return split_progress.parts[suffix]
        if suffix not in split_progress.rejected:
            settled = self._call(suffix, payload, insists)
            if isinstance(settled, Parked):
                return settled
            if isinstance(settled, UnexplainedRefusal) and self._is_in_doubt(payload):
                self._in_doubt.append((suffix, payload))
                return None
            if not _befalls_halves(settled, payload):
                items = _items(settled, len(payload))
                if suffix:
                    split_progress.parts[suffix] = items
                    self._save_split_progress(self._batch)
                return items
            split_progress.rejected.add(suffix)
            self._save_split_progress(self._batch)
        return self._send_halves(suffix, payload)

    def _send_halves(self, suffix: str, payload: Payload) -> list[ItemResult] | Parked | None:
        items: list[ItemResult] = []
        some_in_doubt = False
        for number, half in enumerate(payload.halves()):
            part = self._send(f"{suffix}.{number}", half)
            if isinstance(part, Parked):
                return part
            some_in_doubt |= part is None
            items += part or ()
        return None if some_in_doubt else items

    def _call(self, suffix: str, payload: Payload, insists: bool) -> Settled | Parked:
        unsure = self._learned.unsure
        # An adopter does not know how earlier calls for the batch's own key ended.
        is_sure = suffix not in unsure and bool(suffix or not self._batch.owner)
        blame = Blame.NEVER if insists or not is_sure else self._blame(suffix, payload)
        if suffix and is_sure:
            unsure.add(suffix)
            self._save_split_progress(self._batch)
        settled, untouched = self._send_key(self._batch.ref.batch_id + suffix, payload, blame)
        if suffix and is_sure and untouched:
            unsure.discard(suffix)
            if isinstance(settled, Parked):
                self._save_split_progress(self._batch)
        return settled

    def _blame(self, suffix: str, payload: Payload) -> Blame:
        if not suffix:
            return Blame.WHEN_DUE if len(payload) > 1 else Blame.NEVER
        return Blame.WHEN_SURE if len(payload) == 1 and self._some_taken() else Blame.AT_ONCE

    def _is_in_doubt(self, payload: Payload) -> bool:
        """Whether a part refused for an unknown reason is neither blamed nor split."""
        return not self._some_taken() and (len(payload) == 1 or bool(self._in_doubt))

    def _some_taken(self) -> bool:
        """Whether a part of the batch was accepted."""
        parts = self._learned.parts.values()
        return any(item.outcome == Status.SENT for items in parts for item in items)


def _befalls_halves(settled: Settled, payload: Payload) -> bool:
    """Whether the payload must be split to learn the result of each mail."""
    if len(payload) == 1 or not isinstance(settled, Rejected | UnexplainedRefusal):
        return False
    return not (isinstance(settled, Rejected) and settled.of_template and _use_one(payload))


def _use_one(payload: Payload) -> bool:
    """Whether all mails use the same Resend template."""
    templates = [orjson.loads(mail).get("template") for mail in payload.mails()]
    ids = {None if each is None else each["id"] for each in templates}
    return len(ids) == 1 and None not in ids


def _items(settled: Settled, count: int) -> list[ItemResult]:
    """The result of each mail of a key."""
    match settled:
        case Accepted():
            return settled.items
        case Rejected():
            return [ItemResult.of(Reason.REJECTED, settled.detail)] * count
        case UnexplainedRefusal():
            return [ItemResult.of(Reason.REJECTED, settled.message)] * count
        case Conflicting():
            return [ItemResult.of(Reason.IDEMPOTENCY_CONFLICT, settled.detail)] * count
        case ItemResult():
            return [settled] * count
