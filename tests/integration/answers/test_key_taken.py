"""A batch's key that somebody else used."""

import orjson
import pytest
import urllib3

from streamer.sandbox import DEFAULT_KEY, Faults
from tests.integration.answers.table import FEW
from tests.kit.world import World, wait_until


def test_invalid_idempotent_request(own_world: World) -> None:
    """Somebody used the batch's key for something else: what became of it is not known."""
    sandbox = own_world.sandbox
    sandbox.order(Faults(poison=frozenset({"user0@example.com"})))
    own_world.produce(own_world.event(number) for number in range(FEW))
    with own_world.worker():
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
        own_world.await_endings(FEW, 30)
    assert own_world.words() == {("indeterminate", "idempotency_conflict"): FEW}
    details = {outcome["detail"] for outcome in own_world.outcomes()}
    assert details == {"Same idempotency key used with a different request payload."}
    # The judge takes it for what it would be without the stranger, and finds nothing else.
    with pytest.raises(AssertionError) as verdict:
        own_world.judge()
    assert str(verdict.value).splitlines() == ["4. 1 calls repeated a key with another payload"]
