"""What is remembered for a key, for how long."""

from streamer.sandbox.http import HttpResponse
from streamer.sandbox.idempotency import LASTS_S, IdempotencyStore, KeyState

SCOPE = ("default", "/emails/batch", "key")
ANSWER = HttpResponse(200, b"{}")


def test_a_key_repeats_its_response_until_it_expires() -> None:
    memory = IdempotencyStore()
    assert memory.begin(SCOPE, b"a", 0.0) is KeyState.NEW
    assert memory.begin(SCOPE, b"a", 1.0) is KeyState.RUNNING
    memory.settle(SCOPE, ANSWER)
    assert memory.begin(SCOPE, b"a", LASTS_S - 0.1) == ANSWER
    assert memory.begin(SCOPE, b"b", LASTS_S - 0.1) is KeyState.OTHER_PAYLOAD
    assert memory.begin(SCOPE, b"b", LASTS_S) is KeyState.NEW


def test_a_running_key_does_not_age() -> None:
    memory = IdempotencyStore()
    memory.begin(SCOPE, b"a", 0.0)
    assert memory.begin(SCOPE, b"a", 2 * LASTS_S) is KeyState.RUNNING


def test_a_running_key_does_not_delay_expiry() -> None:
    memory = IdempotencyStore()
    memory.begin(("default", "/emails/batch", "running"), b"a", 0.0)
    memory.begin(SCOPE, b"a", 0.0)
    memory.settle(SCOPE, ANSWER)
    assert memory.begin(SCOPE, b"b", LASTS_S) is KeyState.NEW


def test_an_expired_key_accepts_any_payload() -> None:
    memory = IdempotencyStore()
    memory.begin(SCOPE, b"a", 0.0)
    memory.settle(SCOPE, None)
    assert memory.begin(SCOPE, b"b", 0.0) is KeyState.NEW


def test_keys_are_scoped() -> None:
    memory = IdempotencyStore()
    memory.begin(SCOPE, b"a", 0.0)
    assert memory.begin(("other", "/emails/batch", "key"), b"b", 0.0) is KeyState.NEW
    assert memory.begin(("default", "/emails", "key"), b"b", 0.0) is KeyState.NEW
