"""A snapshot of a Redis server's data, to be restored later."""

import shutil
from pathlib import Path

from streamer.stack import RedisServer

_DATA = "appendonlydir"


class RedisSnapshot:
    """What a server had when this was taken; the server may run."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self._data = server.folder / _DATA
        self._copy = folder
        shutil.copytree(self._data, self._copy)

    def restore(self, server: RedisServer) -> None:
        """Restart the server with this data."""
        server.kill()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        server.start()
