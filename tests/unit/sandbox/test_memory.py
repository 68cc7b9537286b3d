"""What a call leaves in memory, and for how long."""

import asyncio
import gc
import os

import orjson
import pytest

from streamer.sandbox import Config, Faults, serve, server
from streamer.sandbox.clock import Clock
from streamer.sandbox.control import Control
from streamer.sandbox.http import Request
from streamer.sandbox.rules import ParsedEmail

MAIL = {"from": "a@x.test", "to": "b@x.test", "subject": "Hi", "text": "Hi"}
HEADERS = {"host": "localhost", "user-agent": "tests", "authorization": "Bearer re_sandbox"}


def test_no_mail_is_in_memory_while_its_answer_waits() -> None:
    faults = Faults(hang_s=600)
    control = Control(Config(faults=faults, keep_mails=0), Clock())
    request = Request("POST", "/emails/batch", HEADERS, orjson.dumps([MAIL] * 3))

    async def run() -> None:
        call = asyncio.create_task(control.handle(request))
        while not control.stats().accepted:
            await asyncio.sleep(0)
        assert not any(isinstance(each, ParsedEmail) for each in gc.get_objects())
        control.faults(Faults(hang_s=0))
        assert (await call).status == 200

    asyncio.run(run())


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
