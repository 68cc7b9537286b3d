"""A worker's port answers at once, whatever its Kafka client does, and whoever asks."""

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
import urllib3

from streamer.settings import Settings
from streamer.worker import source as source_module
from streamer.worker.health import HealthServer
from streamer.worker.pipeline import Pipeline
from streamer.worker.process import _Checks
from streamer.worker.source import RecordSource
from streamer.worker.waiter import Waiter

_MAX_S = 0.05


class _Stuck:
    """A client every call of which takes for ever."""

    def __init__(self, *_: object, **__: object) -> None:
        self.called = threading.Event()
        self.released = threading.Event()

    def __getattr__(self, name: str) -> object:
        def call(*_: object, **__: object) -> None:
            self.called.set()
            self.released.wait(30)
            raise RuntimeError("the test is over")

        return call


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Stuck]:
    client = _Stuck()
    monkeypatch.setattr(source_module, "Consumer", lambda *_, **__: client)
    yield client
    client.released.set()


def _until_over(source: RecordSource) -> None:
    with pytest.raises(RuntimeError):
        source.poll(10, 0.1)


@pytest.mark.parametrize(("joined", "status"), [(True, 200), (False, 503)])
def test_probes_are_answered_while_a_client_hangs(stuck: _Stuck, joined: bool, status: int) -> None:
    source = RecordSource(Settings())
    source.joined = joined
    pipeline = Pipeline.__new__(Pipeline)  # with what its answers rest on, and nothing more
    pipeline._source, pipeline.last_tick = source, time.monotonic()
    thread = threading.Thread(target=_until_over, args=(source,), daemon=True)
    thread.start()
    assert stuck.called.wait(5)
    checks = _Checks(Waiter())
    checks.pipeline = pipeline
    server = HealthServer(0, checks.alive, checks.ready, lambda: "running")
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, retries=False)
    try:
        pool.request("GET", "/nothing")  # the connection is there
        took = []
        for _ in range(20):
            for path, expected in (("/healthz", 200), ("/readyz", status)):
                started = time.monotonic()
                assert pool.request("GET", path).status == expected
                took.append(time.monotonic() - started)
        # Of many, as a machine that is busy with others may take long for any.
        assert sorted(took)[len(took) // 2] < _MAX_S
    finally:
        server.close()
        stuck.released.set()
        thread.join(5)


@pytest.mark.parametrize("said", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n\r\n"])
def test_a_disconnect_leaves_no_traceback(said: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    server = HealthServer(0, lambda: None, lambda: None, host="127.0.0.1")
    assert server._server.server_address[0] == "127.0.0.1"
    try:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(said)
                # Reset, not closed: whoever reads or writes there meets an error.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        url = f"http://127.0.0.1:{server.port}/healthz"
        assert urllib3.request("GET", url, retries=False).status == 200
        time.sleep(0.2)
    finally:
        server.close()
    assert "Traceback" not in "".join(capfd.readouterr())
