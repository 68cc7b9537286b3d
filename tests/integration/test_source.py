"""The consuming side: what a record may look like, and how partitions come and go."""

from concurrent.futures import Future
from contextlib import closing

import pytest

from streamer.cli.reading import topic_reader
from streamer.model.record import Record
from streamer.settings import Settings
from streamer.worker.source import RecordSource, Windows
from tests.kit.harness import Harness, wait_until
from tests.kit.raw import produce_raw


def test_a_record_with_unreadable_headers_is_read(harness: Harness) -> None:
    topic, settings = harness.topics.parked, _settings(harness)
    # A few before it: the interpreter treats a call that it knows otherwise than a first one.
    produce_raw(harness.bootstrap_servers, topic, b"good", [(b"one", b"1")], count=20)
    produce_raw(harness.bootstrap_servers, topic, b"bad", [(b"one", b"1"), (b"\xff", b"2")])
    produce_raw(harness.bootstrap_servers, topic, b"good", [(b"one", b"1")])
    assert harness.ever_parked() == 22
    with topic_reader(settings) as reader:
        found = list(reader.read(topic, reader.spans(topic)))
    good = (b"good", [("one", b"1")])
    assert [(each.value, each.headers) for each in found] == [*[good] * 20, (b"bad", []), good]


class _EpochLedger:
    """Says whose the offsets are, unless it is away."""

    def __init__(self) -> None:
        self.is_away = False
        self._asked: list[Future[dict[int, int]]] = []

    @property
    def is_asked(self) -> bool:
        return bool(self._asked)

    def check(self, epochs: set[str]) -> Future[dict[int, int]]:
        self._asked.append(Future())
        if not self.is_away:
            self.answer()
        return self._asked[-1]

    def answer(self) -> None:
        self.is_away = False
        for each in self._asked:
            if not each.done():
                each.set_result({})


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_nothing_is_read_before_the_ledger_is_verified(harness: Harness, protocol: str) -> None:
    harness.group_protocol = protocol
    harness.produce(harness.event(number) for number in range(20))
    ledger, kept = _EpochLedger(), Windows()
    ledger.is_away = True
    first = RecordSource(_settings(harness))
    second = RecordSource(_settings(harness))
    with closing(first), closing(second):
        first.start(ledger.check, kept.update)
        wait_until(lambda: first.poll(10, 0.05) or ledger.is_asked, 20, "it asks")
        assert first.joined
        assert first.windows == {}
        # Partitions that were never read are given up, and arrive, as any are.
        second.start(ledger.check, kept.update)

        def both() -> bool:
            assert first.poll(10, 0.05) + second.poll(10, 0.05) == []
            return second.joined

        wait_until(both, 20, "the second joins")
        second.close()
        ledger.answer()
        wait_until(lambda: first.poll(10, 0.05) or len(first.windows) == 4, 20, "it is verified")
        assert [first.poll(10, 0.05) for _ in range(5)] == [[]] * 5
        assert {window.is_marked for window in first.windows.values()} == {False}
        for window in first.windows.values():
            window.committed(0, window.position)
        records: list[Record] = []

        def all_of_them() -> bool:
            records.extend(first.poll(10, 0.05))
            return len(records) == 20

        wait_until(all_of_them, 20, "all are read")


def _settings(harness: Harness) -> Settings:
    return Settings.model_validate(
        {
            "kafka": {
                "bootstrap_servers": harness.bootstrap_servers,
                "group_id": harness.name,
                "group_protocol": harness.group_protocol,
            },
            "topics": harness.topics.model_dump(),
        }
    )
