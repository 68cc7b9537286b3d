"""No script is asked about nobody."""

from typing import cast

import pytest

from streamer.ledger.connection import SingleClient
from streamer.ledger.epoch import Epoch
from streamer.ledger.probe import Probes


def test_nobody_is_no_question() -> None:
    # Port 1: whoever asked Redis would fail in another way.
    probes = Probes(SingleClient(port=1), cast(Epoch, None))
    with pytest.raises(AssertionError, match="nobody"):
        probes.of("acme", [])
