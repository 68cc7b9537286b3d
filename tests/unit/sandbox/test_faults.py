"""Orders change only what they name, and the dice can be thrown again."""

import pytest
from pydantic import ValidationError

from streamer.sandbox import Faults
from streamer.sandbox.faults import FaultBook, Rng, names


def test_a_change_keeps_other_fields() -> None:
    book = FaultBook(Faults(latency_ms=60))
    book.set_faults(Faults(outage="drop"), None)
    book.set_faults(Faults(latency_ms=0), None)
    assert book.of("any") == Faults(outage="drop")


def test_an_accounts_faults_precede_the_common_ones() -> None:
    book = FaultBook(Faults())
    book.set_faults(Faults(hang_s=1), "a")
    book.set_faults(Faults(hang_s=2, jitter_ms=3), None)
    assert (book.of("a").hang_s, book.of("a").jitter_ms) == (1, 3)
    assert book.of("b").hang_s == book.of(None).hang_s == 2


def test_a_reset_restores_the_initial_faults() -> None:
    book = FaultBook(Faults(latency_ms=60))
    book.set_faults(Faults(latency_ms=1, quota="daily"), None)
    book.set_faults(Faults(hang_s=1), "a")
    book.reset()
    assert book.of("a") == book.of(None) == Faults(latency_ms=60)


def test_an_unknown_fault_is_refused() -> None:
    with pytest.raises(ValidationError):
        Faults.model_validate({"latency": 1})


def test_a_seed_makes_chance_reproducible() -> None:
    one, two = Rng(7), Rng(7)
    falls = [one.chance(30) for _ in range(1000)]
    assert falls == [two.chance(30) for _ in range(1000)]
    assert 200 < sum(falls) < 400
    assert not any(one.chance(0) for _ in range(100))
    assert all(one.chance(100) for _ in range(100))


def test_a_list_names_addresses_and_domains() -> None:
    listed = frozenset({"ann@example.com", "@bad.test"})
    assert names(listed, "ann@example.com")
    assert names(listed, "bob@bad.test")
    assert not names(listed, "bob@example.com")
    assert not names(listed, "bob@very.bad.test")
