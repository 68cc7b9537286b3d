"""`streamer demo`: three campaigns, one killed worker, and the counts."""

import signal
from types import FrameType

import typer
from confluent_kafka import KafkaException
from rich.console import Console

from streamer.cli.common import FAILED, JsonOption, fail, show_json, warn
from streamer.demo import ACTS, DemoError, DemoInterruptedError, Screen, run_demo, table
from streamer.ledger.connection import REDIS_ERRORS
from streamer.sandbox import SandboxError
from streamer.stack import StackError


def demo(as_json: JsonOption = False) -> None:
    """Send three campaigns through a fresh Kafka and Redis to a stand-in for Resend.

    Campaigns of 100 and 1,000 recipients with one worker, then one of 5,000 with two workers, one
    of which is killed halfway. The last one also writes to the readers of the second, except those
    who unsubscribed meanwhile or whose mail bounced. Each act is timed from just before its first
    event is produced until its last committed outcome is read back; the workers are already
    running.

    Exits with 1 if a count does not add up or a recipient was mailed twice. An act that takes too
    long is marked but does not fail the demo.
    """
    console = Console(stderr=as_json)
    screen = Screen(console)

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        screen.signal = number

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    try:
        with screen:
            reports = run_demo(ACTS, screen)
    except (DemoError, StackError, SandboxError, KafkaException, *REDIS_ERRORS) as error:
        fail(str(error))
    except DemoInterruptedError:
        raise typer.Exit(128 + screen.signal) from None
    problems = table.problems(reports)
    if as_json:
        show_json({"acts": [report.as_json() for report in reports], "ok": not problems})
        for problem in problems:
            warn(problem)
    else:
        table.show(console, reports)
    if problems:
        raise typer.Exit(FAILED)
