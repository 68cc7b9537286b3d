"""An admin client that is there while it is used."""

import pytest
from confluent_kafka.admin import AdminClient

from streamer.kafka import on_demand
from streamer.kafka.on_demand import OnDemand


def test_a_client_is_kept_while_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AdminClient] = []

    def make() -> AdminClient:
        made.append(AdminClient({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}))
        return made[-1]

    closed: list[AdminClient] = []
    admin = OnDemand(make, closed.append)
    admin.rest()
    assert not made
    first = admin()
    admin.rest()
    assert admin() is first
    monkeypatch.setattr(on_demand, "IDLE_S", -1.0)
    admin.rest()
    assert closed == [first]
    assert admin() is not first
    assert len(made) == 2
