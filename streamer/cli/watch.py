"""`streamer watch`: show the progress of campaigns live."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from streamer.cli.common import (
    ConfigOption,
    parse_campaign,
    read_settings,
    redis_client,
    say,
)
from streamer.cli.completion import complete_campaign
from streamer.cli.counted import sent_and_left
from streamer.cli.names import require_campaign
from streamer.cli.output import on_terminal, warn
from streamer.cli.progress import warn_if_open
from streamer.cli.watch_view import line
from streamer.cli.watching import Backlog, Overview, WatchedCampaign, Watcher
from streamer.errors import DONE, FAILED, INTERRUPTED
from streamer.ledger import campaigns
from streamer.ledger.connection import REDIS_ERRORS, Client
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.instants import as_local_text
from streamer.model.plural import plural
from streamer.progress.report import Report, Reporter
from streamer.progress.store import Store
from streamer.settings import Settings

_EVERY_S = 1.0
_END_S = 5.0
_LINES_EVERY_S = 10.0
_SAY_EVERY_S = 30.0


def watch(
    campaign: Annotated[
        CampaignName | None,
        typer.Argument(
            metavar="[CAMPAIGN]",
            parser=parse_campaign,
            autocompletion=complete_campaign,
            help="Only this campaign.",
        ),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Show the progress of one or all campaigns until Ctrl-C, or until the one is over.

    On a terminal, keys pause and resume campaigns. Elsewhere, prints a line per campaign from time
    to time. Goes on while Kafka or Redis is away, and says so.
    """
    settings = read_settings(config)
    with redis_client(settings) as client, _backlog(settings) as backlog:
        if campaign is not None:
            require_campaign(client, settings, campaign)
            report = Reporter(client, Store(client, settings.kafka.group_id)).report(campaign)
            if report is not None and not report.is_complete:
                warn_if_open(report)
        watcher = Watcher(settings, client, campaign, backlog)
        ended = partial(end_of, campaign)
        try:
            if on_terminal():
                code = _on_screen(client, watcher, ended)
            else:
                code = _in_lines(watcher, ended)
        except KeyboardInterrupt:
            code = INTERRUPTED
    raise typer.Exit(code)


@contextmanager
def _backlog(settings: Settings) -> Iterator[Callable[[], tuple[int | None, str | None]]]:
    """Measure the backlog on a thread of its own, as Kafka may take long to answer."""
    backlog = Backlog(settings)
    measured: list[tuple[int | None, str | None]] = [(backlog.measure(), backlog.outage)]
    stop = threading.Event()

    def measure() -> None:
        while not stop.wait(_EVERY_S):
            measured[0] = (backlog.measure(), backlog.outage)

    thread = threading.Thread(target=measure, name="backlog", daemon=True)
    thread.start()
    try:
        yield lambda: measured[0]
    finally:
        stop.set()
        # Or the interpreter would end under a call of the Kafka client.
        thread.join(_END_S)


def end_of(campaign: CampaignName | None, view: Overview) -> int | None:
    """Return the exit code if the view is the last one: the only campaign is complete, or is
    cancelled and never will be."""
    if campaign is None or view.outages:
        return None
    reports = [each.report for each in view.campaigns]
    if any(report.state is CampaignState.CANCELLED for report in reports):
        return FAILED
    return DONE if all(report.is_complete for report in reports) else None


def _on_screen(client: Client, watcher: Watcher, ended: Callable[[Overview], int | None]) -> int:
    from streamer.cli.watch_app import Act, WatchApp

    def do(act: Act, name: CampaignName) -> str:
        try:
            change = campaigns.pause if act == "pause" else campaigns.resume
            state, waits_until = change(client, *name)
        except REDIS_ERRORS as error:
            return f"{name}: nothing was changed: {error}"
        if waits_until is not None and state is CampaignState.PAUSED:
            return f"{name}: waits for its start, {as_local_text(waits_until)}"
        return f"{name}: {state.value}"

    app = WatchApp(watcher.look, ended, question, do)
    code = app.run()
    if app.view is not None:
        _say(app.view)
    return DONE if code is None else code


def question(act: str, campaign: WatchedCampaign) -> str:
    """Return what will happen when a campaign is paused or resumed, in numbers."""
    sent, left = sent_and_left(campaign.report)
    then = "are parked until it is resumed" if act == "pause" else "are sent"
    return (
        f"{act.capitalize()} {campaign.report.name}? It is {campaign.words}: "
        f"{plural(sent, 'recipient')} sent; the other {left:,} that are known, "
        f"and all that may follow, {then}."
    )


def _in_lines(watcher: Watcher, ended: Callable[[Overview], int | None]) -> int:
    lines = _Lines()
    while True:
        view = watcher.look()
        lines.show(view)
        code = ended(view)
        if code is not None:
            return code
        time.sleep(_EVERY_S)


def _say(view: Overview) -> None:
    for each in view.campaigns:
        say(line(each, view.now))


class _Lines:
    """Prints campaigns that changed, at a limited rate; and outages and troubles, at once and
    again: else nothing would tell why nothing changes."""

    def __init__(self) -> None:
        self._shown: dict[CampaignName, tuple[float, Report, str]] = {}
        self._warned_at: float | None = None
        self._troubled_at: float | None = None

    def show(self, view: Overview) -> None:
        now = time.monotonic()
        self._warn(view, now)
        for each in view.campaigns:
            report = each.report
            shown = self._shown.get(report.name)
            if shown is not None:
                at, *before = shown
                is_new = before != [report, each.words]
                if not is_new or (now - at < _LINES_EVERY_S and not report.is_complete):
                    continue
            self._shown[report.name] = now, report, each.words
            say(line(each, view.now))

    def _warn(self, view: Overview, now: float) -> None:
        if not view.outages:
            if self._warned_at is not None:
                warn("Kafka and Redis answer again")
            self._warned_at = None
        elif self._warned_at is None or now - self._warned_at >= _SAY_EVERY_S:
            self._warned_at = now
            for outage in view.outages:
                warn(outage)
        if not view.troubles:
            self._troubled_at = None
        elif self._troubled_at is None or now - self._troubled_at >= _SAY_EVERY_S:
            self._troubled_at = now
            for trouble in view.troubles:
                warn(trouble)
