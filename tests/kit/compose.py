"""Reads docker-compose.yml as Compose does, and plays its services as processes of this machine.

A service of ours becomes a process with the service's command and environment, in which the names
of other services are replaced by their addresses here. Kafka and Redis are the caller's.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import urllib3
import yaml

from streamer.stack.ports import free_port

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Service = dict[str, Json]

_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?::([-?])([^}]*))?\})")
_SECRETS = "/run/secrets"
_METRICS_PORT = "STREAMER_METRICS__PORT"

PLAYED = frozenset({"command", "depends_on", "environment", "profiles", "secrets"})
"""What is played of a service of ours. `restart` and `stop_grace_period` are up to the test."""


class ComposeError(ValueError):
    """Compose would refuse the file; the message says why."""


def read_variables(path: Path) -> dict[str, str]:
    """Read a file of variables, as `--env-file` does."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def read_compose(path: Path, variables: Mapping[str, str]) -> dict[str, Json]:
    """Read the file, with its variables replaced.

    Raises:
        ComposeError: a required variable is not set.
    """
    text = path.read_text(encoding="utf-8")
    return cast(dict[str, Json], _interpolated(yaml.safe_load(text), variables))


def _interpolated(value: Json, variables: Mapping[str, str]) -> Json:
    def replace(match: re.Match[str]) -> str:
        name, sign, text = match.groups()
        if name is None:
            return "$"
        found = variables.get(name, "")
        if sign == "?" and not found:
            raise ComposeError(f"required variable {name} is missing a value: {text}")
        return found or (text if sign == "-" else "")

    if isinstance(value, dict):
        return {key: _interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, variables) for each in value]
    return _VARIABLE.sub(replace, value) if isinstance(value, str) else value


def services(compose: Mapping[str, Json]) -> dict[str, Service]:
    """All services, by name."""
    return cast(dict[str, Service], compose["services"])


def is_ours(service: Service) -> bool:
    """Whether the service is built from this repository."""
    return service.get("build") == "."


def environment(service: Service) -> dict[str, str]:
    """The service's environment."""
    given = service.get("environment") or {}
    assert isinstance(given, dict)
    return {name: str(value) for name, value in given.items()}


def command(service: Service) -> list[str]:
    """The service's command; empty if it is for commands by hand."""
    given = service.get("command") or []
    assert isinstance(given, list)
    return [str(each) for each in given]


def unplayed(compose: Mapping[str, Json]) -> Iterator[str]:
    """Name what a rehearsal cannot play: services of others, and the rest of ours."""
    for name, service in services(compose).items():
        if is_ours(service):
            yield from (f"{name}.{key}" for key in sorted(service.keys() - PLAYED))
        elif name not in ("kafka", "redis"):
            yield name


@dataclass(slots=True)
class Container:
    """A process of a service."""

    service: str
    process: subprocess.Popen[bytes]
    log: Path
    metrics_port: int

    def words(self) -> str:
        """What it has written."""
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Ask its endpoints; (0, "") if it does not answer."""
        url = f"http://127.0.0.1:{self.metrics_port}{path}"
        try:
            answer = urllib3.request("GET", url, retries=False)
        except urllib3.exceptions.HTTPError:
            return 0, ""
        return answer.status, answer.data.decode()

    @property
    def is_ready(self) -> bool:
        """Whether `/readyz` says so."""
        return self.get("/readyz")[0] == 200

    @property
    def worker_id(self) -> str:
        """The id that it announced at its start."""
        (found,) = re.findall(r"^ *workers +1, id (\S+)$", self.words(), re.MULTILINE)
        return str(found)

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, grace_s: float) -> int:
        """Stop it as Compose does, and return its exit code."""
        self.process.terminate()
        return self.process.wait(grace_s)


@dataclass(slots=True)
class Rehearsal:
    """Plays the services.

    Args:
        addresses: by the address that services use for another, the address here.
        folder: for logs, and instead of `/tmp`.
    """

    compose: Mapping[str, Json]
    root: Path
    folder: Path
    addresses: dict[str, str]
    containers: list[Container] = field(default_factory=list)

    def start(self, name: str, *arguments: str, stdin: bytes | None = None) -> Container:
        """Start a container of a service.

        Args:
            arguments: replace the service's command, as those of `docker compose run`.
            stdin: given to the process.
        """
        service = services(self.compose)[name]
        assert is_ours(service)
        port = free_port()
        variables = {key: self._here(value) for key, value in environment(service).items()}
        log = self.folder / f"{name}-{len(self.containers)}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamer"]
                + [self._here(each) for each in (arguments or command(service))],
                # Ports are each container's own there.
                env={**self._outside(), **variables, _METRICS_PORT: str(port)},
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        if process.stdin is not None:
            process.stdin.write(stdin or b"")
            process.stdin.close()
        container = Container(name, process, log, port)
        self.containers.append(container)
        return container

    def run(self, name: str, *arguments: str, stdin: bytes | None = None) -> str:
        """Run a container to its end, and return what it has written."""
        container = self.start(name, *arguments, stdin=stdin)
        assert container.process.wait(120) == 0, container.words()
        return container.words()

    def close(self) -> None:
        """Kill all containers."""
        for container in self.containers:
            with suppress(ProcessLookupError):
                os.killpg(container.process.pid, signal.SIGKILL)
            container.process.wait(10)

    def _here(self, text: str) -> str:
        for there, here in self.addresses.items():
            text = text.replace(there, here)
        secrets = cast(dict[str, dict[str, str]], self.compose["secrets"])
        for name, secret in secrets.items():
            text = text.replace(f"{_SECRETS}/{name}", str(self.root / secret["file"]))
        return text

    def _outside(self) -> dict[str, str]:
        kept = ("PATH", "PYTHONPATH", "HOME", "LANG")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "TMPDIR": str(self.folder),
        }
