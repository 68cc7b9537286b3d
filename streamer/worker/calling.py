"""One call for a pinned batch: in its turn, by its owner, and in time."""

import time

from streamer import metrics
from streamer.model.payload import Payload
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.answers import ACCEPTED, result_label
from streamer.provider.client import Answer, ResendClient
from streamer.worker.holding import Holding
from streamer.worker.pinned import Ownership, PinnedBatch
from streamer.worker.slots import Slots
from streamer.worker.waiting import Waiting, deadline_clock


class Caller:
    """Makes calls, each in a send slot that was taken for it."""

    def __init__(
        self,
        accounts: Accounts,
        client: ResendClient,
        slots: Slots,
        holding: Holding,
        ownership: Ownership,
        waiting: Waiting,
    ) -> None:
        self._accounts = accounts
        self._client = client
        self._slots = slots
        self._holding = holding
        self._ownership = ownership
        self._waiting = waiting

    def call(self, batch: PinnedBatch, key: str, payload: Payload, deadline: float) -> Answer:
        """Make one call; it is kept back if it could not leave in time.

        Args:
            key: the idempotency key of what is sent: the batch's, or one of its parts.
            deadline: on the clock of `deadline_clock`; it is looked at last when the connection
                stands, right before anything is written.

        Raises:
            TakenOverError: the batch is another's now.
        """
        account = batch.account
        try:
            api_key = self._accounts.key(account)
        except NoKeyError as error:
            return Answer(401, "missing_api_key", str(error), {}, {})
        asked_at = time.monotonic()
        departure = self._slots.depart(account)
        if departure is not None:
            self._waiting.sleep(departure.wait_s)
        leave_by = min(deadline, self._ownership.extend(batch))
        started = time.perf_counter()
        answer = self._client.send_batch(
            api_key, key, payload.body, may_leave=lambda: deadline_clock() < leave_by
        )
        if answer.kept_back:
            return answer
        metrics.SEND.observe(time.perf_counter() - started)
        if departure is not None and answer.left_at is not None:
            late_s = answer.left_at - asked_at - departure.wait_s
            self._slots.departed(account, departure, late_s)
        self._learn(account, answer, len(payload))
        return answer

    def _learn(self, account: str, answer: Answer, mails: int) -> None:
        """Take from an answer what concerns the account, whatever it means for the batch."""
        metrics.BATCH_EMAILS.observe(mails)
        result = result_label(answer)
        metrics.API_REQUESTS.labels(account, result).inc()
        if result != ACCEPTED:
            self._slots.note(account, result, answer.message)
        limit = answer.headers.get("ratelimit-limit", "")
        if limit.isdecimal() and int(limit) > 0:
            self._holding.learn_limit(account, int(limit))
