"""What `docs/deploying.md` shows for Kafka and Redis, their clients take."""

from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from redis.connection import parse_url

from streamer.kafka.properties import COMMAND, client_properties
from streamer.settings import load
from tests.unit.test_docs import DOCS, blocks

_SHOWN = blocks((DOCS / "deploying.md").read_text(encoding="utf-8"), "toml")
_KAFKA = [block for block in _SHOWN if "[kafka.properties]" in block]
_REDIS = [block for block in _SHOWN if "[redis]" in block]
_CERTIFICATES = Path(__file__).parents[1] / "kit" / "certificates"
_FILES = {
    "/etc/streamer/ca.pem": "ca.pem",
    "/etc/streamer/service.cert": "trusted.pem",
    "/etc/streamer/service.key": "key.pem",
}


@pytest.mark.parametrize("block", _KAFKA, ids=["msk", "confluent", "redpanda", "aiven"])
def test_librdkafka_takes_the_properties(block: str, tmp_path: Path) -> None:
    for shown, name in _FILES.items():
        block = block.replace(shown, str(_CERTIFICATES / name))
    path = tmp_path / "streamer.toml"
    path.write_text(block, encoding="utf-8")
    settings = load(path)
    assert settings.kafka.properties["security.protocol"] in ("SASL_SSL", "SSL")
    AdminClient(client_properties(settings, COMMAND))  # an unknown property raises an error


def test_redis_takes_the_url(tmp_path: Path) -> None:
    (block,) = _REDIS
    path = tmp_path / "streamer.toml"
    path.write_text(block, encoding="utf-8")
    options = parse_url(load(path).redis.url)  # type: ignore[no-untyped-call]  # redis-py
    assert (options["username"], options["host"], options["db"]) == ("streamer", "example.com", 0)
    assert options["ssl_ca_certs"] == "/etc/streamer/redis-ca.pem"
