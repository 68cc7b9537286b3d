"""Faults of the Kafka client, injected by wrapping its producer and consumer in a test's worker or
gateway.

Before each call the process asks the test that started it, over a local socket, for a fault.
"""

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import confluent_kafka
from confluent_kafka import KafkaError, KafkaException, Message

from tests.kit.local_server import LocalServer
from tests.kit.points import PointKind, Script
from tests.kit.redis_proxy import ENDS

_TIMED_OUT = KafkaError(KafkaError._TIMED_OUT, "played: nobody answered", False, True, False)
_MOVED = KafkaError(KafkaError.NOT_COORDINATOR, "played: the coordinator moved", False, True, False)
_LOADS = KafkaError(
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, "played: the coordinator loads", False, True, False
)
_GENERATION = KafkaError(
    KafkaError.ILLEGAL_GENERATION, "played: another generation", False, False, True
)
_REFUSED = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "played: too large", False, False, False)
_FULL = KafkaError(KafkaError._QUEUE_FULL, "played: the queue is full", False, True, False)
_REFUSED_LATER = KafkaError(
    KafkaError._MSG_TIMED_OUT, "played: a record was not delivered", False, False, True
)
_NO_BROKER = KafkaError(KafkaError._TRANSPORT, "played: no broker", False, True, False)

_UNKNOWN_ENDS = ("unknown_end", "unknown_end_not_run", "coordinator_moved", "coordinator_loads")
_FAULTS: dict[str, tuple[str, ...]] = {
    "init_transactions": _UNKNOWN_ENDS,
    "begin_transaction": (),
    "send_offsets_to_transaction": (*_UNKNOWN_ENDS, "illegal_generation"),
    "commit_transaction": (*_UNKNOWN_ENDS, "refused_later"),
    "abort_transaction": ("unknown_end", "unknown_end_not_run", "coordinator_moved"),
    "produce": ("refused", "queue_full"),
    "produce_batch": ("refused", "queue_full"),
    "committed": ("unknown_end_not_run", "coordinator_moved", "coordinator_loads"),
    "list_topics": ("unknown_end_not_run", "no_broker"),
    "consume": ("no_broker_reported", "coordinator_moved_reported"),
    "poll": (),
    "flush": (),
    "subscribe": (),
    "incremental_assign": (),
    "incremental_unassign": (),
    "assign": (),
    "get_watermark_offsets": ("unknown_end_not_run", "no_broker"),
    "offsets_for_times": ("unknown_end_not_run", "no_broker"),
    "consumer_group_metadata": (),
    "commit": ("unknown_end", "unknown_end_not_run", "coordinator_moved"),
    "close": (),
}
"""The faults of each method that does I/O or changes client state, besides death and freezing.
`memberid`, `pause`, `resume`, `assignment` and `position` only access local state."""

_ERRORS = {
    "unknown_end": _TIMED_OUT,
    "unknown_end_not_run": _TIMED_OUT,
    "coordinator_moved": _MOVED,
    "coordinator_loads": _LOADS,
    "illegal_generation": _GENERATION,
    "refused": _REFUSED,
    "queue_full": _FULL,
    "refused_later": _REFUSED_LATER,
    "no_broker": _NO_BROKER,
}
_NOT_ACKNOWLEDGED = ("not_written", "written_unknown")
"""Faults of a record that a gateway writes: its callback is told that it was not delivered."""
_REPORTED = {"no_broker_reported": _NO_BROKER, "coordinator_moved_reported": _MOVED}
_KILLS = {"death": signal.SIGKILL, "freeze": signal.SIGSTOP}


def faults_of(name: str) -> tuple[str, ...]:
    """Return the faults of a call, given a name such as `committer.produce`."""
    more = _NOT_ACKNOWLEDGED if name == "gateway.produce" else ()
    return (*_FAULTS[name.rpartition(".")[2]], *more, *ENDS)


class KafkaReferee(LocalServer):
    """Tells a process which of its Kafka calls fail; runs in the running event loop."""

    def __init__(self, script: Script) -> None:
        super().__init__()
        self._script = script

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                fault = self._script.at(PointKind.KAFKA, line.decode().strip()) or ""
                if fault.startswith("freeze"):
                    self._script.expect_frost()
                writer.write(f"{fault}\n".encode())
        except ConnectionError:
            pass
        finally:
            writer.close()


class _Questions:
    """A thread-safe client of the referee."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._of_thread = threading.local()

    def ask(self, name: str) -> str:
        stream = getattr(self._of_thread, "stream", None)
        if stream is None:
            stream = socket.create_connection(("127.0.0.1", self._port)).makefile("rwb")
            self._of_thread.stream = stream
        try:
            stream.write(f"{name}\n".encode())
            stream.flush()
            line = stream.readline()
        except OSError:
            line = b""
        if not line:
            os._exit(1)  # the test is gone
        return str(line.decode().strip())


def put_into_modules(port: int) -> None:
    """Wrap all producers and consumers that `streamer` modules create from now on."""
    questions = _Questions(port)
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith("streamer."):
            continue
        for base in (confluent_kafka.Consumer, confluent_kafka.Producer):
            if getattr(module, base.__name__, None) is base:
                setattr(module, base.__name__, _wrapped(base, questions))


def _role(base: type[Any], client_id: str) -> str:
    """Return the client's role, used in the names of points."""
    for role in ("reader", "progress", "events", "gateway"):
        if client_id.endswith(f"-{role}"):
            return role
    consumer, producer = ("parked", "relay") if client_id == "relay" else ("source", "committer")
    return producer if base is confluent_kafka.Producer else consumer


def _wrapped(base: type[Any], questions: _Questions) -> type[Any]:
    def init(self: Any, config: dict[str, object], *args: Any, **options: Any) -> None:
        base.__init__(self, config, *args, **options)
        self.role = _role(base, str(config["client.id"]))
        self.is_over = set()

    methods: dict[str, object] = {"__init__": init}
    for name in _FAULTS:
        original = getattr(base, name, None)
        if original is not None:
            methods[name] = _method(name, original, questions)
    return type(base.__name__, (base,), methods)


def _ignore(error: KafkaError | None, message: Message) -> None:
    """Delivery callback of a record whose fate the process does not learn."""
    del error, message


def _method(name: str, original: Callable[..., Any], questions: _Questions) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        fault = questions.ask(f"{self.role}.{name}")
        if not fault and name in self.is_over:
            # The previous call succeeded but reported a timeout: calling it again is a no-op.
            self.is_over.discard(name)
            return None
        if fault in _KILLS:
            os.kill(os.getpid(), _KILLS[fault])
        if name == "produce_batch" and fault in ("refused", "queue_full") and args[1]:
            args[1][-1]["_error"] = _ERRORS[fault]
            return original(self, args[0], args[1][:-1]) if args[1][:-1] else 0
        if fault == "queue_full":
            raise BufferError(_ERRORS[fault])
        if fault in _ERRORS and fault != "unknown_end":
            raise KafkaException(_ERRORS[fault])
        if fault in _NOT_ACKNOWLEDGED:
            options["on_delivery"](_REFUSED_LATER, Message(error=_REFUSED_LATER))
            if fault == "written_unknown":
                original(self, *args, **{**options, "on_delivery": _ignore})
            return None
        if fault in _REPORTED:
            return [Message(error=_REPORTED[fault])]
        result = original(self, *args, **options)
        if fault == "unknown_end":
            if name in ("commit_transaction", "abort_transaction", "init_transactions"):
                self.is_over.add(name)
            raise KafkaException(_ERRORS[fault])
        if fault.endswith("_after"):
            os.kill(os.getpid(), _KILLS[fault.removesuffix("_after")])
        return result

    return method
