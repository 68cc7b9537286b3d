"""The campaigns' definitions as this worker knows them."""

from collections import OrderedDict
from threading import Lock

from streamer.ledger import campaigns
from streamer.ledger.connection import Client
from streamer.model.campaign import Message

_MOST = 1024


class Definitions:
    """Messages of defined campaigns, read again when the definition's version changes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: OrderedDict[tuple[str, str], tuple[str, Message]] = OrderedDict()
        self._lock = Lock()

    def message(self, organization: str, campaign_id: str, version: str | None) -> Message | None:
        """The campaign's message; None if it has no definition.

        Args:
            version: of the definition, as the ledger's probe found it.

        Raises:
            redis.exceptions.RedisError: Redis cannot be used.
        """
        if version is None:
            return None
        key = (organization, campaign_id)
        with self._lock:
            known = self._known.get(key)
            if known is not None and known[0] == version:
                self._known.move_to_end(key)
                return known[1]
        loaded: tuple[str, Message] | None = campaigns.load_message(
            self._client, organization, campaign_id
        )
        if loaded is None:
            return None
        with self._lock:
            self._known[key] = loaded
            self._known.move_to_end(key)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return loaded[1]
