"""The full-screen view of a run: tasks, nodes, graph and changes above, the log or the details of a task below."""

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import ContentSwitcher, DataTable, Footer, Static, TabbedContent, TabPane

from protocol.errors import FleetError
from protocol.text.ansi import printable_line
from sflow_ctl.cli.terminal.paint import wants_unicode
from sflow_ctl.cli.tui.ascii_driver import AsciiDriver
from sflow_ctl.cli.tui.dialogs import AskText, Confirm, Help, LeaveOrStop, Leaving
from sflow_ctl.cli.tui.feed import Feed
from sflow_ctl.cli.tui.headings import Banner, Title
from sflow_ctl.cli.tui.log_view import LogView
from sflow_ctl.cli.tui.steering import Steering, Verb
from sflow_ctl.cli.tui.tables import EventTable, GraphTable, NodeTable, TaskTable
from sflow_ctl.plan.secrets import SECRETS

LOOK_S = 0.5
"""How often it is drawn at most: a slow connection shall keep up."""
LEAST_FOR_BOTH = 20
"""Lines of a terminal that has room for the list and the log."""
HELP = """\
1 2 3 4    tasks, nodes, graph, changes
up, down   choose a task: its log is below
space      pin a task's log; several are merged
i          details instead of the log
z  enter   the log alone; again: as before
/          filter tasks: state:failed, node:n1, part of a name, !word
f  n       find in the log; the next place above
g          show only lines with a text
e          to the end of the log, and follow it

x  X       stop the task; stop the run
r          restart the task
k          send a signal to the task
p          pause, so that nothing new starts; again: unpause

ctrl+p     all commands        q  leave        ?  this text
"""
KEYS: list[BindingType] = [
    Binding("q", "leave", "Leave"),
    Binding("question_mark", "help", "Help", key_display="?"),
    Binding("i", "details", "Info"),
    Binding("space", "pin", "Pin"),
    Binding("slash", "filter_tasks", "Filter", key_display="/"),
    Binding("f", "find", "Find"),
    Binding("x", "steer('stop')", "Stop"),
    Binding("r", "steer('restart')", "Restart"),
    Binding("z", "zoom", "Zoom", show=False),
    Binding("n", "find_next", "Find next", show=False),
    Binding("g", "filter_log", "Filter log", show=False),
    Binding("e", "follow", "Follow log", show=False),
    Binding("k", "steer('signal')", "Signal", show=False),
    Binding("p", "pause", "Pause", show=False),
    Binding("X", "stop_run", "Stop run", show=False),
    *(Binding(str(number), f"show_view({number})", show=False) for number in range(1, 5)),
    Binding("ctrl+c", "leave", show=False, priority=True),
]


class RunApp(App[Leaving]):
    """One run on the whole screen. It stays open when the run has ended, until it is left."""

    CSS_PATH = "style.tcss"
    ENABLE_COMMAND_PALETTE = True
    _its_loop: asyncio.AbstractEventLoop | None = None
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(self, feed: Feed, directory: Path, steering: Steering, *, owns_run: bool = False) -> None:
        """With `owns_run` the view has started the run: who leaves is asked what becomes of it."""
        super().__init__(driver_class=None if wants_unicode(os.environ) else AsciiDriver)
        self.feed = feed
        self.animation_level = "none"
        self._directory = directory
        self._steering = steering
        self._owns_run = owns_run
        self._words = ""
        self._pinned: dict[str, None] = {}
        self._chosen = ""
        self._is_stale = True
        self._find = ""
        self._must_leave = False

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Title(id="title", markup=False)
        yield Banner(id="banner", markup=False)
        with TabbedContent(id="views"):
            for name, title, table in (
                ("tasks", "Tasks", TaskTable(id="task-table")),
                ("nodes", "Nodes", NodeTable(id="node-table")),
                ("graph", "Graph", GraphTable(id="graph-table")),
                ("changes", "Changes", EventTable(id="event-table")),
            ):
                with TabPane(title, id=name):
                    yield table
        yield Static(id="lower-title", markup=False)
        with ContentSwitcher(initial="log", id="switch"):
            yield LogView(id="log")
            with VerticalScroll(id="details"):
                yield Static(id="details-text", markup=False)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Begin to follow the run."""
        self._its_loop = asyncio.get_running_loop()
        if self._must_leave:
            self.exit("stop")
        self.title = f"sflow-ctl {self.feed.plan.workflow}"
        self.feed.on_news = self.news
        self.set_interval(LOOK_S, self._look)
        self.feed.start()
        self.query_one(TaskTable).focus()

    def news(self) -> None:
        """Note that there is something to draw; called by the feed's thread."""
        self._is_stale = True

    def on_resize(self, event: Resize) -> None:
        """Have a plain look where there is little room; where there is least, the list alone until `z`."""
        self.set_class(event.size.height < 30, "low")
        self.set_class(event.size.height < LEAST_FOR_BOTH, "least")
        self._is_stale = True

    # What is shown

    def _look(self) -> None:
        if len(self.screen_stack) != 1 or not self.screen.query(LogView):
            return  # a question is on top of it, or it is being taken down
        self.query_one(LogView).add(self.feed.take_lines())
        with self.feed.lock:
            self._draw_headings()
            if self._is_stale or not self.feed.is_over:
                self._is_stale = False
                self._draw_view()
                self._draw_details()

    def _draw_headings(self) -> None:
        """Draw the title; once the run has ended, how it did, with the task that failed first under the cursor."""
        self.query_one(Title).draw(self.feed, self._directory.name)
        if self.query_one(Banner).draw(self.feed):
            self._is_stale = True
            if self.feed.cause_task:
                self.query_one(TaskTable).choose(self.feed.cause_task)

    def _draw_view(self) -> None:
        feed, view = self.feed, self.query_one("#views", TabbedContent).active
        if view == "tasks":
            self.query_one(TaskTable).draw(feed.state, self._words, self._pinned, feed.usage)
        elif view == "nodes":
            self.query_one(NodeTable).draw(feed.state, feed.joined, feed.lost, feed.standing_still)
        elif view == "graph":
            self.query_one(GraphTable).draw(feed.state)
        else:
            self.query_one(EventTable).draw(feed.changes)
        tasks = list(self._pinned) or [self._chosen]
        follow = "" if self.query_one(LogView).is_following else "  (e: to the end)"
        follow += "  (z: back)" if self.has_class("zoomed") else ""
        what = "details of " + self._chosen if self._shows_details() else f"log of {', '.join(tasks)}{follow}"
        self.query_one("#lower-title", Static).update(f"── {what} ")

    def _shows_details(self) -> bool:
        return self.query_one("#switch", ContentSwitcher).current == "details"

    def _draw_details(self) -> None:
        if not self._shows_details() or not self._chosen:
            return
        lines = []
        for section in self.feed.details(self._chosen):
            lines += [section.title, *(f"  {line}" for line in section.lines), ""]
        text = "\n".join(printable_line(SECRETS.mask.text(line)) for line in lines)
        self.query_one("#details-text", Static).update(text)

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Show the log of the task on which the cursor is."""
        if isinstance(event.data_table, TaskTable) and event.row_key.value:
            self._choose(event.row_key.value)

    def on_data_table_row_selected(self) -> None:
        """Show the lower half alone."""
        self.action_zoom()

    def on_tabbed_content_tab_activated(self) -> None:
        """Draw the view that was chosen."""
        self._is_stale = True

    def _choose(self, task: str) -> None:
        if task == self._chosen:
            return
        self._chosen = task
        self._is_stale = True
        if not self._pinned:
            self._follow_logs((task,))

    def _follow_logs(self, tasks: tuple[str, ...]) -> None:
        log = self.query_one(LogView)
        log.add(self.feed.take_lines())
        log.keep(tasks)
        log.is_following = True
        self.feed.follow(tasks)

    # What keys do

    def action_show_view(self, number: int) -> None:
        """Show tasks, nodes, graph or changes."""
        views = self.query_one("#views", TabbedContent)
        views.active = ("tasks", "nodes", "graph", "changes")[number - 1]
        self._is_stale = True
        views.get_pane(views.active).query_one(DataTable).focus()

    def action_details(self) -> None:
        """Switch between log and details."""
        switch = self.query_one("#switch", ContentSwitcher)
        switch.current = "log" if switch.current == "details" else "details"
        self._is_stale = True

    def action_pin(self) -> None:
        """Keep the log of the chosen task in view, or no longer."""
        if not self._chosen:
            return
        if self._chosen in self._pinned:
            del self._pinned[self._chosen]
        else:
            self._pinned[self._chosen] = None
        self._is_stale = True
        self._follow_logs(tuple(self._pinned) or (self._chosen,))

    def action_zoom(self) -> None:
        """Give the lower half the whole screen, or what it had before."""
        self.toggle_class("zoomed")
        self._is_stale = True

    def action_follow(self) -> None:
        """Go to the end of the log."""
        self.query_one(LogView).follow()

    def action_filter_tasks(self) -> None:
        """Ask which tasks are listed."""
        hint = "state:failed  node:n1  a part of a name  !word"
        self.push_screen(AskText("Tasks that are listed", self._words, hint), self._filter_tasks)

    def _filter_tasks(self, words: str | None) -> None:
        if words is not None:
            self._words = words
            self._is_stale = True

    def action_filter_log(self) -> None:
        """Ask which lines of the log are shown."""
        self.push_screen(AskText("Only lines that contain", hint="empty: all lines"), self._filter_log)

    def _filter_log(self, text: str | None) -> None:
        if text is not None:
            self.query_one(LogView).filter(text)

    def action_find(self) -> None:
        """Ask for a text to find in the log."""
        self.push_screen(AskText("Find in the log", self._find), self._begin_find)

    def _begin_find(self, text: str | None) -> None:
        if text is not None:
            self._find = text
            self.action_find_next()

    def action_find_next(self) -> None:
        """Go to the next place of the text above."""
        if not self.query_one(LogView).search(self._find) and self._find:
            self.notify(f"not in the log: {self._find}", markup=False)

    def action_help(self) -> None:
        """Explain the keys."""
        self.push_screen(Help(HELP))

    def action_leave(self) -> None:
        """Leave; where the run was started by this view, ask first what becomes of it."""
        if self._owns_run and not self.feed.is_over:
            self.push_screen(LeaveOrStop(), self._leave)
        else:
            self.exit("leave")

    def _leave(self, how: Leaving | None) -> None:
        if how is not None:
            self.exit(how)

    def leave_at_once(self) -> None:
        """Leave without a question, before or after the view is there; called by handlers of signals."""
        self._must_leave = True
        if self._its_loop is not None:
            with suppress(RuntimeError):  # the view has ended
                self._its_loop.call_soon_threadsafe(self.exit, "stop")

    def _is_too_late(self) -> bool:
        """Say that a run that is over cannot be changed; return whether it is."""
        if self.feed.is_over:
            self.notify("the run has ended: nothing of it can be changed any more")
        return self.feed.is_over

    def action_stop_run(self) -> None:
        """Stop the whole run, after a question."""
        if not self._is_too_late():
            self._confirm("Stop the run?", "All its tasks are ended in order.", "stop", ())

    def action_pause(self) -> None:
        """Start no more tasks, or go on; after a question."""
        if self._is_too_late():
            return
        if self.feed.state.paused_by:
            self._confirm("Start tasks again?", f"Paused by {self.feed.state.paused_by}.", "unpause", ())
        else:
            self._confirm("Pause the run?", "What runs continues; no task is started.", "pause", ())

    def action_steer(self, verb: Verb) -> None:
        """Change the chosen tasks, after a question."""
        tasks = tuple(self._pinned) or (self._chosen,)
        if not tasks[0] or self._is_too_late():
            return
        if verb == "signal":
            self.push_screen(
                AskText(f"Signal for {', '.join(tasks)}", "HUP"),
                lambda name: (
                    self._confirm(f"Send {name} to {', '.join(tasks)}?", "", verb, tasks, name)
                    if name
                    else None
                ),
            )
        else:
            self._confirm(f"{verb.capitalize()} {', '.join(tasks)}?", "", verb, tasks)

    def _confirm(
        self, question: str, details: str, verb: Verb, tasks: tuple[str, ...], argument: str = ""
    ) -> None:
        def answered(is_sure: bool | None) -> None:
            if is_sure:
                self._act(verb, tasks, argument)

        self.push_screen(Confirm(question, details), answered)

    @work(thread=True)
    def _act(self, verb: Verb, tasks: tuple[str, ...], argument: str) -> None:
        try:
            said, severity = self._steering.act(verb, tasks, argument), "information"
        except FleetError as error:
            said = "\n".join(filter(None, (text for one in error.findings for text in (one.what, one.hint))))
            severity = "error"
        self.call_from_thread(self.notify, said, severity=severity, markup=False, timeout=8)

    def get_system_commands(self, _screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer the keys' actions in the palette."""
        for title, what, action in (
            ("Help", "Explain the keys", self.action_help),
            ("Filter tasks", "Choose which tasks are listed", self.action_filter_tasks),
            ("Find in the log", "Go to a text", self.action_find),
            ("Filter the log", "Show only lines with a text", self.action_filter_log),
            ("Details", "Switch between log and details", self.action_details),
            ("Pause", "Start no more tasks, or start tasks again", self.action_pause),
            ("Stop the run", "End all tasks in order", self.action_stop_run),
            ("Leave", "Close this view", self.action_leave),
        ):
            yield SystemCommand(title, what, action)
