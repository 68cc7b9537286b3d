"""A worker's HTTP endpoints: `/metrics`, `/healthz`, `/readyz`."""

import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

logger = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""Returns what is wrong, or None. Must not block."""


class HealthServer:
    """Serves the endpoints from a thread of its own, named `health`.

    Args:
        alive: liveness check of the worker's loop.
        ready: readiness check; says why the worker is not working.
        state: returns the worker's state, shown on a separate line of `/readyz`.
        host: the address to listen on; empty for every address of the machine.

    Raises:
        OSError: the port is taken.
    """

    def __init__(
        self,
        port: int,
        alive: Check,
        ready: Check,
        state: Callable[[], str] | None = None,
        host: str = "",
    ) -> None:
        checks = {"/healthz": alive, "/readyz": ready}

        class HealthHandler(BaseHTTPRequestHandler):
            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # the client disconnected, perhaps before sending its request
                    logger.debug("client disconnected")

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(), CONTENT_TYPE_LATEST)
                elif path in checks:
                    wrong = checks[path]()
                    text = f"{wrong or 'ok'}\n"
                    if path == "/readyz" and state is not None:
                        text += f"state: {state()}\n"
                    self._answer(200 if wrong is None else 503, text.encode())
                else:
                    self._answer(404, b"/metrics, /healthz, /readyz\n")

            def _answer(self, status: int, body: bytes, kind: str = "text/plain") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                logger.debug(format, *args)

        self._server = ThreadingHTTPServer((host, port), HealthHandler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.server_address[1]

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
