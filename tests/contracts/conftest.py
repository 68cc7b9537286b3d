"""The suites of this folder run over a fake and over the real thing: parameter `fake` or `real`.

Those over the real one need servers; the mark `real` keeps them out of `make unit`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.ledger.connection import Client, connect
from streamer.settings import RedisSettings
from streamer.stack import RedisServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder whose parameter is `real`."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if Path(__file__).parent in item.path.parents and callspec is not None:
            given = [each for each in callspec.params.values() if isinstance(each, str)]
            if "real" in given:
                item.add_marker("real")


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a Redis for these suites alone."""
    server = RedisServer(tmp_path_factory.mktemp("redis") / "server")
    server.start()
    client = connect(RedisSettings(url=server.url))
    yield client
    client.close()
    server.stop()
