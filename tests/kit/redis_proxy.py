"""A proxy in front of Redis that parses the protocol and can fail any command or reply."""

import ast
import asyncio
import hashlib
from collections import deque
from functools import lru_cache
from pathlib import Path

import streamer
from streamer.ledger.scripts import read
from tests.kit.local_server import LocalServer, abort
from tests.kit.points import PointKind, Script
from tests.kit.resp import Command, is_push, take_commands, take_reply

LATE_S = 1.5
"""Longer than the `socket_timeout` of the client, `CLIENT_WAITS_S`."""
CLIENT_WAITS_S = 0.7
FROZEN_S = 8.0

ANSWERS = {
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "NOREPLICAS": b"-NOREPLICAS Not enough good replicas to write.\r\n",
    "CLUSTERDOWN": b"-CLUSTERDOWN Hash slot not served\r\n",
    "BUSY": b"-BUSY Redis is busy running a script. You can only call SCRIPT KILL or "
    b"SHUTDOWN NOSAVE.\r\n",
    "MISCONF": b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to "
    b"persist to disk.\r\n",
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "TRYAGAIN": b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    "NOSCRIPT": b"-NOSCRIPT No matching script.\r\n",
}
_OF_WRITES = ("READONLY", "NOREPLICAS", "MISCONF", "OOM")
_WAY = ("request_lost", "request_late", "reply_lost", "reply_late", "reset", "reset_after")
ENDS = ("death", "death_after", "freeze", "freeze_after")
"""Faults of the worker itself, before the call is sent or after it was executed."""

_SCRIPTS = ("EVALSHA", "EVAL")
_READS = ("GET", "HGET", "HGETALL", "HMGET", "SMEMBERS", "SISMEMBER", "EXISTS", "PING", "INFO")
_HANDSHAKE = ("HELLO", "CLIENT", "SELECT", "AUTH", "ROLE", "CONFIG", "SCRIPT", "ACL")


def faults_of(name: str) -> tuple[str, ...]:
    """Return the possible faults of a command, given its name from `command_name`."""
    word = name.partition("(")[0]
    if word in _HANDSHAKE:
        return (*_WAY, *ENDS)
    answers = [answer for answer in ANSWERS if answer != "NOSCRIPT"]
    if word in _READS:
        answers = [answer for answer in answers if answer not in _OF_WRITES]
    if word.islower():
        answers.append("NOSCRIPT")
    return (*_WAY, *answers, *ENDS)


def command_name(words: list[bytes]) -> str:
    """Return the name of the script a command runs, or the command's name with its key."""
    word = words[0].decode().upper()
    if word in _SCRIPTS:
        # Some scripts are sent as text, with comments stripped.
        named = words[1].decode() if word == "EVALSHA" else _code(words[1].decode())
        name = _script_names().get(named, "script")
        return f"{name}({_key(words[3])})" if "." in name and len(words) > 3 else name
    return f"{word}({_key(words[1])})" if len(words) > 1 and word not in _HANDSHAKE else word


@lru_cache
def _script_names() -> dict[str, str]:
    """Return the names of all scripts in `streamer`, by digest and by code."""
    root, scripts = Path(streamer.__file__).parent, {}
    for path in root.rglob("*.lua"):
        is_of_ledger = path.parent.name == "ledger"
        scripts[path.stem] = read(path.stem) if is_of_ledger else path.read_text()
    for path in root.rglob("*.py"):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "redis.call(" in text else ():
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                script, target = node.value.value, node.targets[0]
                if isinstance(script, str) and isinstance(target, ast.Name):
                    scripts[f"{path.stem}.{target.id.strip('_').lower()}"] = script
    names = {_sha1(script): name for name, script in scripts.items()}
    names |= {_code(script): name for name, script in scripts.items()}
    return names


def _sha1(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()


def _code(script: str) -> str:
    lines = (line.strip() for line in script.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


def _key(key: bytes) -> str:
    """Return a key without its run-specific part: `*:epoch`, `streamer:relay:lease`,
    `streamer:workers`."""
    text = key.decode(errors="replace")
    if text.startswith("{"):
        return "*:" + text[text.index("}") + 2 :].split(":")[0]
    parts = text.split(":")
    return ":".join([*parts[:2], *parts[3:][-1:]])


class RedisProxy(LocalServer):
    """Listens on a free port of 127.0.0.1, in the running event loop."""

    def __init__(self, port: int, script: Script) -> None:
        super().__init__()
        self._upstream = port
        self._script = script

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_redis, to_redis = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            abort(writer)
            return
        link = _Link(self._script, reader, writer, from_redis, to_redis)
        await link.run()


class _Link:
    """One client connection."""

    def __init__(
        self,
        script: Script,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_redis: asyncio.StreamReader,
        to_redis: asyncio.StreamWriter,
    ) -> None:
        self._script = script
        self._reader, self._writer = reader, writer
        self._from_redis, self._to_redis = from_redis, to_redis
        self._expected: deque[str] = deque()
        """The action for each pending reply: "" to forward it, a fault's name to apply it, or a
        key of `ANSWERS` to give that reply to a command that was not forwarded to Redis."""
        self._deaf = False
        """Drop all further commands of the client."""
        self._lingering = False
        """A delayed command is still to be executed, even if the client has disconnected."""

    async def run(self) -> None:
        replies = asyncio.create_task(self._pass_replies())
        try:
            await self._pass_commands()
            while self._lingering:
                await asyncio.sleep(0.05)
        except (ConnectionError, ValueError):
            pass
        finally:
            replies.cancel()
            self._to_redis.close()
            self._writer.close()

    async def _pass_commands(self) -> None:
        buffer = bytearray()
        while data := await self._reader.read(1 << 16):
            buffer += data
            for command in take_commands(buffer):
                if not self._deaf:
                    await self._command(command)

    async def _command(self, command: Command) -> None:
        fault = self._script.at(PointKind.REDIS, command_name(command.words)) or ""
        if fault in ("request_lost", "reset", "death"):
            self._deaf = True
            if fault == "death":
                self._script.kill()
            if fault != "request_lost":
                abort(self._writer)
            return
        if fault in ANSWERS:
            self._expected.append(fault)
            self._give_answers()
            return
        if fault in ("request_late", "freeze"):
            self._lingering = True
            if fault == "freeze":
                self._script.freeze()
            await asyncio.sleep(LATE_S if fault == "request_late" else FROZEN_S)
        elif fault == "freeze_after":
            self._script.freeze()
        if fault in ("reply_lost", "request_late"):
            self._deaf = True  # the client drops the connection when its wait times out
        self._lingering |= fault == "reply_late"
        self._expected.append(fault)
        self._to_redis.write(command.raw)
        await self._to_redis.drain()

    def _give_answers(self) -> None:
        """Send the injected replies that are next in order."""
        while self._expected and self._expected[0] in ANSWERS:
            self._say(ANSWERS[self._expected.popleft()])

    def _say(self, reply: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(reply)

    async def _pass_replies(self) -> None:
        buffer = bytearray()
        try:
            while data := await self._from_redis.read(1 << 16):
                buffer += data
                while (reply := take_reply(buffer)) is not None:
                    await self._reply(reply)
        except (ConnectionError, ValueError):
            pass
        self._lingering = False
        abort(self._writer)

    async def _reply(self, reply: bytes) -> None:
        if is_push(reply) or not self._expected:
            self._say(reply)
            return
        fault = self._expected.popleft()
        if fault == "death_after":
            self._script.kill()
        if fault in ("death_after", "reset_after"):
            abort(self._writer)
            return
        if fault == "reply_late":
            await asyncio.sleep(LATE_S)
        self._lingering = False
        if fault not in ("reply_lost", "request_late"):
            self._say(reply)
        self._give_answers()
