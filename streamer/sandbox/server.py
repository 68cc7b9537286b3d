"""The server: one process, one event loop, on 127.0.0.1 unless told otherwise."""

import asyncio
import os
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

from streamer.sandbox.accounts import Accounts
from streamer.sandbox.api import Api
from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config
from streamer.sandbox.control import Control
from streamer.sandbox.faults import Faults, Play
from streamer.sandbox.http import Answer, HttpProtocol, Request
from streamer.sandbox.tally import Acceptance, Call, Repeat, Stats, Tally

_BACKLOG = 1024


class Sandbox:
    """A stand-in for Resend inside the running event loop: `async with Sandbox(config)`.

    Its methods may be called from the loop's thread only.
    """

    def __init__(self, config: Config | None = None, clock: Clock | None = None) -> None:
        self._config = config if config is not None else Config()
        self._clock = clock if clock is not None else Clock()
        self._tally = Tally(self._config, self._clock)
        self._api = Api(self._config, Accounts(self._config.accounts), self._tally, self._clock)
        self._control = Control(self._api, self._tally, self._clock, self._config.keep_acceptances)
        self._connections: set[HttpProtocol] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: HttpProtocol(self._answer, self._connections),
            self._config.host,
            self._config.port,
            backlog=_BACKLOG,
        )

    async def stop(self) -> None:
        """Close the port and every connection; calls that are running are dropped."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections):
            connection.abort()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where it listens: what `RESEND_API_URL` should be."""
        if self._server is None:
            raise RuntimeError("the sandbox is not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return f"http://{self._config.host}:{port}"

    async def _answer(self, request: Request) -> Answer:
        return self._control.answer(request) or await self._api.answer(request)

    # Orders.

    def order(self, faults: Faults, account: str | None = None) -> None:
        """Change the faults given in `faults`, for one account or for all; the others stay."""
        self._control.order(faults, account)

    def play(self, *plays: Play, account: str | None = None) -> None:
        """Give these answers, to the letter, to the next calls of one account or of all."""
        self._control.play(plays, account)

    def calm(self) -> None:
        """Back to the faults it was started with (none, or a latency); nothing is played."""
        self._api.calm()

    def set_limit(self, limit: int | None, account: str | None = None) -> None:
        """Change the requests a second; None: unthrottled."""
        self._control.set_limit(limit, account)

    def advance(self, seconds: float) -> None:
        """Put the server's wall clock forward: idempotency keys age, quotas renew."""
        self._clock.advance(seconds)

    def expire_keys(self) -> None:
        """Forget every idempotency key whose call is over."""
        self._api.memory.expire()

    def reset(self) -> None:
        """Forget mails, counts, idempotency keys and quotas. Faults and limits stay.

        A call that is still in flight counts afterwards.
        """
        self._control.reset()

    # Questions.

    def stats(self) -> Stats:
        return self._control.stats()

    def acceptances(self) -> list[Acceptance]:
        return list(self._tally.acceptances)

    def calls(self) -> list[Call]:
        return list(self._tally.calls)

    def repeats(self) -> list[Repeat]:
        return list(self._tally.repeats())


def serve(config: Config, announce: Callable[[str], None], lifeline: int | None = None) -> None:
    """Run until SIGINT or SIGTERM, or until the pipe `lifeline` is closed at its other end.

    `announce` gets the URL once the port is open.
    """
    asyncio.run(_serve(config, announce, lifeline))


async def _serve(config: Config, announce: Callable[[str], None], lifeline: int | None) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    if lifeline is not None:
        pipe = lifeline

        def read() -> None:
            if not os.read(pipe, 1024):
                loop.remove_reader(pipe)
                over.set()

        loop.add_reader(pipe, read)
    async with Sandbox(config) as sandbox:
        announce(sandbox.url)
        await over.wait()
