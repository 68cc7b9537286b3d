"""A batch that is refused as a whole is sent in halves, down to the mail that spoils the others.

The halves' keys follow from the batch's and their bytes from the pinned ones. What is known of
the parts is kept with the batch: whoever adopts it must know that it is in halves. Sent as a
whole, should the refusal be over, the first half would go out twice.

Mails that all use the template which is missing are refused together, in one call.

Where Resend refuses for a reason that nobody knows, it may be for one of the mails or for none. A
mail is blamed if other parts of its batch were taken, before it was refused alone once more. As
long as none was, one mail and what is left beside it on the way down are in doubt, and are not
halved any further: they are sent again and again, and in the end given up.
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
"""What came of all that a key stands for; an item's result is that of each of its mails."""


class KeyResult(NamedTuple):
    """What came of an idempotency key.

    Attributes:
        settled: of all that it stands for, or what that has to wait for.
        untouched: every call was refused for certain: Resend has nothing of it.
    """

    settled: Settled | Parked
    untouched: bool


SendKey = Callable[[str, Payload, Blame], KeyResult]
"""Sends a payload under an idempotency key until its fate is known, or it has to wait."""


class Halving:
    """Sends one batch, as a whole or in halves.

    Args:
        save_split_progress: called when more is known of the batch's parts, before anything else is
            sent.
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
        """Parts that were refused for an unknown reason, while none of the batch was taken."""

    def send(self) -> list[ItemResult] | Parked:
        """What came of each of the batch's mails, or what the batch has to wait for."""
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
        """Send what an idempotency key stands for, the batch's own with this suffix.

        None if some of it is in doubt.

        Args:
            insists: it is sent until it is taken, has to wait, or is given up.
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
        # Who adopts a batch does not know how the calls for its own key ended.
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
        """Whether a part that was refused for an unknown reason is neither blamed nor halved."""
        return not self._some_taken() and (len(payload) == 1 or bool(self._in_doubt))

    def _some_taken(self) -> bool:
        """Whether a part of the batch was taken."""
        parts = self._learned.parts.values()
        return any(item.outcome == Status.SENT for items in parts for item in items)


def _befalls_halves(settled: Settled, payload: Payload) -> bool:
    """Whether the halves have to be sent to learn what becomes of each mail."""
    if len(payload) == 1 or not isinstance(settled, Rejected | UnexplainedRefusal):
        return False
    return not (isinstance(settled, Rejected) and settled.of_template and _use_one(payload))


def _use_one(payload: Payload) -> bool:
    """Whether all mails use the same template of Resend's."""
    templates = [orjson.loads(mail).get("template") for mail in payload.mails()]
    ids = {None if each is None else each["id"] for each in templates}
    return len(ids) == 1 and None not in ids


def _items(settled: Settled, count: int) -> list[ItemResult]:
    """What came of each mail of a key."""
    match settled:
        case Accepted():
            return settled.items
        case Rejected():
            return [ItemResult.of(Reason.REJECTED, settled.detail)] * count
        case UnexplainedRefusal():
            return [ItemResult.of(Reason.REJECTED, settled.words)] * count
        case Conflicting():
            return [ItemResult.of(Reason.IDEMPOTENCY_CONFLICT, settled.detail)] * count
        case ItemResult():
            return [settled] * count
