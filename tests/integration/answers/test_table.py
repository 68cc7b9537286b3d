"""Each answer of Resend's: what becomes of the recipients while it lasts, and in the end."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta

import pytest

from streamer.flow.failure_stats import OUTAGE
from streamer.sandbox import DEFAULT_KEY, AccountSpec, SandboxProcess
from streamer.stack import RedisServer, Stack
from tests.integration.answers.run import ResponseRun, make_key
from tests.integration.answers.table import (
    CASES,
    MAX_CALLS_TO_FIND_ONE_OF_A_HUNDRED,
    Effect,
    ResponseCase,
)
from tests.kit.harness import Harness


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResponseRun]:
    """The run that all rows are read from."""
    folder = tmp_path_factory.mktemp("answers")
    specs = [
        AccountSpec(name=case.account, keys=(make_key(case),), limit=case.limit) for case in CASES
    ]
    specs.append(AccountSpec(name="default", keys=(DEFAULT_KEY,)))
    redis = RedisServer(folder / "redis")
    with contextlib.ExitStack() as ends:
        redis.start()
        ends.callback(redis.stop)
        sandbox = ends.enter_context(SandboxProcess(accounts=specs))
        harness = Harness(stack.bootstrap_servers, redis.url, sandbox, folder)
        ends.callback(harness.close)
        one = ResponseRun(harness, folder)
        one.carry_out()
        yield one


def test_every_answer_keeps_the_promises(run: ResponseRun) -> None:
    run.harness.assert_exactly_once()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_effects_while_the_answer_lasts(run: ResponseRun, case: ResponseCase) -> None:
    seen, share = run.lasting, run.share(case)
    for name, count in share.served.items():
        assert (seen.words[name].total(), seen.parked[name]) == (count, 0)
    is_held = case.effect is Effect.HELD
    holds = {domain: hold.reason for domain, hold in seen.holds[case.account].items()}
    is_out = case.effect is Effect.WAITS and holds == {None: OUTAGE}
    for name, count in share.waiter.items():
        assert seen.words[name].total() == 0
        # In an outage, or set aside, it may wait there too.
        assert seen.parked[name] in ((count,) if is_held else (0, count))
    field = case.domain if case.others_go_on else None
    assert is_out or holds == ({field: case.reason} if is_held else {})
    # A machine that is very slow may add these to any row.
    slow = {"no_answer", "concurrent_idempotent_requests"}
    assert case.results <= seen.results[case.account] <= case.results | slow


def test_only_a_daily_quota_hold_has_a_known_end(run: ResponseRun) -> None:
    holds = {name: held.values() for name, held in run.lasting.holds.items()}
    until = {name: hold.until for name, each in holds.items() for hold in each if hold.until}
    assert set(until) == {"daily-quota-exceeded"}
    end = until["daily-quota-exceeded"]
    assert (end.hour, end.minute, end.second, end.utcoffset()) == (0, 0, 0, timedelta(0))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_outcomes_after_the_answer_ends(run: ResponseRun, case: ResponseCase) -> None:
    assert run.over.words[run.own(case)] == case.words
    for other in run.others(case):
        assert run.over.words[other] == case.words_of_another
    assert not run.over.parked[run.own(case)]
    failed = ("failed", "rejected")
    refused = case.words.get(failed, 0) + case.others * case.words_of_another.get(failed, 0)
    accepted = run.over.stats.accounts[case.account].accepted
    assert accepted == case.count + case.others - refused
    for outcome in run.outcomes[run.own(case)]:
        assert outcome["detail"] == (None if outcome["status"] == "sent" else case.detail)


@pytest.mark.parametrize(
    "case",
    [row for row in CASES if row.effect is Effect.WAITS and not row.surely_refused],
    ids=str,
)
def test_possibly_accepted_batches_are_retried_under_the_same_key(
    run: ResponseRun, case: ResponseCase
) -> None:
    asked: defaultdict[str, int] = defaultdict(int)
    for call in run.calls(case):
        asked[call.idempotency_key] += 1
    batches = {outcome["batch_id"] for outcome in run.outcomes[run.own(case)]}
    assert len(batches) == 1
    for batch in batches:
        assert asked[str(batch)] > 1
    assert len(asked) == 1 + case.others


@pytest.mark.parametrize("name", ["broken body", "wrong count of ids"])
def test_an_unreadable_response_is_requested_three_times(run: ResponseRun, name: str) -> None:
    (case,) = [row for row in CASES if row.name == name]
    asked = Counter(call.idempotency_key for call in run.calls(case) if call.status == 200)
    assert [*asked.values()] == [3, 3]
    assert all(outcome["email_id"] is None for outcome in run.outcomes[run.own(case)])


@pytest.mark.parametrize("case", [row for row in CASES if row.limit], ids=str)
def test_a_429_does_not_count_as_an_attempt(run: ResponseRun, case: ResponseCase) -> None:
    refused = run.over.stats.accounts[case.account].answers["429:rate_limit_exceeded"]
    assert refused > 0
    names = [run.own(case), *run.others(case)]
    assert {o["attempts"] for name in names for o in run.outcomes[name]} == {1}


@pytest.mark.parametrize("status", [400, 422])
def test_one_rejected_mail_of_a_hundred_is_found_in_few_calls(
    run: ResponseRun, status: int
) -> None:
    (case,) = [
        row for row in CASES if row.faults.reject_addresses and row.faults.reject_status == status
    ]
    (batch,) = {str(outcome["batch_id"]) for outcome in run.outcomes[run.own(case)]}
    keys = [call.idempotency_key for call in run.calls(case)]
    keys = [key for key in keys if key.partition(".")[0] == batch]
    assert len(keys) == len(set(keys)) <= MAX_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    rejected = [o for o in run.outcomes[run.own(case)] if o["status"] == "failed"]
    assert [outcome["email"] for outcome in rejected] == ["user37@example.com"]
