"""This worker's cache of campaign definitions."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.model.campaign import Message, memory_of

_MAX_BYTES = 32_000_000


class Definitions:
    """LRU cache of campaign messages, reloaded when the definition's version changes.

    Args:
        most_bytes: approximate memory limit.
    """

    def __init__(self, client: Client, most_bytes: int = _MAX_BYTES) -> None:
        self._client = client
        self._most_bytes = most_bytes
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def message(self, organization: str, campaign_id: str, version: str | None) -> Message | None:
        """The campaign's message, or None if it has no definition.

        Args:
            version: version of the definition, from the ledger's probe.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if version is None:
            return None
        key = (organization, campaign_id)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known.version == version:
                self._known.move_to_end(key)
                return known.message
        loaded: tuple[str, Message] | None = campaigns.load_message(
            self._client, organization, campaign_id
        )
        if loaded is None:
            return None
        self._keep(key, _Known(*loaded, memory_of(loaded[1])))
        return loaded[1]

    def _keep(self, key: tuple[str, str], known: "_Known") -> None:
        with self._lock:
            before = self._known.pop(key, None)
            self._bytes += known.size - (before.size if before is not None else 0)
            self._known[key] = known
            while self._bytes > self._most_bytes and len(self._known) > 1:
                _, oldest = self._known.popitem(last=False)
                self._bytes -= oldest.size


@dataclass(frozen=True, slots=True)
class _Known:
    version: str
    message: Message
    size: int
