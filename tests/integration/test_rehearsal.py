"""docker-compose.yml, played with processes: a trial, three workers, one killed, two stopped."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest
import urllib3

from streamer.stack import KafkaServer, RedisServer
from streamer.stack.ports import free_port
from tests.kit import compose
from tests.kit.compose import Container, Rehearsal
from tests.kit.harness import wait_until

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
TRIAL = compose.read_variables(ROOT / "config" / "compose" / "trial.env")

_SPRING = {
    "organization_id": "acme",
    "campaign_id": "spring-26",
    "from": "Acme <news@acme.test>",
    "subject": "Hello {{ name }}",
    "text": "Hello {{ name }}, {{ unsubscribe_url }}",
}
_FIRST, _SECOND = 3_000, 500
# What only a container engine can play. Each new entry is to be thought about.
_UNPLAYED = {
    "build", "cap_drop", "healthcheck", "image", "networks", "ports", "read_only", "restart",
    "security_opt", "stop_grace_period", "tmpfs", "prometheus", "grafana",
}  # fmt: skip


@pytest.fixture
def trial(
    make_kafka: Callable[[], KafkaServer], make_redis: Callable[[], RedisServer], tmp_path: Path
) -> Iterator[Rehearsal]:
    """The trial, with an embedded Kafka and Redis; nothing else is started yet."""
    sandbox_port = str(free_port())
    redis = make_redis()
    rehearsal = Rehearsal(
        compose.read_compose(FILE, TRIAL),
        ROOT,
        tmp_path,
        {
            "kafka:9092": make_kafka().bootstrap_servers,
            "redis:6379": f"127.0.0.1:{redis.port}",
            "http://sandbox.test:8025": f"http://127.0.0.1:{sandbox_port}",
            "0.0.0.0": "127.0.0.1",
            "8025": sandbox_port,
            "8080": str(free_port()),
        },
    )
    yield rehearsal
    rehearsal.close()


def _answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def _csv(numbers: range) -> bytes:
    rows = (f"r-{n},user{n}@example.com,N{n}\n" for n in numbers)
    return ("recipient_id,email,name\n" + "".join(rows)).encode()


def _stats(trial: Rehearsal) -> dict[str, object]:
    url = trial.addresses["http://sandbox.test:8025"]
    try:
        answer = urllib3.request("GET", f"{url}/stats", retries=False)
    except urllib3.exceptions.HTTPError:
        return {}
    found = orjson.loads(answer.data)
    assert isinstance(found, dict)
    return found


def _accepted(trial: Rehearsal) -> int:
    accepted = _stats(trial).get("accepted", 0)
    assert isinstance(accepted, int)
    return accepted


def _cli(trial: Rehearsal, *arguments: str, stdin: object = None) -> str:
    given = stdin if isinstance(stdin, bytes) or stdin is None else orjson.dumps(stdin)
    return trial.run("cli", *arguments, stdin=given)


def _outcomes(trial: Rehearsal, campaign: str) -> list[tuple[str, str]]:
    lines = _cli(trial, "outcomes", campaign, "--json").splitlines()
    found = [orjson.loads(line) for line in lines if line.startswith("{")]
    return sorted((each["recipient_id"], each["status"]) for each in found)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_scale_up_die_and_scale_down_and_all_counts_are_right(trial: Rehearsal) -> None:
    trial.run("topics")
    trial.start("sandbox")
    wait_until(lambda: _stats(trial), 30, "the sandbox serves")
    workers = [trial.start("worker") for _ in range(3)]
    _await_ready(workers)
    ids = [worker.worker_id for worker in workers]
    assert len(set(ids)) == 3

    _cli(trial, "campaign", "create", "-", stdin=_SPRING)
    produce = ("produce", "acme/spring-26", "-", "--format", "csv", "--done")
    _cli(trial, *produce, stdin=_csv(range(_FIRST)))
    wait_until(lambda: _accepted(trial) >= 200, 60, "they send")
    workers[1].kill()
    workers[1] = trial.start("worker")  # as `restart: unless-stopped` does
    _await_ready(workers)
    assert workers[1].worker_id == ids[1]
    _cli(trial, "progress", "acme/spring-26", "--wait", "--timeout", "120")
    assert _outcomes(trial, "acme/spring-26") == sorted((f"r-{n}", "sent") for n in range(_FIRST))
    for worker in workers:
        assert re.search(r"^streamer_records_consumed_total \d", worker.get("/metrics")[1], re.M)

    # Scale to 1.
    grace = compose.services(trial.compose)["worker"]["stop_grace_period"]
    for worker in workers[1:]:
        assert worker.stop(float(str(grace).removesuffix("s"))) == 0, worker.words()
    autumn = _SPRING | {"campaign_id": "autumn-26"}
    _cli(trial, "campaign", "create", "-", stdin=autumn)
    produce = ("produce", "acme/autumn-26", "-", "--format", "csv", "--done")
    _cli(trial, *produce, stdin=_csv(range(_SECOND)))
    _cli(trial, "progress", "acme/autumn-26", "--wait", "--timeout", "120")
    assert _outcomes(trial, "acme/autumn-26") == sorted((f"r-{n}", "sent") for n in range(_SECOND))

    gateway = trial.start("gateway")
    url = f"http://127.0.0.1:{trial.addresses['8080']}/healthz"
    wait_until(lambda: _answers(url), 60, "the gateway serves")
    assert gateway.stop(60) == 0

    stats = _stats(trial)
    assert (stats["accepted"], stats["accepted_twice"]) == (_FIRST + _SECOND, 0)
    assert workers[0].stop(60) == 0


def test_what_cannot_be_played_is_known() -> None:
    names = set(compose.unplayed(compose.read_compose(FILE, TRIAL)))
    print("not played:", ", ".join(sorted(names)))
    assert {name.partition(".")[2] or name for name in names} == _UNPLAYED


def _await_ready(workers: list[Container]) -> None:
    wait_until(lambda: all(worker.is_ready for worker in workers), 120, "the workers are ready")
