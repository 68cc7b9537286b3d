"""How the memory of a long run is kept."""

import os

import pytest

from streamer.sandbox import Config, serve, server


def test_the_garbage_collection_is_tuned_before_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(server, "tune_garbage_collection", lambda: steps.append("tuned"))
    reading, writing = os.pipe()
    os.close(writing)  # the server ends as soon as it runs
    serve(Config(), steps.append, lifeline=reading)
    os.close(reading)
    assert steps[0] == "tuned"
    assert len(steps) == 2
