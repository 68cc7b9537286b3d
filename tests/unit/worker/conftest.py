"""Workers that send, over Redis and Resend in memory."""

import pytest

from tests.kit.fakes.sending import KEY_VARIABLE, SendingWorker, Services


@pytest.fixture(autouse=True)
def _api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "re_key")


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
def worker(services: Services) -> SendingWorker:
    return SendingWorker(services)
