"""What tests share: one Kafka and one Redis a session, and servers of their own to break."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from streamer.sandbox import SandboxProcess
from streamer.settings import RedisSettings as RedisSettings
from streamer.stack import KafkaServer, RedisServer, Stack
from tests.kit.harness import Harness

# How long an example takes says how busy the machine is.
settings.register_profile("streamer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("streamer"), max_examples=20)
settings.load_profile("streamer")


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Kafka and Redis for all tests that do not harm them."""
    with Stack.ephemeral() as both:
        yield both


@pytest.fixture
def make_kafka(tmp_path: Path) -> Iterator[Callable[[], KafkaServer]]:
    """Brokers to be killed, each started."""
    made: list[KafkaServer] = []

    def make() -> KafkaServer:
        made.append(KafkaServer(tmp_path / f"kafka-{len(made)}"))
        made[-1].start()
        return made[-1]

    yield make
    for kafka in made:
        kafka.stop()


@pytest.fixture
def make_redis(tmp_path: Path) -> Iterator[Callable[[], RedisServer]]:
    """Redis servers to be killed, each started."""
    made: list[RedisServer] = []

    def make() -> RedisServer:
        made.append(RedisServer(tmp_path / f"redis-{len(made)}"))
        made[-1].start()
        return made[-1]

    yield make
    for redis in made:
        redis.stop()


@pytest.fixture
def sandbox() -> Iterator[SandboxProcess]:
    """A stand-in for Resend, unthrottled."""
    with SandboxProcess(limit=None) as process:
        yield process


@pytest.fixture
def make_harness(
    stack: Stack, sandbox: SandboxProcess, tmp_path: Path
) -> Iterator[Callable[..., Harness]]:
    """Worlds on the shared servers, or on one that may be harmed instead of its like."""
    made: list[Harness] = []

    def make(
        kafka: KafkaServer | None = None,
        redis: RedisServer | None = None,
        stand_in: SandboxProcess | None = None,
        cluster: bool = False,
        through: RedisSettings | None = None,
    ) -> Harness:
        servers = stack.bootstrap_servers if kafka is None else kafka.bootstrap_servers
        url = stack.redis_url if redis is None else redis.url
        made.append(
            Harness(servers, url, stand_in or sandbox, tmp_path, cluster=cluster, through=through)
        )
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def harness(make_harness: Callable[..., Harness]) -> Harness:
    """A world on the shared servers."""
    return make_harness()
