"""Runs projectors for a harness's campaigns and reads their progress."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from confluent_kafka import Producer

from streamer.feedback.applier import Applier
from streamer.kafka.shared import shared_consumer
from streamer.ledger.connection import Client, connect
from streamer.model.campaign import CampaignName
from streamer.progress.projector import Projector
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store
from tests.kit.harness import Harness
from tests.kit.operator import Answer, CommandRunner
from tests.kit.settings import settings_of


class Office:
    """Projects the progress of a harness's campaigns and reads it."""

    def __init__(self, harness: Harness, operator: CommandRunner, folder: Path) -> None:
        self.harness = harness
        self.settings = settings_of(harness)
        self.client: Client = connect(self.settings.redis)
        self.store = Store(self.client, harness.name)
        self._operator = operator
        self._folder = folder
        self._projectors: list[subprocess.Popen[bytes]] = []

    def progress(self, *arguments: str, code: int = 0) -> Answer:
        """Return the output of `progress --json` for the campaign."""
        return self._operator.answer("progress", self._operator.campaign, *arguments, code=code)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `streamer project`."""
        with self._log(len(self._projectors)).open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamer", "project", *arguments],
                env={**os.environ, **self._operator.environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        self._projectors.append(process)
        return process

    def log(self, number: int) -> str:
        """Return the output of the projector with this start index."""
        return self._log(number).read_text()

    @contextmanager
    def projecting(self) -> Iterator[None]:
        """Run a projector in a thread during the block, as a worker does."""
        stop = threading.Event()
        thread = threading.Thread(
            target=Projector(self.settings, shared_consumer(self.settings)).run, args=(stop,)
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    @contextmanager
    def applying(self) -> Iterator[None]:
        """Apply events in a thread during the block, as a worker does."""
        stop = threading.Event()
        thread = threading.Thread(
            target=Applier(self.settings, shared_consumer(self.settings)).run, args=(stop,)
        )
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not thread.is_alive()

    def report(self, campaign: str = "spring") -> Report | None:
        """Return the campaign's report, or None if nothing is counted yet."""
        name = CampaignName(self.harness.organization, campaign)
        return Reporter(self.client, self.store).report(name)

    def write(self, counts: dict[str, int], campaign: str = "spring") -> None:
        """Write a progress record, as a worker's transaction does."""
        name = CampaignName(self.harness.organization, campaign)
        value = {
            "organization_id": name.organization,
            "campaign_id": name.campaign_id,
            "counts": counts,
            "first": None,
            "last": None,
        }
        producer = Producer({"bootstrap.servers": self.harness.bootstrap_servers, "log_level": 0})
        producer.produce(self.harness.topics.progress, orjson.dumps(value), str(name))
        assert producer.flush(30) == 0

    def ended(self) -> int:
        """Return how many recipients of the campaign are resolved."""
        report = self.report()
        return report.ended if report else 0

    def parked(self) -> tuple[int, int]:
        """Return how many recipients were received, and how many are parked."""
        report = self.report()
        return (0, 0) if report is None else (report.counts.received, report.counts.parked)

    def summaries(self) -> list[Answer]:
        """Return all records of the results topic."""
        return [
            orjson.loads(message.value() or b"")
            for message in self.harness._read(self.harness.topics.results)
        ]

    def close(self) -> None:
        """Kill every running projector."""
        for process in self._projectors:
            if process.poll() is None:
                process.kill()
                process.wait(10)
        self.client.close()

    def _log(self, number: int) -> Path:
        return self._folder / f"project-{number}.log"
