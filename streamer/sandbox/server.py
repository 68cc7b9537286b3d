"""The sandbox server, running in one event loop."""

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial

from streamer.memory import tune_garbage_collection
from streamer.sandbox.clock import Clock
from streamer.sandbox.config import Config
from streamer.sandbox.control import Control
from streamer.sandbox.http import MAX_HEAD, serve_connection

_BACKLOG = 1024


def serve(config: Config, announce: Callable[[str], None], lifeline: int | None = None) -> None:
    """Run until SIGINT or SIGTERM, or until the other end of the pipe `lifeline` is closed.

    Calls in progress at that point are dropped.

    Args:
        announce: called with the URL once the port is open.

    Raises:
        OSError: the port is in use.
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
    clock = Clock()
    serve_one = partial(serve_connection, Control(config, clock).handle, wall=clock.wall)
    server = await asyncio.start_server(
        serve_one, config.host, config.port, limit=MAX_HEAD, backlog=_BACKLOG
    )
    port: int = server.sockets[0].getsockname()[1]
    tune_garbage_collection()
    announce(f"http://{config.host}:{port}")
    await over.wait()
    server.close()
