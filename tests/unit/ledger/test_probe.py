"""No script is asked about nobody."""

from typing import cast

import pytest

from streamer.ledger.connection import SingleClient
from streamer.ledger.epoch import Epoch
from streamer.ledger.probe import Probes


def test_a_probe_without_records_is_an_error() -> None:
    # Port 1: whoever asked Redis would fail in another way.
    probes = Probes(SingleClient(port=1), cast(Epoch, None))
    with pytest.raises(AssertionError, match="no records"):
        probes.of("acme", [])
