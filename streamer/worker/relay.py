"""Has one worker of the cluster at a time return parked records; see `streamer.worker.relaying`."""

import logging
import time
from contextlib import suppress
from threading import Thread

from confluent_kafka import KafkaException

from streamer.kafka.reading import ReadError
from streamer.kafka.shared import SharedConsumer
from streamer.ledger import keys
from streamer.ledger.connection import UNREACHABLE, Client
from streamer.ledger.lease import Lease
from streamer.settings import Settings
from streamer.worker.relaying import RelayError, RelaySession, SupersededError
from streamer.worker.scopes import ParkScopes
from streamer.worker.waiter import StoppedError, Waiter

logger = logging.getLogger(__name__)

_AWAIT_TURN_S = 1.0
_HOPELESS_S = 30.0


class Relay:
    """Owns the thread `relay`, which runs the relay while this worker holds the lease."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        scopes: ParkScopes,
        readers: SharedConsumer,
        waiter: Waiter,
    ) -> None:
        self._settings = settings
        self._client = client
        self._scopes = scopes
        self._readers = readers
        self._waiter = waiter
        self._lease = Lease(client, keys.relay_lease(settings.kafka.group_id))

        self._thread = Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Start the thread; it ends when the worker stops."""
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread to end."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            try:
                self._waiter.sleep(0)  # or a term that fails at once would outlive a stop
                if self._lease.hold():
                    self._run_as_leader()
                self._waiter.sleep(_AWAIT_TURN_S)
            except StoppedError:
                with suppress(*UNREACHABLE):  # otherwise the lease expires
                    self._lease.release()
                return
            except UNREACHABLE as error:
                logger.debug("cannot reach Redis, relay paused", extra={"error": str(error)})
                time.sleep(_AWAIT_TURN_S)
            except KafkaException as exception:
                logger.warning("relay failed, restarting", extra={"error": exception.args[0].str()})
                time.sleep(_AWAIT_TURN_S)
            except SupersededError:
                logger.info("another relay has returned parked records meanwhile, starting anew")
            except (RelayError, ReadError) as error:
                logger.error("cannot return parked records", extra={"cause": str(error)})
                with suppress(StoppedError):
                    self._waiter.sleep(_HOPELESS_S)

    def _run_as_leader(self) -> None:
        session = RelaySession(self._settings, self._client, self._scopes, self._readers)
        logger.debug("elected as the relay of parked records")
        try:
            while self._lease.hold():
                for _ in session.step():
                    self._waiter.sleep(0)
                    if not self._lease.hold():
                        return
                self._waiter.sleep(0)
        finally:
            session.close()
