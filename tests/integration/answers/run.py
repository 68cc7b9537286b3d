"""One worker that meets all rows of the table at once.

Each is on an account of its own, so that every row also shows that no account waits for what
befalls another.
"""

from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import orjson

from streamer.ledger import answers
from streamer.ledger.holds import Hold, Holds
from streamer.model.record import Coordinates
from streamer.sandbox import Call, Stats
from tests.integration.answers.table import ROWS, Fate, Row
from tests.kit.world import MESSAGE, World, wait_until

TIMEOUT_S = "3"
# Of a partition, outcomes are committed in its order: who waits is in one of its own.
WAITING, SERVED = 0, 1


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
                self._key_file(row).write_text(make_key(row))
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
                self._key_file(row).write_text(make_key(row))
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


def make_key(row: Row) -> str:
    """The API key of the row's account."""
    return f"re_{row.account}"
