"""Definitions: read once a version, and never more than the memory is to hold."""

from typing import cast

import pytest

from streamer.ledger.connection import Client
from streamer.model.campaign import Message
from streamer.worker.definitions import Definitions


class _DefinitionLedger:
    """Has a definition of each campaign whose id does not begin with `no`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.read: list[str] = []
        self.version = "1"

    def load_message(
        self, client: Client, organization: str, campaign_id: str
    ) -> tuple[str, Message] | None:
        self.read.append(campaign_id)
        if campaign_id.startswith("no"):
            return None
        fields = {"from": "a@acme.test", "subject": campaign_id, "text": self.text}
        return self.version, Message.model_validate(fields)


def _definitions(
    ledger: _DefinitionLedger, monkeypatch: pytest.MonkeyPatch, most_bytes: int = 1_000_000
) -> Definitions:
    monkeypatch.setattr("streamer.ledger.campaigns.load_message", ledger.load_message)
    return Definitions(cast(Client, None), most_bytes)


def test_each_version_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = _DefinitionLedger("x")
    definitions = _definitions(ledger, monkeypatch)
    for version in ("1", "1", "2", "2", "1"):
        ledger.version = version
        message = definitions.message("acme", "c", version)
        assert message is not None
        assert message.subject == "c"
    assert definitions.message("acme", "c", None) is None
    assert definitions.message("acme", "none", "1") is None
    assert ledger.read == ["c", "c", "c", "none"]


@pytest.mark.parametrize(
    ("text", "kept"), [("x" * 50_000, 18), ("é" * 50_000, 18), ("😀" * 50_000, 4)]
)
def test_the_cache_is_limited_in_bytes(
    text: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = _DefinitionLedger(text)
    definitions = _definitions(ledger, monkeypatch)
    for number in range(40):
        definitions.message("acme", f"c{number}", "1")
        definitions.message("acme", "used", "1")
    ledger.read.clear()
    for number in reversed(range(40 - kept + 1, 40)):
        definitions.message("acme", f"c{number}", "1")
    definitions.message("acme", "used", "1")
    assert ledger.read == []
    definitions.message("acme", f"c{40 - kept - 1}", "1")
    assert ledger.read == [f"c{40 - kept - 1}"]


def test_an_oversized_definition_is_cached_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = _DefinitionLedger("x" * 2_000_000)
    definitions = _definitions(ledger, monkeypatch)
    for campaign_id in ("a", "a", "b", "b", "a"):
        definitions.message("acme", campaign_id, "1")
    assert ledger.read == ["a", "b", "a"]


def test_a_new_version_replaces_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = _DefinitionLedger("x" * 50_000)
    definitions = _definitions(ledger, monkeypatch)
    definitions.message("acme", "kept", "1")
    for number in range(40):
        ledger.version = str(number)
        definitions.message("acme", "changed", ledger.version)
    ledger.read.clear()
    definitions.message("acme", "kept", "1")
    assert ledger.read == []
