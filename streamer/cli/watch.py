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
from streamer.cli.watch_view import line
from streamer.cli.watching import Backlog, View, WatchedCampaign, Watcher
from streamer.errors import DONE, INTERRUPTED
from streamer.ledger import campaigns
from streamer.ledger.connection import REDIS_ERRORS, Client
from streamer.model.campaign import CampaignName, CampaignState
from streamer.model.instants import as_local_text
from streamer.model.plural import plural
from streamer.progress.report import Report
from streamer.settings import Settings

_EVERY_S = 1.0
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
    """Show the progress of one or all campaigns until Ctrl-C, or until the one is complete.

    On a terminal, keys pause and resume campaigns. Elsewhere, prints a line per campaign from time
    to time. Goes on while Kafka or Redis is away, and says so.
    """
    settings = read_settings(config)
    with redis_client(settings) as client, _backlog(settings) as backlog:
        if campaign is not None:
            require_campaign(client, settings, campaign)
        watcher = Watcher(settings, client, campaign, backlog)
        is_done = partial(_is_complete, campaign)
        try:
            if on_terminal():
                code = _on_screen(client, watcher, is_done)
            else:
                code = _in_lines(watcher, is_done)
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

    threading.Thread(target=measure, name="backlog", daemon=True).start()
    try:
        yield lambda: measured[0]
    finally:
        stop.set()


def _is_complete(campaign: CampaignName | None, view: View) -> bool:
    if campaign is None or view.outages:
        return False
    return all(each.report.is_complete for each in view.campaigns)


def _on_screen(client: Client, watcher: Watcher, is_done: Callable[[View], bool]) -> int:
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

    app = WatchApp(watcher.look, is_done, question, do)
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


def _in_lines(watcher: Watcher, is_done: Callable[[View], bool]) -> int:
    lines = _Lines()
    while True:
        view = watcher.look()
        lines.show(view)
        if is_done(view):
            return DONE
        time.sleep(_EVERY_S)


def _say(view: View) -> None:
    for each in view.campaigns:
        say(line(each, view.now))


class _Lines:
    """Prints campaigns that changed, at a limited rate; and each outage, at once and again."""

    def __init__(self) -> None:
        self._shown: dict[CampaignName, tuple[float, Report, str]] = {}
        self._warned_at: float | None = None

    def show(self, view: View) -> None:
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

    def _warn(self, view: View, now: float) -> None:
        if not view.outages:
            if self._warned_at is not None:
                warn("Kafka and Redis answer again")
            self._warned_at = None
        elif self._warned_at is None or now - self._warned_at >= _SAY_EVERY_S:
            self._warned_at = now
            for outage in view.outages:
                warn(outage)
