"""Each answer of Resend's: what becomes of the recipients while it lasts, and in the end."""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta

import pytest

from streamer.flow.verdicts import OUTAGE
from streamer.sandbox import DEFAULT_KEY, AccountSpec, SandboxProcess
from streamer.stack import Redis, Stack
from tests.integration.answers.run import Run, make_key
from tests.integration.answers.table import MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED, ROWS, Fate, Row
from tests.kit.world import World


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run that all rows are read from."""
    folder = tmp_path_factory.mktemp("answers")
    specs = [AccountSpec(name=row.account, keys=(make_key(row),), limit=row.limit) for row in ROWS]
    specs.append(AccountSpec(name="default", keys=(DEFAULT_KEY,)))
    redis = Redis(folder / "redis")
    with contextlib.ExitStack() as ends:
        redis.start()
        ends.callback(redis.stop)
        sandbox = ends.enter_context(SandboxProcess(accounts=specs))
        world = World(stack.bootstrap_servers, redis.url, sandbox, folder)
        ends.callback(world.close)
        one = Run(world, folder)
        one.carry_out()
        yield one


def test_every_promise_is_kept(run: Run) -> None:
    run.world.judge()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_while_it_lasts(run: Run, row: Row) -> None:
    seen, share = run.lasting, run.share(row)
    for name, count in share.served.items():
        assert (seen.words[name].total(), seen.parked[name]) == (count, 0)
    is_held = row.fate is Fate.HELD
    holds = {domain: hold.reason for domain, hold in seen.holds[row.account].items()}
    is_out = row.fate is Fate.WAITS and holds == {None: OUTAGE}
    for name, count in share.waiting.items():
        assert seen.words[name].total() == 0
        # In an outage, or set aside, it may wait there too.
        assert seen.parked[name] in ((count,) if is_held else (0, count))
    field = row.domain if row.others_go_on else None
    assert is_out or holds == ({field: row.reason} if is_held else {})
    # A machine that is very slow may add these to any row.
    slow = {"no_answer", "concurrent_idempotent_requests"}
    assert row.results <= seen.results[row.account] <= row.results | slow


def test_only_of_the_daily_quota_the_end_is_known(run: Run) -> None:
    holds = {name: held.values() for name, held in run.lasting.holds.items()}
    until = {name: hold.until for name, each in holds.items() for hold in each if hold.until}
    assert set(until) == {"daily-quota-exceeded"}
    end = until["daily-quota-exceeded"]
    assert (end.hour, end.minute, end.second, end.utcoffset()) == (0, 0, 0, timedelta(0))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_in_the_end(run: Run, row: Row) -> None:
    assert run.over.words[run.own(row)] == row.words
    for other in run.others(row):
        assert run.over.words[other] == row.words_of_another
    assert not run.over.parked[run.own(row)]
    failed = ("failed", "rejected")
    refused = row.words.get(failed, 0) + row.others * row.words_of_another.get(failed, 0)
    accepted = run.over.stats.accounts[row.account].accepted
    assert accepted == row.count + row.others - refused
    for outcome in run.outcomes[run.own(row)]:
        assert outcome["detail"] == (None if outcome["status"] == "sent" else row.detail)


@pytest.mark.parametrize("row", [row for row in ROWS if row.fate is Fate.WAITS], ids=str)
def test_what_may_have_been_taken_is_asked_again_under_the_same_key(run: Run, row: Row) -> None:
    asked: defaultdict[str, int] = defaultdict(int)
    for call in run.calls(row):
        asked[call.idempotency_key] += 1
    batches = {outcome["batch_id"] for outcome in run.outcomes[run.own(row)]}
    assert len(batches) == 1
    for batch in batches:
        assert asked[str(batch)] > 1
    assert len(asked) == 1 + row.others


@pytest.mark.parametrize("name", ["broken body", "wrong count of ids"])
def test_what_cannot_be_read_is_asked_for_three_times(run: Run, name: str) -> None:
    (row,) = [row for row in ROWS if row.name == name]
    asked = Counter(call.idempotency_key for call in run.calls(row) if call.status == 200)
    assert [*asked.values()] == [3, 3]
    assert all(outcome["email_id"] is None for outcome in run.outcomes[run.own(row)])


@pytest.mark.parametrize("row", [row for row in ROWS if row.limit], ids=str)
def test_a_429_costs_nobody_an_attempt(run: Run, row: Row) -> None:
    refused = run.over.stats.accounts[row.account].answers["429:rate_limit_exceeded"]
    assert refused > 0
    names = [run.own(row), *run.others(row)]
    assert {o["attempts"] for name in names for o in run.outcomes[name]} == {1}


@pytest.mark.parametrize("status", [400, 422])
def test_one_guilty_of_a_hundred_is_found_in_few_calls(run: Run, status: int) -> None:
    (row,) = [row for row in ROWS if row.faults.guilty and row.faults.guilty_status == status]
    (batch,) = {str(outcome["batch_id"]) for outcome in run.outcomes[run.own(row)]}
    keys = [call.idempotency_key for call in run.calls(row)]
    keys = [key for key in keys if key.partition(".")[0] == batch]
    assert len(keys) == len(set(keys)) <= MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    rejected = [o for o in run.outcomes[run.own(row)] if o["status"] == "failed"]
    assert [outcome["email"] for outcome in rejected] == ["user37@example.com"]
