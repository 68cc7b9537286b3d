"""Each answer of Resend's, and what becomes of the recipients: its table of errors, as a test.

One worker meets all rows at once, each on an account of its own, so that every row also shows
that no account waits for what befalls another.
"""

import contextlib
import signal
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest
import urllib3

from streamer.flow.verdicts import OUTAGE
from streamer.ledger import answers
from streamer.ledger.holds import Hold, Holds
from streamer.model.record import Coordinates
from streamer.sandbox import (
    DEFAULT_KEY,
    AccountSpec,
    Call,
    Faults,
    Play,
    SandboxProcess,
    Stats,
)
from streamer.stack import Redis, Stack
from tests.kit.world import MESSAGE, World, wait_until

Words = dict[tuple[str, str | None], int]

TIMEOUT_S = "3"
FEW = 4
LONG_S = 60.0
# Of a partition, outcomes are committed in its order: who waits is in one of its own.
WAITING, SERVED = 0, 1
MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED = 15


class Fate(Enum):
    """What becomes of a row's recipients while the fault lasts."""

    WAITS = auto()
    """Nobody has ended, nobody is parked: the same bytes are sent again under the same key."""
    HELD = auto()
    """All are parked, and the account, or the domain, is held."""
    ENDS = auto()
    """They have their outcomes."""


@dataclass(frozen=True)
class Row:
    """An answer, and what it means.

    Attributes:
        faults: what the row's account meets.
        results: the answers as the worker names them.
        words: the outcomes of the row's recipients, at last.
        reason: of the hold.
        detail: of the outcomes that are not `sent`.
        others_go_on: whether other organizations of the account are served meanwhile.
        others: how many of them there are, with one recipient each.
        limit: requests a second of the account.
        domain: of the sender.
        has_key: whether there is a key where the settings say.
        plays: answers that the row's account gets to the letter.
    """

    name: str
    faults: Faults
    fate: Fate
    results: frozenset[str]
    words: Words
    reason: str | None = None
    detail: str | None = None
    others_go_on: bool = False
    others: int = 1
    limit: int | None = None
    domain: str = "acme.test"
    has_key: bool = True
    plays: tuple[Play, ...] = ()

    @property
    def account(self) -> str:
        return "".join(letter if letter.isalnum() else "-" for letter in self.name)

    @property
    def count(self) -> int:
        return sum(self.words.values())

    @property
    def words_of_another(self) -> Words:
        """What befalls every call befalls others too; what a mail draws upon itself does not."""
        if self.fate is Fate.ENDS and not self.others_go_on:
            return dict.fromkeys(self.words, 1)
        return sent(1)

    def __str__(self) -> str:
        return self.name


def sent(count: int = FEW) -> Words:
    return {("sent", None): count}


def waits(name: str, faults: Faults, *results: str, others_go_on: bool = False) -> Row:
    """Unknown whether it was taken: asked again until it is known."""
    return Row(
        name, faults, Fate.WAITS, frozenset(results or [name]), sent(), others_go_on=others_go_on
    )


def of_the_way(name: str, play: Play, result: str) -> Row:
    """Says nothing of a mail, as it is not Resend's answer or nobody knows what it means."""
    return Row(name, Faults(), Fate.WAITS, frozenset([result]), sent(), plays=(play,))


def json_error(status: int, words: str, **name: str) -> Play:
    """An error as Resend writes it."""
    body = {"statusCode": status, "message": words, **name}
    return Play(status=status, body=orjson.dumps(body).decode())


def page(status: int) -> Play:
    """What a proxy or a firewall answers."""
    body = f"<html><body><h1>{status}</h1></body></html>"
    return Play(status=status, headers={"content-type": "text/html"}, body=body)


def held(name: str, faults: Faults) -> Row:
    """Nobody's fault: parked, and sent once it is over."""
    return Row(name, faults, Fate.HELD, frozenset([name]), sent(), reason=name)


def unreadable(name: str, faults: Faults, *results: str) -> Row:
    """Taken, but without ids: nobody may be called `sent`."""
    words: Words = {("indeterminate", "provider_error"): FEW}
    detail = "Resend took the batch, but its answer cannot be understood"
    return Row(name, faults, Fate.ENDS, frozenset(results), words, detail=detail)


def throttled(name: str, faults: Faults) -> Row:
    """Too fast: costs nobody anything."""
    results = frozenset(["rate_limit_exceeded"])
    return Row(name, faults, Fate.ENDS, results, sent(1), others_go_on=True, others=8, limit=2)


def guilty(status: int) -> Row:
    """One mail spoils the whole batch."""
    faults = {"guilty": ["user37@example.com"], "guilty_status": status}
    return Row(
        f"{status}, one recipient spoils its batch",
        Faults.model_validate(faults),
        Fate.ENDS,
        frozenset(["validation_error"]),
        {("sent", None): 99, ("failed", "rejected"): 1},
        detail="The request was refused.",
        others_go_on=True,
    )


ROWS = [
    # No fault. Its account waits for none of the others.
    Row("accepted", Faults(), Fate.ENDS, frozenset(), sent(), others_go_on=True),
    # 429: wait, and it costs nobody an attempt.
    throttled("rate_limit_exceeded", Faults()),
    throttled("rate_limit_exceeded, headers missing", Faults(ratelimit_headers="missing")),
    throttled("rate_limit_exceeded, headers garbled", Faults(ratelimit_headers="garbled")),
    # Outcome unknown: the same key, the same bytes.
    waits("application_error", Faults(error_before_percent=100)),
    waits("500, after acceptance", Faults(error_after_percent=100), "application_error"),
    waits("service_unavailable", Faults(outage="unavailable")),
    waits(
        "503, after acceptance",
        Faults(error_after_percent=100, error_status=503),
        "service_unavailable",
    ),
    waits(
        "502, a gateway's page",
        Faults(error_before_percent=100, error_status=502),
        "http_502",
    ),
    waits(
        "504, after acceptance",
        Faults(error_after_percent=100, error_status=504),
        "http_504",
    ),
    waits("cut before", Faults(cut_before_percent=100), "no_answer"),
    waits("cut after", Faults(cut_after_percent=100), "no_answer"),
    waits("nobody answers", Faults(outage="drop"), "no_answer"),
    waits("half a body", Faults(half_body_percent=100), "no_answer"),
    waits("timeout", Faults(hang_s=LONG_S), "no_answer", "concurrent_idempotent_requests"),
    waits(
        "500, for one batch alone",
        Faults(poison=frozenset({"user0@example.com"})),
        "application_error",
        others_go_on=True,
    ),
    # Taken, but nobody can say under which ids.
    unreadable("broken body", Faults(broken_body_percent=100), "unreadable"),
    # Its results are none: what Resend accepted is `accepted` in metrics.
    unreadable("wrong count of ids", Faults(wrong_ids_percent=100)),
    # The account is held.
    held("daily_quota_exceeded", Faults(quota="daily")),
    held("monthly_quota_exceeded", Faults(quota="monthly")),
    held("missing_api_key", Faults(refuse_key="missing_api_key")),
    held("invalid_api_key", Faults(refuse_key="invalid_api_key")),
    held("restricted_api_key", Faults(refuse_key="restricted_api_key")),
    held("suspended_api_key", Faults(refuse_key="suspended_api_key")),
    held("invalid_permission", Faults(refuse_key="invalid_permission")),
    Row(
        "no key where the settings say",
        Faults(),
        Fate.HELD,
        frozenset(),
        sent(),
        reason="missing_api_key",
        has_key=False,
    ),
    Row(
        "400, API key is invalid",
        Faults(),
        Fate.HELD,
        frozenset(["validation_error"]),
        sent(),
        reason="invalid_api_key",
        plays=(json_error(400, "API key is invalid", name="validation_error"),),
    ),
    Row(
        "403, API key is not active",
        Faults(),
        Fate.HELD,
        frozenset(["restricted_api_key"]),
        sent(),
        reason="restricted_api_key",
        plays=(json_error(403, "API key is not active", name="restricted_api_key"),),
    ),
    # It says nothing of a mail.
    of_the_way("400, a page", page(400), "http_400"),
    of_the_way("403, a page", page(403), "http_403"),
    of_the_way("200, a page", page(200), "http_200"),
    of_the_way(
        "422, from a gate",
        Play(status=422, headers={"content-type": "text/plain"}, body="local_rate_limited"),
        "http_422",
    ),
    of_the_way("422, nothing", Play(status=422), "http_422"),
    of_the_way("402", json_error(402, "Pay first", name="payment_required"), "http_402"),
    of_the_way(
        "413", json_error(413, "Too large", name="validation_error"), "validation_error"
    ),
    # The content of all.
    Row(
        "404, template not found",
        Faults(),
        Fate.ENDS,
        frozenset(["not_found"]),
        {("failed", "rejected"): FEW},
        detail="Template not found",
        plays=(json_error(404, "Template not found", name="not_found"),),
    ),
    # The sender's domain is held.
    Row(
        "403, a key that may not send for the domain",
        Faults(forbidden_domains=frozenset({"other.test"})),
        Fate.HELD,
        frozenset(["http_403"]),
        sent(),
        reason="domain_not_allowed",
        others_go_on=True,
        domain="other.test",
    ),
    Row(
        "403, domain not verified",
        Faults(unverified_domains=frozenset({"new.test"})),
        Fate.HELD,
        frozenset(["validation_error"]),
        sent(),
        reason="domain_not_verified",
        others_go_on=True,
        domain="new.test",
    ),
    # The item fails, the others do not.
    Row(
        "validation_error, of one item",
        Faults(refused=frozenset({"user0@example.com"})),
        Fate.ENDS,
        frozenset(),
        {("sent", None): FEW - 1, ("failed", "rejected"): 1},
        detail="Invalid `to` field. The address is refused by this sandbox.",
        others_go_on=True,
    ),
    Row(
        "validation_error, of every item",
        Faults(refused=frozenset({f"user{number}@example.com" for number in range(FEW)})),
        Fate.ENDS,
        frozenset(),
        {("failed", "rejected"): FEW},
        detail="Invalid `to` field. The address is refused by this sandbox.",
        others_go_on=True,
    ),
    guilty(400),
    guilty(422),
]  # fmt: skip


class Seen(NamedTuple):
    """What there was to see at one time, by organization or by account."""

    words: dict[str, Counter[tuple[str, str | None]]]
    parked: Counter[str]
    holds: dict[str, dict[str | None, Hold]]
    results: dict[str, set[str]]
    stats: Stats


class Share(NamedTuple):
    """Of a row's organizations, those that are served while the fault lasts, and those that wait;
    each with the number of its recipients."""

    served: dict[str, int]
    waiting: dict[str, int]


class Run:
    """One worker that meets every row.

    Attributes:
        lasting: what there was to see while all faults lasted, after each had had its effect.
        over: after they were over and everybody had ended.
        outcomes: then, by organization.
    """

    lasting: Seen
    over: Seen

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.outcomes: dict[str, list[dict[str, object]]] = defaultdict(list)
        self._folder = folder
        self._organization_of: dict[Coordinates, str] = {}

    def own(self, row: Row) -> str:
        """The organization of the row's recipients."""
        return f"{row.account}-{self.world.name}"

    def others(self, row: Row) -> list[str]:
        """The other organizations of its account."""
        return [f"{self.own(row)}-{number}" for number in range(row.others)]

    def share(self, row: Row) -> Share:
        own, others = {self.own(row): row.count}, dict.fromkeys(self.others(row), 1)
        if row.fate is Fate.ENDS:
            return Share(own | others, {})
        return Share(others, own) if row.others_go_on else Share({}, own | others)

    def carry_out(self) -> None:
        """Let every fault have its effect, then let all be over."""
        self._configure()
        for row in ROWS:
            self.world.sandbox.order(row.faults, row.account)
            self.world.sandbox.play(*row.plays, account=row.account)
        self._produce()
        with self.world.worker():
            wait_until(self._all_have_begun, 60, "each fault has had its effect")
            self.world.sandbox.calm()
            for row in ROWS:
                self._key_file(row).write_text(_key(row))
            self.world.await_endings(len(self._organization_of), 60)
            wait_until(self._nothing_is_held, 20, "all holds are over")
        self.over = self._look()
        for outcome in self.world.outcomes():
            self.outcomes[str(outcome["organization_id"])].append(outcome)

    def calls(self, row: Row) -> list[Call]:
        """To the row's account, in their order."""
        return [call for call in self.world.sandbox.calls() if call.account == row.account]

    def _configure(self) -> None:
        accounts = {}
        for row in ROWS:
            if row.has_key:
                self._key_file(row).write_text(_key(row))
            accounts[row.account] = {
                "api_key_file": str(self._key_file(row)),
                "organizations": [self.own(row), *self.others(row)],
                "requests_per_second": 1000,
            }
        self.world.settings |= {
            "STREAMER_ACCOUNTS": orjson.dumps(accounts).decode(),
            "STREAMER_BATCH__LINGER_MS": "1000",
            "STREAMER_DELIVERY__TIMEOUT_S": TIMEOUT_S,
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_DELIVERY__SET_ASIDE_S": "120",
        }

    def _key_file(self, row: Row) -> Path:
        return self._folder / row.account

    def _produce(self) -> None:
        for row in ROWS:
            self.world.organizations |= {self.own(row), *self.others(row)}
            own_waits = row.fate is Fate.WAITS
            message = {**MESSAGE, "from": f"Acme <news@{row.domain}>"}
            self.world.produce(
                (
                    self.world.event(number, organization_id=self.own(row), message=message)
                    for number in range(row.count)
                ),
                WAITING if own_waits else SERVED,
            )
            self.world.produce(
                (
                    self.world.event(0, organization_id=other, email="other@example.com")
                    for other in self.others(row)
                ),
                WAITING if own_waits and not row.others_go_on else SERVED,
            )
        for record in self.world.inputs():
            event = orjson.loads(record.value or b"")
            self._organization_of[record.coordinates] = event["organization_id"]

    def _look(self) -> Seen:
        words: dict[str, Counter[tuple[str, str | None]]] = defaultdict(Counter)
        for ending in self.world.endings():
            words[ending.organization][ending.status, ending.reason] += 1
        names = [row.account for row in ROWS]
        states = Holds(self.world.redis).read(names)
        last = answers.read(self.world.redis, names)
        return Seen(
            words,
            Counter(self._organization_of[where] for where in self.world.parked()),
            {name: state.holds for name, state in states.items()},
            {name: {answer.result for answer in last[name]} for name in names},
            self.world.sandbox.stats(),
        )

    def _all_have_begun(self) -> bool:
        self.lasting = self._look()
        left = [row.name for row in ROWS if not self._has_begun(row)]
        print("not yet:", "; ".join(left))  # pytest shows it if this fails
        return not left

    def _has_begun(self, row: Row) -> bool:
        seen, share = self.lasting, self.share(row)
        if any(seen.words[name].total() < count for name, count in share.served.items()):
            return False
        if row.fate is Fate.HELD:
            return all(seen.parked[name] == count for name, count in share.waiting.items())
        if row.fate is Fate.WAITS:
            calls = seen.stats.accounts[row.account].calls
            return calls >= 3 and seen.results[row.account] >= row.results
        return True

    def _nothing_is_held(self) -> bool:
        states = Holds(self.world.redis).read([row.account for row in ROWS])
        return not any(state.holds for state in states.values())


def _key(row: Row) -> str:
    return f"re_{row.account}"


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The run that all rows are read from."""
    folder = tmp_path_factory.mktemp("answers")
    specs = [AccountSpec(name=row.account, keys=(_key(row),), limit=row.limit) for row in ROWS]
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


# What needs a worker of its own


@pytest.fixture
def own_world(make_redis: Callable[..., object], make_world: Callable[..., World]) -> World:
    """A world whose account no other test shares."""
    world = make_world(redis=make_redis())
    world.settings |= {
        "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
        "STREAMER_DELIVERY__SET_ASIDE_S": "120",
        "STREAMER_BATCH__LINGER_MS": "1000",
    }
    return world


def _call_wrong_url(world: World, path: str) -> str:
    """Let a worker call a wrong URL; returns the reason of the hold."""
    world.produce(world.event(number) for number in range(FEW))
    wrong = world.start_worker(RESEND_API_URL=world.sandbox.url + path)
    wait_until(lambda: len(world.parked()) == FEW, 30, "all are parked")
    assert wrong.stop() == 0
    assert world.endings() == []
    holds = Holds(world.redis).read(["default"])["default"].holds
    assert set(holds) == {None}
    return holds[None].reason


def test_not_found(own_world: World) -> None:
    assert _call_wrong_url(own_world, "/wrong") == "not_found"
    with own_world.worker():  # the URL is right again
        own_world.await_endings(FEW, 30)
    assert own_world.words() == sent()
    own_world.judge()


def test_method_not_allowed(own_world: World) -> None:
    assert _call_wrong_url(own_world, "/domains?") == "method_not_allowed"
    own_world.judge()


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


def test_a_batch_of_an_account_that_left_the_settings_waits_and_nobody_dies(
    own_world: World,
) -> None:
    own = {"gone": {"organizations": [own_world.organization]}}
    other = f"other-{own_world.name}"
    own_world.organizations.add(other)
    own_world.produce(own_world.event(number) for number in range(FEW))
    own_world.settings["STREAMER_ACCOUNTS"] = orjson.dumps({"default": {}, **own}).decode()
    doomed = own_world.start_worker(crash_at="after_pin")
    assert doomed.wait() == -signal.SIGKILL
    own_world.settings["STREAMER_ACCOUNTS"] = orjson.dumps({"default": {}}).decode()
    with own_world.worker() as left:
        wait_until(lambda: len(own_world.parked()) == FEW, 30, "the batch waits for its account")
        own_world.produce([own_world.event(0, organization_id=other)])
        own_world.await_endings(1, 30)
    assert left.words().count("the settings have no account of this name any more") == 1
    assert own_world.words() == sent(1)
    own_world.judge()


@pytest.mark.parametrize("is_over", [False, True], ids=["it is refused still", "it is over"])
def test_killed_while_it_looks_for_the_guilty_one_the_next_goes_on_there(
    own_world: World, is_over: bool
) -> None:
    """Sent as a whole again, with the refusal over, halves that were taken would go out twice."""
    sandbox = own_world.sandbox
    guilty_one = "user87@example.com"
    sandbox.order(Faults(guilty=frozenset({guilty_one}), latency_ms=150))
    own_world.produce((own_world.event(number) for number in range(100)), partition=0)
    doomed = own_world.start_worker()
    wait_until(lambda: len(sandbox.calls()) >= 6, 30, "it is half-way")
    doomed.kill()
    assert doomed.process.returncode == -signal.SIGKILL
    wait_until(lambda: sandbox.stats().in_flight == 0, 10, "no call is under way")
    assert sandbox.stats().accepted >= 50
    before = [call.idempotency_key for call in sandbox.calls()]
    assert 6 <= len(before) < MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    if is_over:
        sandbox.calm()
    with own_world.worker():
        own_world.await_endings(100, 40)
    after = [call.idempotency_key for call in sandbox.calls()][len(before) :]
    # The last one's answer may not have been kept yet; and what is refused to who adopted the
    # batch is asked once more.
    assert len(set(before) & set(after)) <= 1
    assert len(set(before) | set(after)) <= MOST_CALLS_TO_FIND_ONE_OF_A_HUNDRED
    stats = sandbox.stats()
    assert (stats.accepted_twice, sandbox.repeats()) == (0, [])
    rejected: Words = {} if is_over else {("failed", "rejected"): 1}
    assert own_world.words() == {("sent", None): 100 - len(rejected), **rejected}
    own_world.judge()


def test_where_there_are_other_accounts_an_outage_holds_one_and_sets_a_batch_aside(
    make_redis: Callable[[], Redis], make_world: Callable[..., World]
) -> None:
    """Nothing that keeps failing stands in the way of others for long."""
    specs = [AccountSpec(name=name, keys=(f"re_{name}",), limit=None) for name in ("one", "two")]
    with SandboxProcess(accounts=specs) as sandbox:
        world = make_world(redis=make_redis(), stand_in=sandbox)
        down = f"down-{world.name}"
        world.organizations.add(down)
        world.settings |= {
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_DELIVERY__SET_ASIDE_S": "2",
            "STREAMER_BATCH__LINGER_MS": "1000",
            "STREAMER_BATCH__SIZE": str(FEW),
            # Beside the account `default`.
            "STREAMER_ACCOUNTS": orjson.dumps(
                {"two": {"api_key_env": "KEY_TWO", "organizations": [down]}}
            ).decode(),
            "RESEND_API_KEY": "re_one",
            "KEY_TWO": "re_two",
        }
        sandbox.order(Faults(outage="unavailable"), account="two")
        sandbox.order(Faults(poison=frozenset({"user0@example.com"})), account="one")
        # Two batches: one alone could be the batch's own trouble.
        world.produce(world.event(number, organization_id=down) for number in range(2 * FEW))
        world.produce(world.event(number) for number in range(FEW))
        numbers = iter(range(FEW, 1000))

        def both_wait() -> bool:
            world.produce(world.event(next(numbers)) for _ in range(FEW))
            return len(world.parked()) == 3 * FEW

        with world.worker():
            wait_until(lambda: len(sandbox.calls()) >= 2, 30, "calls fail")
            wait_until(both_wait, 60, "the account's and the batch's records are parked")
            states = Holds(world.redis).read(["default", "two"])
            assert [hold.reason for hold in states["two"].holds.values()] == ["outage"]
            assert not states["default"].holds
            count = next(numbers)
            world.await_endings(count - FEW, 30)
            assert {status for status, _ in world.words()} == {"sent"}
            sandbox.calm()
            world.await_endings(count + 2 * FEW, 60)
        assert world.words() == sent(count + 2 * FEW)
        world.judge()


INVALID_KEY = json_error(400, "API key is invalid", name="validation_error")


@pytest.mark.parametrize("play", [INVALID_KEY, page(400)], ids=["400, key", "400, a page"])
def test_an_account_that_is_refused_for_a_while_loses_nobody_and_stops_no_other(
    make_redis: Callable[[], Redis], make_world: Callable[..., World], play: Play
) -> None:
    """What is refused for the key, or by what stands on the way, fails nobody and is over once
    it is; halves that were taken meanwhile do not go out again as a whole."""
    specs = [AccountSpec(name=name, keys=(f"re_{name}",), limit=50) for name in ("one", "two")]
    with SandboxProcess(accounts=specs, latency_ms=10) as sandbox:
        world = make_world(redis=make_redis(), stand_in=sandbox)
        refused = f"refused-{world.name}"
        world.organizations.add(refused)
        world.settings |= {
            "RESEND_API_KEY": "re_one",
            "RESEND_API_KEY_2": "re_two",
            "STREAMER_ACCOUNTS__TWO__API_KEY_ENV": "RESEND_API_KEY_2",
            "STREAMER_ACCOUNTS__TWO__ORGANIZATIONS": orjson.dumps([refused]).decode(),
            "STREAMER_ACCOUNTS__TWO__REQUESTS_PER_SECOND": "50",
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_BATCH__SIZE": "20",
        }
        own = 40 * 20
        world.produce(world.event(number) for number in range(own))
        world.produce(world.event(number, organization_id=refused) for number in range(own))

        def done() -> Counter[str]:
            return Counter(a.organization for a in sandbox.acceptances())

        with world.worker():
            wait_until(lambda: 0 < done()[refused] < own / 2, 30, "it is in mid-run")
            sandbox.play(play, account="two")
            wait_until(lambda: done()[world.organization] == own, 30, "the other account is done")
            at_peace = done()[refused]
            assert at_peace < own
            sandbox.calm()
            world.await_endings(2 * own, 60)
        stats = sandbox.stats()
        assert (stats.accepted_twice, sandbox.repeats()) == (0, [])
        assert world.words() == {("sent", None): 2 * own}
        assert stats.accounts["two"].answers["400:played"] < 50
        world.judge()
