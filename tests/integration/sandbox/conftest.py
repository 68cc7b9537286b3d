"""One sandbox for all tests, at peace and empty before each."""

from collections.abc import Iterator

import pytest

from streamer.sandbox import AccountSpec, SandboxProcess
from tests.integration.sandbox.client import Client, wait_until


@pytest.fixture(scope="session")
def _one_sandbox() -> Iterator[SandboxProcess]:
    accounts = (
        AccountSpec(name="default", keys=("re_sandbox",), limit=None),
        AccountSpec(name="slow", keys=("re_slow_1", "re_slow_2"), limit=3),
        AccountSpec(name="free", keys=("re_free",), limit=None, daily_quota=3, monthly_quota=5),
    )
    with SandboxProcess(accounts=accounts) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_one_sandbox: SandboxProcess) -> SandboxProcess:
    _one_sandbox.reset_faults()
    # A call that the last test left behind would count for this one.
    wait_until(lambda: _one_sandbox.stats().in_flight == 0)
    _one_sandbox.reset()
    return _one_sandbox


@pytest.fixture
def client(sandbox: SandboxProcess) -> Client:
    return Client(sandbox.url)
