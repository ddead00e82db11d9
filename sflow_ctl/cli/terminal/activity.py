"""Shows what a run does and waits for: running tasks, services that are not ready, tasks that are being stopped.

Pure but for the clock. Provides a part of the console's status line, and says when a pipe or log file gets a line
instead. Fed with the same transitions as `state_lines.py`; called by the console's writing thread.
"""

from collections.abc import Callable, Sequence
from itertools import islice

from msgspec import Struct

from protocol.messages.facts import OTHER_ADDRESS, OTHER_PORT
from protocol.text.ansi import printable
from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.copies.task_list import ByName, names_where
from sflow_ctl.plan.model import PlannedTask

REPORT_AFTER_S = (30.0, 60.0, 120.0, 300.0, 600.0)
"""When a pipe or file gets a line about a service that is not ready, and about a silence; the last interval repeats."""
ELSEWHERE_AFTER_S = 5.0
"""The same about one that does listen, but on another port or address: a mistake, most likely."""
ROTATE_S = 3.0
"""How long the status line shows one service."""
GATHER_S = 0.05
"""Stopping a run changes many tasks at once: they are reported together."""
SHOWN_NAMES = 5
SHOWN_RUNNING = 3
_RUN_STOPS = frozenset({"interrupted", "cancelled", "preempted", "time_limit", "fail_fast"})
"""Reasons with which a whole run stops."""


def report_after(reports: int) -> float:
    """Return how long something has lasted when it is reported once more, after so many reports."""
    known, last = len(REPORT_AFTER_S), REPORT_AFTER_S[-1]
    return REPORT_AFTER_S[reports] if reports < known else last * (reports - known + 2)


def _reports_due(since: float, now: float, reports: int) -> int:
    """Return how many reports something has had that has just been reported: missed ones are not made up for."""
    while now >= since + report_after(reports):
        reports += 1
    return reports


class _Wait(Struct):
    since: float
    text: str = ""
    reports: int = 0
    is_elsewhere_said: bool = False

    @property
    def is_elsewhere(self) -> bool:
        """Return whether the service listens, but not where its probe looks."""
        return OTHER_PORT in self.text or OTHER_ADDRESS in self.text

    def has_reported(self, now: float) -> None:
        """Count a report."""
        if self.is_elsewhere and self.reports == 0:
            self.is_elsewhere_said = True
        self.reports = _reports_due(self.since, now, self.reports)

    def report_at(self) -> float:
        """Return when the next report is due."""
        if self.is_elsewhere and not self.is_elsewhere_said and self.reports == 0:
            return self.since + ELSEWHERE_AFTER_S
        return self.since + report_after(self.reports)


def minutes(seconds: float) -> str:
    """Return `01:12` or `1:02:03`."""
    minute, second = divmod(int(seconds), 60)
    hour, minute = divmod(minute, 60)
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute:02}:{second:02}"


class Activity:
    """Running tasks, unready services and stopping tasks of one run, by name."""

    def __init__(self, tasks: Sequence[PlannedTask], now: Callable[[], float]) -> None:
        self._now = now
        self._services = set(names_where(tasks, lambda task: task.has_readiness))
        self._tasks = ByName(tasks)
        self._running: dict[str, float] = {}
        """Since when tasks run that will end by themselves, in the order of their starts."""
        self._quiet_since = now()
        self._quiet_reports = 0
        self._waits: dict[str, _Wait] = {}
        self._stopping: dict[str, float] = {}
        """When each task gets SIGKILL."""
        self._why = self._again = ""
        """Why the run stops, and what a further signal does."""
        self._gathered: list[str] = []
        self._gather_until: float | None = None

    def add(self, transition: Transition) -> bool:
        """Take in one change of state; return whether a line may be due earlier than before."""
        task, now = printable(transition.task), self._now()
        self._forget(task)
        if transition.new is TaskState.RUNNING:
            return self._began(task, now)
        if transition.new is not TaskState.STOPPING:
            return False
        planned = self._tasks.get(transition.task)
        self._stopping[task] = now + (0.0 if planned is None else planned.stopping.grace_s)
        if transition.reason.word not in _RUN_STOPS:
            return False
        if (why := _why(transition.reason)) != ("", ""):
            self._why, self._again = why
        self._gathered.append(task)
        if self._gather_until is not None:
            return False
        self._gather_until = now + GATHER_S
        return True

    def begin_with(self, task: str, state: TaskState, ago_s: float) -> None:
        """Take in a task that has been in this state for so long."""
        self._forget(printable(task))
        if state is TaskState.RUNNING:
            self._began(printable(task), self._now() - ago_s)

    def _forget(self, task: str) -> None:
        self._running.pop(task, None)
        self._waits.pop(task, None)
        self._stopping.pop(task, None)

    def _began(self, task: str, at: float) -> bool:
        """Take in that a task runs; return whether it is a service that is awaited."""
        if task in self._services:
            self._waits[task] = _Wait(at)
            return True
        self._running[task] = at
        return False

    def waits_for(self, task: str, text: str) -> None:
        """Take in which readiness conditions a service has not met."""
        wait = self._waits.get(printable(task))
        if wait is not None:
            wait.text = printable(text)

    def spoke(self, at: float) -> None:
        """Take in that something else was written then: a pipe or file needs no line for a while."""
        self._quiet_since, self._quiet_reports = at, 0

    def next_line_at(self) -> float | None:
        """Return when `lines` or `ends_silence` may have a line; None while no task is awaited."""
        times = [wait.report_at() for wait in self._waits.values()]
        if self._gather_until is not None:
            times.append(self._gather_until)
        if self._has_silence:
            times.append(self._quiet_since + report_after(self._quiet_reports))
        return min(times, default=None)

    @property
    def _has_silence(self) -> bool:
        """Whether tasks are awaited of which no other line is due: awaited services have lines of their own."""
        return bool(self._stopping or (self._running and not self._waits))

    def ends_silence(self) -> bool:
        """Return whether nothing was written for so long that a pipe or file gets the status line; count that."""
        now = self._now()
        if not self._has_silence or now < self._quiet_since + report_after(self._quiet_reports):
            return False
        self._quiet_reports = _reports_due(self._quiet_since, now, self._quiet_reports)
        return True

    def lines(self, is_terminal: bool) -> list[str]:
        """Return the lines that are due.

        On a terminal services get one only if they listen elsewhere, which may be too long for the status line.
        """
        lines: list[str] = []
        now = self._now()
        if self._gather_until is not None and now >= self._gather_until:
            lines.append(self._stop_line(now))
            self._gather_until = None
            self._gathered = []
        for task, wait in self._waits.items():
            if now >= wait.report_at():
                is_new = wait.is_elsewhere and not wait.is_elsewhere_said
                wait.has_reported(now)
                if is_new or not is_terminal:
                    lines.append(f"waiting for {task} ({minutes(now - wait.since)}){_detail(wait.text)}")
        return lines

    def status(self) -> str:
        """Return the part of the status line: the stopping tasks, or one of the services that are not ready."""
        now = self._now()
        if self._stopping:
            last = max(self._stopping, key=lambda task: self._stopping[task])
            return f"stopping {listed(list(self._stopping), SHOWN_NAMES)}{self._kill_text(last, now)}"
        if not self._waits:
            return ""
        at = int(now / ROTATE_S) % len(self._waits)
        task, wait = list(self._waits.items())[at]
        return f"waiting for {task} ({minutes(now - wait.since)}){_detail(wait.text)}"

    def running(self) -> str:
        """Return the tasks that have run for longest, with their times."""
        now, count = self._now(), len(self._running)
        shown = [
            f"{task} ({minutes(now - since)})" for task, since in islice(self._running.items(), SHOWN_RUNNING)
        ]
        return listed([*shown, *[""] * (count - len(shown))], SHOWN_RUNNING)

    def _stop_line(self, now: float) -> str:
        count = len(self._gathered)
        left = [task for task in self._gathered if task in self._stopping]
        notes = "; ".join(note for note in (self._why, self._again if left else "") if note)
        begin = f"stopping {counted(count, 'task')}{f' ({notes})' if notes else ''}: "
        if not left:
            return f"{begin}{listed(self._gathered, SHOWN_NAMES)}"
        last = max(left, key=lambda task: self._stopping[task])
        return f"{begin}{listed(left, SHOWN_NAMES)}{self._kill_text(last, now)}"

    def _kill_text(self, task: str, now: float) -> str:
        return f", SIGKILL in {max(0.0, self._stopping[task] - now):.0f} s"


def _why(reason: Reason) -> tuple[str, str]:
    """Return what is worth saying about a run's stop besides its tasks, and what can still be done about them."""
    text = printable(reason.text)
    if reason.word != "interrupted":
        return text, ""
    if "SIGINT" in text or not text:
        return "", "Ctrl-C again kills at once"
    return text, "another signal kills at once"


def _detail(text: str) -> str:
    return f": {text}" if text else ""
