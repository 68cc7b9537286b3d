"""Makes one API call for a pinned batch: rate-limited, as its owner, before its deadline."""

import time
from collections.abc import Callable
from typing import Protocol

from streamer import metrics
from streamer.model.payload import Payload
from streamer.provider.accounts import Accounts, NoKeyError
from streamer.provider.client import ApiResponse
from streamer.provider.responses import ACCEPTED, result_label
from streamer.worker.account_states import AccountStateCache
from streamer.worker.pinned import Ownership, PinnedBatch
from streamer.worker.slots import Slots
from streamer.worker.waiter import Waiter


class BatchApi(Protocol):
    """Resend's API, as far as batches need it; `provider.client.ResendClient` says how."""

    def send_batch(
        self, key: str, idempotency_key: str, body: bytes, may_send: Callable[[], bool]
    ) -> ApiResponse: ...


class Caller:
    """Makes API calls, each in a send slot that the caller has taken."""

    def __init__(
        self,
        accounts: Accounts,
        client: BatchApi,
        slots: Slots,
        account_states: AccountStateCache,
        ownership: Ownership,
        waiter: Waiter,
    ) -> None:
        self._accounts = accounts
        self._client = client
        self._slots = slots
        self._account_states = account_states
        self._ownership = ownership
        self._waiter = waiter
        self._clock = waiter.clock
        for account in accounts.names():  # exported from the start: see `metrics`
            metrics.API_REQUESTS.labels(account, ACCEPTED)

    def call(self, batch: PinnedBatch, key: str, payload: Payload, deadline: float) -> ApiResponse:
        """Make one call; if it cannot leave in time, nothing is sent and the response is
        `withheld`.

        Args:
            key: idempotency key of the payload: the batch's own, or that of a part.
            deadline: on `WorkerClock.boottime`; last checked when the connection is
                established, right before anything is written.

        Raises:
            TakenOverError: another owner has the batch now.
        """
        account = batch.account
        try:
            api_key = self._accounts.key(account)
        except NoKeyError as error:
            return ApiResponse(401, "missing_api_key", str(error), {}, {})
        asked_at = self._clock.monotonic()
        permit = self._slots.acquire_permit(account)
        if permit is not None:
            self._waiter.sleep(permit.wait_s)
        leave_by = min(deadline, self._ownership.extend(batch))
        started = time.perf_counter()
        response = self._client.send_batch(
            api_key, key, payload.body, may_send=lambda: self._clock.boottime() < leave_by
        )
        if response.withheld:
            return response
        metrics.SEND.observe(time.perf_counter() - started)
        if permit is not None and response.sent_at is not None:
            late_s = response.sent_at - asked_at - permit.wait_s
            self._slots.adjust_permit(account, permit, late_s)
        self._learn(account, response, len(payload))
        return response

    def _learn(self, account: str, response: ApiResponse, mails: int) -> None:
        """Record what a response says about the account, whatever it means for the batch."""
        metrics.BATCH_EMAILS.observe(mails)
        result = result_label(response)
        metrics.API_REQUESTS.labels(account, result).inc()
        if result != ACCEPTED:
            self._slots.note(account, result, response.message)
        limit = response.headers.get("ratelimit-limit", "")
        if limit.isdecimal() and int(limit) > 0:
            self._account_states.learn_limit(account, int(limit))
