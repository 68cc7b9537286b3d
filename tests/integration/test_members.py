"""How workers come and go as members of their group."""

import signal
import socket
from collections.abc import Callable

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public, yet not re-exported
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.kit.harness import Harness, WorkerProcess, wait_until

_LONG_MS = 60_000
"""So long that nobody waits for it in these tests."""
_ASSIGNED, _REVOKED = "partitions assigned", "partitions revoked"


@pytest.fixture
def long_sessions(harness: Harness) -> Callable[[str], None]:
    """Lets a member that does not leave keep its partitions for the rest of the test."""

    def of(protocol: str) -> None:
        harness.group_protocol = protocol
        if protocol == "classic":
            properties = f'{{"session.timeout.ms": {_LONG_MS}, "heartbeat.interval.ms": 300}}'
            harness.settings["STREAMER_KAFKA__PROPERTIES"] = properties
        else:
            _configure(harness, "consumer.session.timeout.ms", str(_LONG_MS))

    return of


def _configure(harness: Harness, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.GROUP, harness.name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    (done,) = admin.incremental_alter_configs([resource]).values()
    done.result(20)


def _configured(harness: Harness) -> dict[str, str | None]:
    admin = AdminClient({"bootstrap.servers": harness.bootstrap_servers})
    (found,) = admin.describe_configs([ConfigResource(ResourceType.GROUP, harness.name)]).values()
    return {name: entry.value for name, entry in found.result(20).items()}


def _both(harness: Harness) -> tuple[WorkerProcess, WorkerProcess]:
    """Two workers, of which the second has taken its part from the first."""
    first = harness.start_worker(0)
    wait_until(lambda: _ASSIGNED in first.words(), 40, "the first has joined")
    second = harness.start_worker(1)
    wait_until(lambda: _REVOKED in first.words(), 40, "the second has joined")
    wait_until(lambda: _parts(second), 40, "it has partitions")
    return first, second


def _parts(worker: WorkerProcess) -> list[str]:
    """What the worker was assigned, each time that it was something."""
    return [line for line in worker.words().splitlines() if _ASSIGNED in line and "[]" not in line]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_worker_that_is_stopped_hands_over_at_once(
    harness: Harness, long_sessions: Callable[[str], None], protocol: str
) -> None:
    long_sessions(protocol)
    first, second = _both(harness)
    assert second.stop() == 0
    harness.produce(harness.event(number) for number in range(100))
    harness.await_resolutions(100, _LONG_MS / 2000)
    assert first.stop() == 0
    harness.assert_exactly_once()


def test_of_two_workers_with_one_id_the_second_says_so_and_ends(harness: Harness) -> None:
    first = harness.start_worker(0)
    wait_until(lambda: _ASSIGNED in first.words(), 40, "it has joined")
    second = harness.start_worker(0)
    assert second.wait() == 2
    assert f"a live worker on {socket.gethostname()} has the id {harness.name}-w-0" in (
        second.words()
    )
    harness.produce([harness.event(1)])
    harness.await_resolutions(1)
    assert first.stop() == 0
    assert first.words().count(_ASSIGNED) == 1


def test_a_worker_takes_the_id_of_one_that_is_frozen(harness: Harness) -> None:
    first = harness.start_worker(0)
    wait_until(lambda: _ASSIGNED in first.words(), 40, "it has joined")
    first.signal(signal.SIGSTOP)
    second = harness.start_worker(0)
    wait_until(lambda: _ASSIGNED in second.words(), 60, "it has the other's place")
    harness.produce([harness.event(1)])
    harness.await_resolutions(1)
    first.signal(signal.SIGCONT)
    assert first.wait() == 1, first.words()
    # If it could rejoin the group before that, it has taken the place of the other, whose successor
    # then has it for good.
    assert second.stop() in (0, 1), second.words()
    with harness.worker(0):
        harness.produce([harness.event(2)])
        harness.await_resolutions(2)
    harness.assert_exactly_once()


def test_a_group_of_the_newer_protocol_is_configured(harness: Harness) -> None:
    harness.group_protocol = "consumer"
    with harness.worker(0) as worker:
        wait_until(lambda: _ASSIGNED in worker.words(), 40, "it has joined")
    found = _configured(harness)
    assert found["consumer.session.timeout.ms"] == "2000"
    assert found["consumer.heartbeat.interval.ms"] == "500"
