"""Follows a run for the full-screen view, in a thread of its own: states from the run's files, logs from them or the controller.

The view asks for a `Look` whenever it draws. Nothing here can change the run.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from msgspec import Struct

from protocol.errors import FleetError
from protocol.ids import AttemptId, RankId
from protocol.machine.loop_signals import QuietThread
from protocol.text.ansi import printable_line, text_without_escapes
from sflow_ctl.cli.options.run_option import state_text, workflow_files
from sflow_ctl.core.states import TaskState, Transition
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.planner.show.task_text import probe_text
from sflow_ctl.report.cause import first_cause, next_lines, resume_commands
from sflow_ctl.report.looking.explanation import RunFactsNow, explain
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.screen.task_details import Section, task_details
from sflow_ctl.report.screen.task_rows import Usage
from sflow_ctl.report.screen.usage import task_usage
from sflow_ctl.report.summary import Summary
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.telemetry.reader import read_newest
from sflow_ctl.runtime.viewing.client import Ended, LogOutput, OutputEnded, ViewerLink, ViewEvent
from sflow_ctl.runtime.viewing.files import FileWatch, watch_run
from sflow_ctl.runtime.viewing.journal_feed import NodeWatch
from sflow_ctl.runtime.viewing.messages import Change
from sflow_ctl.runtime.viewing.progress import read_progress

WAIT_S = 0.25
STATUS_EVERY_S = 1.0
RECENT_LINES = 200
"""Lines of a log that are shown of what came before."""
MAX_HISTORY = 50
"""Changes of a task that are kept."""
MAX_CHANGES = 500
MAX_WAITING_LINES = 5_000
"""Lines of logs that wait for the view; older ones are dropped and counted."""
MAX_PART_BYTES = 64 * 1024
"""A longer unfinished line is shown in parts."""


class LogLine(Struct, frozen=True):
    """A line of a task's log, safe for any terminal."""

    label: str
    text: str


class Feed:
    """The run as it is now. Its thread is the only one that reads the run; the view takes what it has found."""

    def __init__(self, reader: RunReader) -> None:
        """`reader` must not be used by others afterwards."""
        self._reader = reader
        self.on_news: Callable[[], None] = lambda: None
        """Called in the feed's thread whenever there is something to draw."""
        self._lock = threading.RLock()
        reader.guard = self._lock
        self._watch: ViewerLink | FileWatch | None = None
        self._thread = QuietThread(self._run, "feed")
        self._is_closing = threading.Event()
        self._wanted: tuple[str, ...] = ()
        self._followed: dict[RankId, str] = {}
        self._seen: set[str] = set()
        self._parts: dict[str, bytes] = {}
        self._lines: deque[LogLine] = deque(maxlen=MAX_WAITING_LINES)
        self._status_at = 0.0
        self._planned: dict[str, PlannedTask] = {}
        self._planned_in: Plan | None = None
        self._nodes = NodeWatch(reader.directory)
        self._nodes.guard = self._lock
        self.history: dict[str, list[tuple[int, Transition]]] = {}
        self.changes: deque[tuple[int, Transition]] = deque(maxlen=MAX_CHANGES)
        self.summary: Summary | None = None
        self.liveness = Liveness.RUNNING
        self.text = ""
        self.usage: Mapping[str, Usage] = {}
        """What live tasks use now, as far as it is measured."""
        self.problem = ""
        """Why nothing more can be read; empty while all is well."""

    @property
    def lock(self) -> threading.RLock:
        """Hold it while reading the state. The feed never reads a file while it does: a stalled file system stops no drawing."""
        return self._lock

    @property
    def state(self) -> RunView:
        """The tasks of the run."""
        return self._reader.state

    def _planned_task(self, name: str) -> PlannedTask:
        """Return a task of the plan in force: that changes while the run lives."""
        found = self._planned.get(name)
        if found is None or self._planned_in is not self.plan:
            self._planned_in = self.plan
            self._planned = {task.name: task for task in self.plan.tasks}
        return self._planned[name]

    @property
    def plan(self) -> Plan:
        """The plan of the run."""
        return self._reader.plan

    @property
    def standing_still(self) -> dict[str, str]:
        """What holds up the agents of nodes, by name."""
        return dict(self._reader.standing_still)

    @property
    def joined(self) -> frozenset[int]:
        """Nodes whose agents have joined."""
        return frozenset(self._nodes.joined)

    @property
    def lost(self) -> dict[int, str]:
        """Nodes that were lost, and why."""
        return self._nodes.lost

    @property
    def started_wall_ns(self) -> int:
        """When the run began, in ns since 1970."""
        return self._reader.facts.started_wall_ns

    @property
    def cause_task(self) -> str | None:
        """The task that failed first, once the run has ended."""
        cause = self.summary.cause if self.summary is not None else None
        return cause.task if cause is not None else None

    @property
    def is_bad(self) -> bool:
        """Return whether the run has ended without success."""
        return self.liveness is Liveness.DEAD or (self.summary is not None and self.summary.exit_status != 0)

    @property
    def is_over(self) -> bool:
        """Return whether the run has ended, or its controller has died."""
        return self.summary is not None or self.liveness is Liveness.DEAD

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """End the thread; a read that hangs is left behind."""
        self._is_closing.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(2.0)

    def follow(self, tasks: tuple[str, ...]) -> None:
        """Show the logs of these tasks, and of no others."""
        with self._lock:
            self._wanted = tasks

    def end_lines(self) -> list[str]:
        """Return how the run ended, the first cause before all; empty while it runs."""
        if not self.is_over:
            return []
        run = self._reader.directory.name  # short, and known to all commands of this user
        files = workflow_files(self._reader.facts)
        if self.summary is None:
            return [self.text, *next_lines(resume_commands(run, files), "  next:  ")]
        if self.summary.cause is None:
            return [self.text]
        return first_cause(self.state, self.summary.outcome, self.summary.cause, run=run, files=files)

    def details(self, name: str) -> list[Section]:
        """Return all that is known of a task."""
        facts = RunFactsNow(
            state=self.state,
            history=self.history,
            now_ns=self._reader.last_sign_ns() if self.is_over else time.time_ns(),
            joined=self.joined,
            lost=self.lost,
            is_live=not self.is_over,
            probe_text=probe_text,
        )
        return task_details(
            self._planned_task(name),
            explain(facts, name),
            self.history.get(name, ()),
            probe_text=probe_text,
            clock_text=clock_text,
        )

    def take_lines(self) -> list[LogLine]:
        """Return the lines that have come since the last call."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            return lines

    def _run(self) -> None:
        try:
            self._watch, _ = watch_run(self._reader)
            while not self._is_closing.is_set():
                self._look()
        except FleetError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"cannot read the run: {error.strerror or error}"
        finally:
            if self._watch is not None:
                self._watch.close()
        self.on_news()

    def _look(self) -> None:
        assert self._watch is not None
        events = self._watch.receive(WAIT_S)
        is_news = self._refresh()
        with self._lock:
            for event in events:
                is_news |= self._take(event)
        if any(isinstance(event, Ended) for event in events) and isinstance(self._watch, ViewerLink):
            self._watch_files()
        self._follow_wanted()
        if is_news:
            self.on_news()
        if self.is_over and not any(isinstance(event, LogOutput) for event in events):
            self._is_closing.wait(WAIT_S)  # a watch of an ended run returns at once, with its end

    def _refresh(self) -> bool:
        """Read the journal, and once a second whether the run is alive. Files are read without the lock."""
        is_news = False
        self._nodes.refresh()
        if not isinstance(self._watch, FileWatch):
            changes = self._reader.refresh()
            is_news = bool(changes)
            with self._lock:
                for change in changes:
                    self._note(change)
        now = time.monotonic()
        if now >= self._status_at:
            self._status_at = now + STATUS_EVERY_S
            before = (self.summary, self.liveness)
            liveness = self._reader.status().liveness  # first: a run that has ended has its summary
            summary = self._reader.summary()
            is_news |= summary is None and read_progress(self._reader.state, self._reader.directory)
            usage = {} if summary is not None or liveness is Liveness.DEAD else self._used()
            text = state_text(self._reader, summary)
            with self._lock:
                self.summary, self.liveness, self.usage, self.text = summary, liveness, usage, text
                if liveness is Liveness.DEAD:
                    self._reader.lose_live_tasks()
            is_news |= before != (summary, liveness)
        return is_news

    def _used(self) -> Mapping[str, Usage]:
        newest = read_newest(self._reader.directory)
        return task_usage(self._reader.state, newest, time.time_ns() // 1_000_000)

    def _note(self, change: Change) -> None:
        one = (change.wall_ns, change.transition)
        history = self.history.setdefault(change.transition.task, [])
        history.append(one)
        del history[:-MAX_HISTORY]
        self.changes.append(one)

    def _take(self, event: ViewEvent) -> bool:
        if isinstance(event, Change):
            if isinstance(self._watch, FileWatch):  # its reader is ours, and has applied it
                self._note(event)
            return True
        if isinstance(event, LogOutput):
            self._output(event)
            return True
        if isinstance(event, OutputEnded):
            self._finish_line(self._followed.get(event.rank, event.rank.attempt.task))
        return False

    def _watch_files(self) -> None:
        """Follow the run by its files, now that its controller says no more."""
        assert self._watch is not None
        self._watch.close()
        self._watch = FileWatch(self._reader)
        for rank in self._followed:
            self._watch.follow(rank, 0)

    def _output(self, event: LogOutput) -> None:
        label = self._followed.get(event.rank, event.rank.attempt.task)
        if event.skipped_lines:
            self._lines.append(LogLine(label, f"... {event.skipped_lines} lines are in {event.path}"))
        *whole, rest = (self._parts.pop(label, b"") + event.data).split(b"\n")
        if len(rest) > MAX_PART_BYTES:
            whole, rest = [*whole, rest], b""
        self._lines.extend(LogLine(label, _shown(line)) for line in whole[-MAX_WAITING_LINES:])
        if rest:
            self._parts[label] = rest

    def _finish_line(self, label: str) -> None:
        if rest := self._parts.pop(label, b""):
            self._lines.append(LogLine(label, _shown(rest)))

    def _follow_wanted(self) -> None:
        """Follow the newest attempt of each wanted task."""
        assert self._watch is not None
        names = self._wanted  # the view may choose others meanwhile
        wanted: dict[RankId, str] = {}
        for name in names:
            record = self._reader.state.tasks.get(name)
            if record is not None and record.attempts and record.state is not TaskState.STARTING:
                wanted[RankId(AttemptId(name, record.attempts), 0)] = name
        self._seen &= set(names)
        for rank in [rank for rank in self._followed if rank not in wanted]:
            self._watch.unfollow(rank)
            self._parts.pop(self._followed.pop(rank), None)
        for rank, label in wanted.items():
            if rank not in self._followed:
                self._followed[rank] = label
                is_next = label in self._seen  # an attempt that follows one that was shown: from its start
                self._watch.follow(rank, RECENT_LINES, 0 if is_next else None)
                self._seen.add(label)


def _shown(line: bytes) -> str:
    text = text_without_escapes(line.decode(errors="replace").rstrip("\r"))
    return printable_line(SECRETS.mask.text(text.rpartition("\r")[2]))  # what a progress bar shows last


def clock_text(wall_ns: int) -> str:
    """Return a time of day."""
    return time.strftime("%H:%M:%S", time.localtime(wall_ns / 1e9))
