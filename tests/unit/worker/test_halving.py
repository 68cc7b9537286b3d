"""A refused batch is sent in halves, down to the mails that are refused."""

from copy import deepcopy
from math import ceil, log2

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.flow.policy import Blame, UnexplainedRefusal
from streamer.ledger.holds import BatchRef
from streamer.model.disposition import Accepted, Conflicting, Rejected
from streamer.model.parking import Scope
from streamer.model.payload import Payload
from streamer.model.reasons import Reason
from streamer.model.record import Parked
from streamer.model.result import ItemResult, SplitProgress
from streamer.worker.halving import Halving, KeyResult
from streamer.worker.pinned import PinnedBatch

BATCH_ID = "b" * 24
REJECTED, REFUSED = Rejected("Invalid."), UnexplainedRefusal("Not with this one.")
HELD = Parked(Scope.of_hold("default", None))
ASIDE = Parked(Scope.of_batch("acme", BATCH_ID), 1)
sizes = st.integers(1, 40)


class _DiedError(Exception):
    """The worker dies."""


class KeyApi:
    """Settles each key by the mails sent under it.

    Attributes:
        guilty: the mails that refuse whatever they are in.
        reason: as what it is settled then.
        is_known: whether the refusal is an explained one.
        results: scripted results, by suffix; each is used up.
        called: the suffixes of the keys that were sent, with their blame.
        accepted: by mail, the suffixes under which it was accepted.
        dies_at: the number of the call at which the worker dies, before or after it has an effect.
    """

    def __init__(self, guilty: set[int], *, is_known: bool = True) -> None:
        self.guilty = guilty
        self.is_known = is_known
        self.results: dict[str, KeyResult] = {}
        self.called: list[tuple[str, Blame]] = []
        self.accepted: dict[int, set[str]] = {}
        self.saved = SplitProgress()
        self.dies_at = -1
        self.dies_after = False

    def send(self, key: str, payload: Payload, blame: Blame) -> KeyResult:
        suffix = key.removeprefix(BATCH_ID)
        dies = len(self.called) == self.dies_at
        self.called.append((suffix, blame))
        if dies and not self.dies_after:
            raise _DiedError
        result = self.results.pop(suffix, None) or self._settle(suffix, payload, blame)
        if dies:
            raise _DiedError
        return result

    def save(self, batch: PinnedBatch) -> None:
        self.saved = deepcopy(batch.split_progress)

    @property
    def suffixes(self) -> list[str]:
        return [suffix for suffix, _ in self.called]

    def _settle(self, suffix: str, payload: Payload, blame: Blame) -> KeyResult:
        numbers = [_number(mail) for mail in payload.mails()]
        if not self.guilty.intersection(numbers):
            for number in numbers:
                self.accepted.setdefault(number, set()).add(suffix)
            return KeyResult(Accepted([ItemResult.sent(f"id-{n}") for n in numbers]), False)
        if self.is_known:
            return KeyResult(REJECTED, True)
        return KeyResult(ASIDE if blame is Blame.NEVER else REFUSED, True)


def _mail(number: int) -> bytes:
    return orjson.dumps({"to": [f"user{number}@b.test"]})


def _number(mail: bytes) -> int:
    return int(orjson.loads(mail)["to"][0].removeprefix("user").partition("@")[0])


def make_batch(
    size: int, owner: str = "", progress: SplitProgress | None = None, template: bool = False
) -> PinnedBatch:
    mails = [_mail(number) for number in range(size)]
    if template:
        mails = [
            orjson.dumps(orjson.loads(mail) | {"template": {"id": f"t{number // 2}"}})
            for number, mail in enumerate(mails)
        ]
    return PinnedBatch(
        BatchRef("acme", BATCH_ID),
        "default",
        "acme.test",
        Payload(mails),
        owner,
        0.0,
        split_progress=progress or SplitProgress(),
    )


def send(api: KeyApi, batch: PinnedBatch) -> list[ItemResult] | Parked:
    return Halving(batch, api.send, api.save).send()


def outcomes(items: list[ItemResult] | Parked) -> list[str]:
    assert not isinstance(items, Parked)
    return [item.outcome for item in items]


# A batch that is not refused


@pytest.mark.parametrize(
    ("settled", "items"),
    [
        (Accepted([ItemResult.sent("x"), ItemResult.sent("y")]), "sent"),
        (Conflicting("Same key."), Reason.IDEMPOTENCY_CONFLICT),
        (ItemResult.of(Reason.WINDOW_CLOSED), Reason.WINDOW_CLOSED),
    ],
)
def test_a_batch_with_a_result_is_sent_whole(
    settled: Accepted | Conflicting | ItemResult, items: str
) -> None:
    api = KeyApi(set())
    api.results = {"": KeyResult(settled, False)}
    assert outcomes(send(api, make_batch(2))) == [items, items]
    assert api.suffixes == [""]
    assert api.saved == SplitProgress()


def test_a_batch_that_must_wait_is_not_split() -> None:
    api = KeyApi(set())
    api.results = {"": KeyResult(HELD, True)}
    assert send(api, make_batch(2)) is HELD
    assert api.suffixes == [""]


# Refused for a reason


@given(sizes, st.data())
def test_exactly_the_rejected_mails_are_found(size: int, data: st.DataObject) -> None:
    guilty = data.draw(st.sets(st.integers(0, size - 1)))
    api = KeyApi(guilty)
    found = outcomes(send(api, make_batch(size)))
    assert found == ["rejected" if n in guilty else "sent" for n in range(size)]
    assert all(len(keys) == 1 for keys in api.accepted.values())
    assert len(api.called) <= 1 + 2 * len(guilty) * ceil(log2(size) if size > 1 else 0)
    assert len(set(api.suffixes)) == len(api.suffixes)


def test_one_mail_of_a_hundred_is_found_in_15_calls() -> None:
    for guilty in range(0, 100, 9):
        api = KeyApi({guilty})
        send(api, make_batch(100))
        assert len(api.called) <= 15


@given(
    st.integers(2, 20),
    st.data(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_whoever_adopts_a_split_batch_sends_nobody_twice(
    size: int, data: st.DataObject, dies_after: bool, is_over: bool, is_known: bool
) -> None:
    """Wherever its owner died, and whether or not the mails are refused still."""
    guilty = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=3))
    api = KeyApi(guilty, is_known=is_known)
    api.dies_at, api.dies_after = data.draw(st.integers(0, 30)), dies_after
    try:
        found = send(api, make_batch(size))
    except _DiedError:
        api.dies_at = -1
        if is_over:
            api.guilty = set()
        found = send(api, make_batch(size, "adopter", deepcopy(api.saved)))
    # The same key repeats its answer; under another one the mail would go out twice.
    assert all(len(keys) == 1 for keys in api.accepted.values())
    if isinstance(found, Parked):
        assert not is_known
        return
    for number, item in enumerate(found):
        assert item.outcome == ("sent" if number in api.accepted else "rejected")
        assert item.outcome == "sent" or number in guilty


def test_what_is_learned_is_saved_before_anything_else_is_sent() -> None:
    api = KeyApi({0})
    batch, seen = make_batch(4), list[SplitProgress]()

    def send_key(key: str, payload: Payload, blame: Blame) -> KeyResult:
        seen.append(deepcopy(api.saved))
        return api.send(key, payload, blame)

    Halving(batch, send_key, api.save).send()
    assert api.suffixes == ["", ".0", ".0.0", ".0.1", ".1"]
    assert [progress.rejected for progress in seen] == [
        set(),
        {""},
        {"", ".0"},
        {"", ".0"},
        {"", ".0"},
    ]
    assert [set(progress.parts) for progress in seen][2:] == [set(), {".0.0"}, {".0.0", ".0.1"}]
    # From before its first call on, a part may have been accepted.
    assert [progress.unsure for progress in seen] == [
        set(),
        {".0"},
        {".0.0"},
        {".0.1"},
        {".0.1", ".1"},
    ]


def test_a_part_with_a_result_is_not_sent_again() -> None:
    progress = SplitProgress({""}, {".0": [ItemResult.sent("x"), ItemResult.sent("y")]}, 2)
    api = KeyApi(set())
    found = send(api, make_batch(4, "adopter", progress))
    assert found == [ItemResult.sent(each) for each in ("x", "y", "id-2", "id-3")]
    assert api.suffixes == [".1"]


def test_mails_of_one_missing_template_are_rejected_together() -> None:
    missing = KeyResult(Rejected("Template not found", of_template=True), True)
    api = KeyApi(set())
    api.results = {"": missing}
    assert outcomes(send(api, make_batch(2, template=True))) == ["rejected"] * 2
    assert api.suffixes == [""]
    # Of two templates, each half has one.
    api = KeyApi(set())
    api.results = {"": missing, ".1": missing}
    found = outcomes(send(api, make_batch(4, template=True)))
    assert found == ["sent", "sent", "rejected", "rejected"]
    assert api.suffixes == ["", ".0", ".1"]


def test_mails_without_a_template_are_split_whatever_is_said_of_templates() -> None:
    missing = KeyResult(Rejected("Template not found", of_template=True), True)
    api = KeyApi(set())
    api.results = {"": missing}
    assert outcomes(send(api, make_batch(2))) == ["sent", "sent"]
    assert api.suffixes == ["", ".0", ".1"]


def test_a_part_that_must_wait_ends_the_sending() -> None:
    api = KeyApi({0})
    api.results = {".0": KeyResult(HELD, True)}
    assert send(api, make_batch(4)) is HELD
    assert api.suffixes == ["", ".0"]
    assert api.saved.unsure == set()  # nothing of it was accepted
    api.results = {".0": KeyResult(HELD, False)}
    assert send(api, make_batch(4)) is HELD
    assert api.saved.unsure == {".0"}


# Refused for an unknown reason


@given(st.integers(2, 40), st.data())
def test_nobody_is_blamed_who_is_not_the_cause(size: int, data: st.DataObject) -> None:
    guilty = data.draw(st.sets(st.integers(0, size - 1)))
    api = KeyApi(guilty, is_known=False)
    found = send(api, make_batch(size))
    if isinstance(found, Parked):
        assert len(guilty) > 1
        assert (api.accepted, api.saved.parts) == ({}, {})
        return
    assert outcomes(found) == ["rejected" if n in guilty else "sent" for n in range(size)]
    assert api.accepted or not guilty


@pytest.mark.parametrize("guilty", range(4))
def test_one_mail_is_found_and_blamed_after_others_were_accepted(guilty: int) -> None:
    api = KeyApi({guilty}, is_known=False)
    found = send(api, make_batch(4))
    assert not isinstance(found, Parked)
    assert outcomes(found) == ["rejected" if n == guilty else "sent" for n in range(4)]
    assert found[guilty].text == "Not with this one."
    # A single mail is blamed only when other mails of its batch were accepted.
    ((_, last),) = [each for each in api.called if each[0] == f".{guilty // 2}.{guilty % 2}"][-1:]
    assert last is Blame.WHEN_SURE


def test_of_a_batch_of_which_every_mail_is_refused_nobody_is_blamed() -> None:
    api = KeyApi(set(range(100)), is_known=False)
    assert send(api, make_batch(100)) is ASIDE
    assert len(set(api.suffixes)) <= 15  # it is halved once on each level
    assert api.called[-1][1] is Blame.NEVER
    # It comes back, and all but one are accepted now.
    api.guilty = {37}
    found = outcomes(send(api, make_batch(100, "adopter", deepcopy(api.saved))))
    assert found == ["rejected" if n == 37 else "sent" for n in range(100)]


def test_a_batch_of_one_mail_is_never_blamed() -> None:
    api = KeyApi({0}, is_known=False)
    assert send(api, make_batch(1)) is ASIDE
    assert api.called == [("", Blame.NEVER)]


def test_whoever_adopts_a_batch_does_not_blame_it() -> None:
    """How its earlier calls ended is not known."""
    api = KeyApi({0}, is_known=False)
    assert send(api, make_batch(4, "adopter")) is ASIDE
    assert api.called == [("", Blame.NEVER)]


def test_a_part_that_may_have_been_accepted_is_not_split_further() -> None:
    progress = SplitProgress({""}, {}, 1, {".0"})
    api = KeyApi({0}, is_known=False)
    assert send(api, make_batch(4, "adopter", progress)) is ASIDE
    assert api.called == [(".0", Blame.NEVER)]


def test_a_part_is_blamed_again_once_its_refusal_was_certain() -> None:
    api = KeyApi({0}, is_known=False)
    batch = make_batch(4)
    api.results = {".0": KeyResult(ASIDE, False)}
    assert send(api, batch) is ASIDE
    assert api.called[-1] == (".0", Blame.AT_ONCE)
    assert api.saved.unsure == {".0"}
    assert send(api, make_batch(4, "adopter", deepcopy(api.saved))) is ASIDE
    assert api.called[-1] == (".0", Blame.NEVER)
