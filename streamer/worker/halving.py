"""A batch that is refused as a whole is sent in halves, down to the mail that spoils the others.

Mails that all use the template which is missing are refused together, in one call.

The halves' keys follow from the batch's and their bytes from the pinned ones. What is known of
the parts is kept with the batch: whoever adopts it must know that it is in halves. Sent as a
whole, should the refusal be over, the first half would go out twice.
"""

from collections.abc import Callable

import orjson

from streamer.model.disposition import Conflicting, Refused, Taken
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.record import Parked
from streamer.model.result import ItemResult
from streamer.worker.pinned import PinnedBatch

Settled = Taken | Refused | Conflicting | ItemResult
"""What came of all that a key stands for; an item's result is that of each of its mails."""

SendKey = Callable[[str, Payload], Settled | Parked]
"""Sends a payload under an idempotency key until its fate is known, or it has to wait."""


class Halving:
    """Sends one batch, as a whole or in halves.

    Args:
        keep_learned: called when more is known of the batch's parts, before anything else is
            sent.
    """

    def __init__(
        self, batch: PinnedBatch, send_key: SendKey, keep_learned: Callable[[PinnedBatch], None]
    ) -> None:
        self._batch = batch
        self._send_key = send_key
        self._keep_learned = keep_learned

    def send(self) -> list[ItemResult] | Parked:
        """What came of each of the batch's mails, or what the batch has to wait for."""
        return self._send("", self._batch.payload)

    def _send(self, suffix: str, payload: Payload) -> list[ItemResult] | Parked:
        """Send what an idempotency key stands for, the batch's own with this suffix."""
        learned = self._batch.learned
        if suffix in learned.parts:
            return learned.parts[suffix]
        if suffix not in learned.refused:
            settled = self._send_key(self._batch.ref.batch_id + suffix, payload)
            if isinstance(settled, Parked):
                return settled
            if not isinstance(settled, Refused) or _befalls_all(settled, payload):
                items = _items(settled, len(payload))
                if suffix:
                    learned.parts[suffix] = items
                    self._keep_learned(self._batch)
                return items
            learned.refused.add(suffix)
            self._keep_learned(self._batch)
        items = []
        for number, half in enumerate(payload.halves()):
            part = self._send(f"{suffix}.{number}", half)
            if isinstance(part, Parked):
                return part
            items += part
        return items


def _befalls_all(refused: Refused, payload: Payload) -> bool:
    """Whether each mail would be refused alone as well."""
    if len(payload) == 1:
        return True
    if not refused.of_template:
        return False
    templates = [orjson.loads(mail).get("template") for mail in payload.mails()]
    ids = {None if each is None else each["id"] for each in templates}
    return len(ids) == 1 and None not in ids


def _items(settled: Settled, count: int) -> list[ItemResult]:
    """What came of each mail of a key."""
    match settled:
        case Taken():
            return settled.items
        case Refused():
            return [ItemResult.of(Reason.REJECTED, settled.detail)] * count
        case Conflicting():
            return [ItemResult.of(Reason.IDEMPOTENCY_CONFLICT, settled.detail)] * count
        case ItemResult():
            return [settled] * count
