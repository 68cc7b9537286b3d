"""One worker that meets all rows of the table at once.

Each is on an account of its own, so that every row also shows that no account waits for what
befalls another.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import orjson

from streamer.ledger import responses
from streamer.ledger.holds import Hold, Holds
from streamer.model.record import RecordId
from streamer.sandbox import Call, Stats
from tests.integration.answers.table import CASES, Effect, ResponseCase
from tests.kit.harness import MESSAGE, Harness, wait_until

TIMEOUT_S = "3"
# Of a partition, outcomes are committed in its order: who waits is in one of its own.
WAITING, SERVED = 0, 1


class Observation(NamedTuple):
    """What there was to see at one time, by organization or by account."""

    words: dict[str, Counter[tuple[str, str | None]]]
    parked: Counter[str]
    holds: dict[str, dict[str | None, Hold]]
    results: dict[str, set[str]]
    stats: Stats


class ServedAndWaiting(NamedTuple):
    """Of a row's organizations, those that are served while the fault lasts, and those that wait;
    each with the number of its recipients."""

    served: dict[str, int]
    waiter: dict[str, int]


class ResponseRun:
    """One worker that meets every row.

    Attributes:
        lasting: what there was to see while all faults lasted, after each had had its effect.
        over: after they were over and everybody had ended.
        outcomes: then, by organization.
    """

    lasting: Observation
    over: Observation

    def __init__(self, harness: Harness, folder: Path) -> None:
        self.harness = harness
        self.outcomes: dict[str, list[dict[str, object]]] = defaultdict(list)
        self._folder = folder
        self._organization_of: dict[RecordId, str] = {}

    def own(self, case: ResponseCase) -> str:
        """The organization of the row's recipients."""
        return f"{case.account}-{self.harness.name}"

    def others(self, case: ResponseCase) -> list[str]:
        """The other organizations of its account."""
        return [f"{self.own(case)}-{number}" for number in range(case.others)]

    def share(self, case: ResponseCase) -> ServedAndWaiting:
        own, others = {self.own(case): case.count}, dict.fromkeys(self.others(case), 1)
        if case.effect is Effect.ENDS:
            return ServedAndWaiting(own | others, {})
        return (
            ServedAndWaiting(others, own)
            if case.others_go_on
            else ServedAndWaiting({}, own | others)
        )

    def carry_out(self) -> None:
        """Let every fault have its effect, then let all be over."""
        self._configure()
        for case in CASES:
            self.harness.sandbox.set_faults(case.faults, case.account)
            self.harness.sandbox.play(*case.plays, account=case.account)
        self._produce()
        with self.harness.worker():
            wait_until(self._all_have_begun, 60, "each fault has had its effect")
            self.harness.sandbox.reset_faults()
            for case in CASES:
                self._key_file(case).write_text(make_key(case))
            self.harness.await_resolutions(len(self._organization_of), 60)
            wait_until(self._nothing_is_held, 20, "all holds are over")
        self.over = self._look()
        for outcome in self.harness.outcomes():
            self.outcomes[str(outcome["organization_id"])].append(outcome)

    def calls(self, case: ResponseCase) -> list[Call]:
        """To the row's account, in their order."""
        return [call for call in self.harness.sandbox.calls() if call.account == case.account]

    def _configure(self) -> None:
        accounts = {}
        for case in CASES:
            if case.has_key:
                self._key_file(case).write_text(make_key(case))
            accounts[case.account] = {
                "api_key_file": str(self._key_file(case)),
                "organizations": [self.own(case), *self.others(case)],
                "requests_per_second": 1000,
            }
        self.harness.settings |= {
            "STREAMER_ACCOUNTS": orjson.dumps(accounts).decode(),
            "STREAMER_BATCH__LINGER_MS": "1000",
            "STREAMER_DELIVERY__TIMEOUT_S": TIMEOUT_S,
            "STREAMER_DELIVERY__HOLD_PROBE_S": "1",
            "STREAMER_DELIVERY__SET_ASIDE_S": "120",
        }

    def _key_file(self, case: ResponseCase) -> Path:
        return self._folder / case.account

    def _produce(self) -> None:
        for case in CASES:
            self.harness.organizations |= {self.own(case), *self.others(case)}
            own_waits = case.effect is Effect.WAITS
            message = {**MESSAGE, "from": f"Acme <news@{case.domain}>"}
            self.harness.produce(
                (
                    self.harness.event(number, organization_id=self.own(case), message=message)
                    for number in range(case.count)
                ),
                WAITING if own_waits else SERVED,
            )
            self.harness.produce(
                (
                    self.harness.event(0, organization_id=other, email="other@example.com")
                    for other in self.others(case)
                ),
                WAITING if own_waits and not case.others_go_on else SERVED,
            )
        for record in self.harness.inputs():
            event = orjson.loads(record.value or b"")
            self._organization_of[record.record_id] = event["organization_id"]

    def _look(self) -> Observation:
        words: dict[str, Counter[tuple[str, str | None]]] = defaultdict(Counter)
        for resolution in self.harness.resolutions():
            words[resolution.organization][resolution.status, resolution.reason] += 1
        names = [case.account for case in CASES]
        states = Holds(self.harness.redis).read(names)
        last = responses.read(self.harness.redis, names)
        return Observation(
            words,
            Counter(self._organization_of[where] for where in self.harness.parked()),
            {name: state.holds for name, state in states.items()},
            {name: {answer.result for answer in last[name]} for name in names},
            self.harness.sandbox.stats(),
        )

    def _all_have_begun(self) -> bool:
        self.lasting = self._look()
        left = [case.name for case in CASES if not self._has_begun(case)]
        print("not yet:", "; ".join(left))  # pytest shows it if this fails
        return not left

    def _has_begun(self, case: ResponseCase) -> bool:
        seen, share = self.lasting, self.share(case)
        if any(seen.words[name].total() < count for name, count in share.served.items()):
            return False
        if case.effect is Effect.HELD:
            return all(seen.parked[name] == count for name, count in share.waiter.items())
        if case.effect is Effect.WAITS:
            calls = seen.stats.accounts[case.account].calls
            return calls >= 3 and seen.results[case.account] >= case.results
        return True

    def _nothing_is_held(self) -> bool:
        states = Holds(self.harness.redis).read([case.account for case in CASES])
        return not any(state.holds for state in states.values())


def make_key(case: ResponseCase) -> str:
    """The API key of the row's account."""
    return f"re_{case.account}"
