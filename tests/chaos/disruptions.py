"""Temporary disruptions: account errors, operator holds and paused campaigns."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from streamer.ledger import campaigns
from streamer.ledger.connection import UNREACHABLE
from streamer.ledger.holds import By, Hold, Holds
from streamer.sandbox import Faults
from tests.kit.harness import Harness

CAMPAIGNS = ("spring", "summer", "autumn")
_ACCOUNT = "default"
_SHORTEST_S, _MAX_S = 1.0, 6.0
_KILLED = 0.5
_REPAIR_S = 2.0
_INSIST_S = 30.0
_REFUSALS = (
    Faults(quota="daily"),
    Faults(quota="monthly"),
    Faults(refuse_key="invalid_api_key"),
    Faults(refuse_key="suspended_api_key"),
    Faults(unverified_domains=frozenset({"acme.test"})),
)
_CALM = Faults(quota="none", refuse_key="none", unverified_domains=frozenset())


class Disruptions:
    """Starts disruptions and ends each after a random time."""

    def __init__(self, harness: Harness, dice: random.Random) -> None:
        self._harness = harness
        self._dice = dice
        self._holds = Holds(harness.redis)
        self._ends: list[tuple[float, Callable[[], object]]] = []

    def refuse(self) -> None:
        """Make Resend reject the account or the sender, so that workers hold and probe it."""
        self._harness.sandbox.set_faults(self._dice.choice(_REFUSALS))
        self._end_later(lambda: self._harness.sandbox.set_faults(_CALM))

    def hold(self) -> None:
        """Put an operator's hold on the account."""
        hold = Hold(by=By.OPERATOR, reason="operator", detail="storm", since=datetime.now(UTC))
        _insist(lambda: self._holds.put(_ACCOUNT, None, hold))
        self._end_later(self._release)

    def pause(self) -> None:
        """Pause one of the campaigns."""
        campaign = self._dice.choice(CAMPAIGNS)
        organization = self._harness.organization
        _insist(lambda: campaigns.pause(self._harness.redis, organization, campaign))
        self._end_later(lambda: self._resume(campaign))

    def cancel(self) -> None:
        """Cancel one of the campaigns permanently."""
        campaign = self._dice.choice(CAMPAIGNS)
        organization = self._harness.organization
        _insist(lambda: campaigns.cancel(self._harness.redis, organization, campaign))

    def repair(self) -> None:
        """Retry failed recipients and replay dead letters, as an operator would.

        Either command may fail, for example if Kafka was just killed; what it wrote is kept.
        """
        campaign = f"{self._harness.organization}/{self._dice.choice(CAMPAIGNS)}"
        for command in (["retry", campaign, "--status", "failed"], ["dlq", "replay"]):
            with subprocess.Popen(
                [sys.executable, "-m", "streamer", *command],
                env={**os.environ, **self._harness.environment()},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                if self._dice.random() < _KILLED:
                    time.sleep(self._dice.random() * _REPAIR_S)
                    process.kill()

    def tend(self) -> None:
        """End the disruptions that are due."""
        now = time.monotonic()
        due = [end for until, end in self._ends if until <= now]
        self._ends = [(until, end) for until, end in self._ends if until > now]
        for end in due:
            end()

    def end_all(self) -> None:
        """End all holds, pauses and rejections, and the failures of `fail_addresses`."""
        self._ends.clear()
        self._harness.sandbox.set_faults(_CALM.model_copy(update={"fail_addresses": frozenset()}))
        for campaign in CAMPAIGNS:
            self._resume(campaign)
        self._release()

    def _end_later(self, end: Callable[[], object]) -> None:
        seconds = _SHORTEST_S + self._dice.random() * (_MAX_S - _SHORTEST_S)
        self._ends.append((time.monotonic() + seconds, end))

    def _release(self) -> None:
        _insist(lambda: self._holds.release(_ACCOUNT, None, By.OPERATOR))

    def _resume(self, campaign: str) -> None:
        organization = self._harness.organization
        _insist(lambda: campaigns.resume(self._harness.redis, organization, campaign))


def _insist(call: Callable[[], object]) -> None:
    """Retry, since the connection may be one to a killed Redis, or none is the primary."""
    until = time.monotonic() + _INSIST_S
    while True:
        try:
            call()
        except UNREACHABLE:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
