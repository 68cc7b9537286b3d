"""A batch's key that somebody else used."""

import orjson
import pytest
import urllib3

from streamer.sandbox import DEFAULT_KEY, Faults
from tests.integration.answers.table import FEW
from tests.kit.harness import Harness, wait_until


def test_a_used_key_ends_as_idempotency_conflict(own_harness: Harness) -> None:
    """Somebody used the batch's key for something else: what became of it is not known."""
    sandbox = own_harness.sandbox
    sandbox.set_faults(Faults(fail_addresses=frozenset({"user0@example.com"})))
    own_harness.produce(own_harness.event(number) for number in range(FEW))
    with own_harness.worker():
        wait_until(sandbox.calls, 30, "a call fails")
        key = sandbox.calls()[0].idempotency_key
        mail = {"from": "a@acme.test", "to": "stranger@example.com", "subject": "s", "text": "t"}
        answer = urllib3.request(
            "POST",
            f"{sandbox.url}/emails/batch",
            body=orjson.dumps([mail]),
            headers={"Authorization": f"Bearer {DEFAULT_KEY}", "Idempotency-Key": key},
        )
        assert answer.status == 200
        own_harness.await_resolutions(FEW, 30)
    assert own_harness.status_counts() == {("indeterminate", "idempotency_conflict"): FEW}
    details = {outcome["detail"] for outcome in own_harness.outcomes()}
    assert details == {"Same idempotency key used with a different request payload."}
    # The judge takes it for what it would be without the stranger, and finds nothing else.
    with pytest.raises(AssertionError) as verdict:
        own_harness.assert_exactly_once()
    assert str(verdict.value).splitlines() == ["4. 1 calls repeated a key with another payload"]
