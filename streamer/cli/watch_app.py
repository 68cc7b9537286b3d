"""`streamer watch` on a terminal: refreshed every second, with keys to pause and resume."""

import time
from collections.abc import Callable
from typing import ClassVar, Literal

from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Footer, Static
from textual.worker import get_current_worker

from streamer.cli import watch_view
from streamer.cli.watching import Overview, WatchedCampaign
from streamer.errors import INTERRUPTED
from streamer.model.campaign import CampaignName

Act = Literal["pause", "resume"]
Question = Callable[[Act, WatchedCampaign], str]
"""Returns what will happen, to be confirmed."""
Do = Callable[[Act, CampaignName], str]
"""Does it and returns what came of it. May block."""

_EVERY_S = 1.0


class _Confirmation(ModalScreen[bool]):
    """A question, answered by y or n."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]
    CSS = """
    _Confirmation { align: center middle; }
    _Confirmation Static { width: auto; max-width: 90%; padding: 1 2; border: round $accent; }
    """

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        yield Static(f"{self._question}\n\nGo on? y/n", markup=False)

    def action_answer(self, is_wanted: bool) -> None:
        self.dismiss(is_wanted)


class WatchApp(App[int]):
    """The live view.

    Args:
        look: returns what to show; called in a thread of its own.
        ended: returns the exit code if the view is the last one.
        question: asked before a campaign is paused or resumed.
        do: pauses or resumes a campaign.
    """

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "select(-1)", "Up", show=False),
        Binding("down,j", "select(1)", "Next", key_display="↑↓"),
        Binding("p", "change('pause')", "Pause"),
        Binding("r", "change('resume')", "Resume"),
        Binding("q", "quit_with(0)", "Quit"),
        Binding("ctrl+c", f"quit_with({INTERRUPTED})", "Quit", show=False, priority=True),
    ]
    CSS = """
    Screen { background: $background; }
    #head, #foot { height: auto; padding: 0 1; }
    #foot { border-top: solid $panel; }
    VerticalScroll { padding: 0 1; height: 1fr; }
    """

    def __init__(
        self,
        look: Callable[[], Overview],
        ended: Callable[[Overview], int | None],
        question: Question,
        do: Do,
    ) -> None:
        super().__init__()
        self._look = look
        self._ended = ended
        self._question = question
        self._do = do
        self._selected: CampaignName | None = None
        # Kept, not queried: the last view may come while the screen is being taken down.
        self._head, self._foot = Static(id="head"), Static(id="foot")
        self._list = Static("looking …")
        self._room = VerticalScroll(self._list, can_focus=False)
        self.view: Overview | None = None

    def compose(self) -> ComposeResult:
        yield self._head
        yield self._room
        yield self._foot
        yield Footer()

    def on_mount(self) -> None:
        self._refresh_forever()

    @work(thread=True)
    def _refresh_forever(self) -> None:
        while True:
            view = self._look()
            if get_current_worker().is_cancelled:
                return
            self.call_from_thread(self._take, view)
            time.sleep(_EVERY_S)

    def _take(self, view: Overview) -> None:
        self.view = view
        self._show()
        code = self._ended(view)
        if code is not None:
            self.exit(code)

    def _show(self) -> None:
        if self.view is None:
            return
        self._head.update(watch_view.head(self.view))
        number = self._number()
        self._list.update(watch_view.campaigns(self.view, number))
        self._foot.update(watch_view.foot(self.view))
        if number is not None:
            room = self._room
            top = number * watch_view.LINES_OF_ONE
            if top < room.scroll_y:
                room.scroll_to(y=top, animate=False)
            elif top + watch_view.LINES_OF_ONE > room.scroll_y + room.size.height:
                room.scroll_to(y=top + watch_view.LINES_OF_ONE - room.size.height, animate=False)

    def _names(self) -> list[CampaignName]:
        return [] if self.view is None else [each.report.name for each in self.view.campaigns]

    def _number(self) -> int | None:
        names = self._names()
        return names.index(self._selected) if self._selected in names else None

    def action_select(self, by: int) -> None:
        names = self._names()
        if names:
            number = self._number()
            new = 0 if number is None else max(0, min(len(names) - 1, number + by))
            self._selected = names[new]
            self._show()

    def action_change(self, act: Act) -> None:
        names = self._names()
        if self._selected is None and len(names) == 1:
            self._selected = names[0]
        number = self._number()
        if number is None or self.view is None:
            self.notify("choose a campaign first: ↑ ↓", severity="warning", markup=False)
            return
        campaign = self.view.campaigns[number]

        def answered(is_wanted: bool | None) -> None:
            if is_wanted:
                self._change(act, campaign.report.name)

        self.push_screen(_Confirmation(self._question(act, campaign)), answered)

    @work(thread=True)
    def _change(self, act: Act, name: CampaignName) -> None:
        self.call_from_thread(self.notify, self._do(act, name), markup=False)

    def action_quit_with(self, code: int) -> None:
        self.exit(code)
