"""What is remembered for a key, for how long."""

from streamer.sandbox.http import HttpResponse
from streamer.sandbox.idempotency import LASTS_S, IdempotencyStore, KeyState

SCOPE = ("default", "/emails/batch", "key")
ANSWER = HttpResponse(200, b"{}")


def test_a_key_runs_then_gives_its_answer_again_until_it_is_too_old() -> None:
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


def test_a_running_key_in_front_keeps_no_older_answer_alive() -> None:
    memory = IdempotencyStore()
    memory.begin(("default", "/emails/batch", "running"), b"a", 0.0)
    memory.begin(SCOPE, b"a", 0.0)
    memory.settle(SCOPE, ANSWER)
    assert memory.begin(SCOPE, b"b", LASTS_S) is KeyState.NEW


def test_a_forgotten_key_may_carry_anything() -> None:
    memory = IdempotencyStore()
    memory.begin(SCOPE, b"a", 0.0)
    memory.settle(SCOPE, None)
    assert memory.begin(SCOPE, b"b", 0.0) is KeyState.NEW


def test_keys_of_other_scopes_are_other_keys() -> None:
    memory = IdempotencyStore()
    memory.begin(SCOPE, b"a", 0.0)
    assert memory.begin(("other", "/emails/batch", "key"), b"b", 0.0) is KeyState.NEW
    assert memory.begin(("default", "/emails", "key"), b"b", 0.0) is KeyState.NEW
