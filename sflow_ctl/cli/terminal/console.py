"""The console of `run` and `attach`: prefixed output, a line per important change, a progress line.

Any thread may call it; only `flush` waits for the terminal. A thread of its own writes, from a bounded
buffer. On a pipe or file no byte is ever left out; a terminal that cannot keep up is shown how much was
skipped. A closed pipe ends the output, never the run.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from protocol.machine.loop_signals import QuietThread
from protocol.text.ansi import printable
from protocol.text.counted import counted
from sflow_ctl.cli.terminal.activity import REPORT_AFTER_S, Activity
from sflow_ctl.cli.terminal.columns import DEFAULT_COLUMNS, columns
from sflow_ctl.cli.terminal.line_prefix import LinePrefixer, prefix_width
from sflow_ctl.cli.terminal.paint import wants_colours, wants_unicode
from sflow_ctl.cli.terminal.shown_tasks import ShownTasks
from sflow_ctl.cli.terminal.state_lines import StateLines
from sflow_ctl.cli.terminal.stream import WRITE_BYTES, Stream
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.copies.task_list import Copies, names_where, parts_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS

BUFFER_BYTES = 2 * 1024 * 1024
"""Formatted bytes waiting to be written; enough to keep a pipe busy, little enough to be current."""
REDRAW_S = 0.1
CLOCK_S = 1.0
MAX_LINE = 500
"""Of the line that a pipe or file gets after a silence, in characters."""


class Console:
    """One output stream of one run, which began `elapsed_s` ago. Quiet shows changes of state only."""

    def __init__(
        self,
        plan: Plan,
        *,
        is_quiet: bool = False,
        elapsed_s: float = 0.0,
        descriptor: int = 1,
        environ: Mapping[str, str] = os.environ,
        is_terminal: bool | None = None,
    ) -> None:
        self.is_terminal = os.isatty(descriptor) if is_terminal is None else is_terminal
        self.shows_output = not is_quiet
        self.on_room: Callable[[], None] | None = None
        """Called from the writing thread when `room` has become positive again."""
        self.is_unicode = wants_unicode(environ)
        self._stream = Stream(descriptor)
        colours = wants_colours(self.is_terminal, environ)
        self._can_redraw = self.is_terminal and environ.get("TERM", "") not in ("", "dumb")
        tasks = ShownTasks(plan)
        self.shows = tasks.shows
        last = (
            part[-1] if isinstance(part, Copies) else part for part in parts_of(plan.tasks)
        )  # the longest names
        shown = (task for task in last if tasks.shows(task.name))
        self._prefixer = LinePrefixer(
            is_terminal=self.is_terminal,
            colours=colours,
            width=prefix_width(shown) if self.is_terminal else 0,
            has_errors_only=tasks.has_errors_only,
        )
        self._states = StateLines(
            len(plan.tasks),
            is_brief=not self.is_terminal or is_quiet,
            colours=colours,
            is_unicode=self.is_unicode,
            elapsed_s=elapsed_s,
            finals=frozenset(names_where(plan.tasks, lambda task: task.finally_when is not None)),
        )
        self._activity = Activity(plan.tasks, time.monotonic)
        self._starting: dict[str, Transition] = {}
        """Attempts that get a line when they run: output may come before that is reported."""
        self._format_lock = threading.Lock()
        """Around formatting and queueing together, so that lines are queued in the order they were formatted.
        """
        self._condition = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._is_writing = False
        self._wants_room = False
        self._is_closing = False
        self._is_changed = False
        self._drawn = b""
        self._last_write = 0.0
        self._thread: QuietThread | None = None

    # ------------------------------------------------------------------ what the output service calls

    @property
    def failure(self) -> str | None:
        """The reason why output stopped before its end, unless its reader has gone away."""
        return self._stream.failure

    @property
    def is_lossless(self) -> bool:
        """True when no output may be left out: the stream is a pipe or a file."""
        return not self.is_terminal

    def room(self) -> int:
        """Return the bytes of output it accepts now.

        After a 0 or less, `on_room` is called once there is room.
        """
        if self._stream.is_broken:
            return BUFFER_BYTES
        room = BUFFER_BYTES - self._queued
        if room <= 0:
            with self._condition:
                self._wants_room = True
                room = BUFFER_BYTES - self._queued
        return room

    def output(self, label: str, data: bytes | memoryview) -> None:
        """Show output of a task."""
        if self.shows_output and not self._stream.is_broken:
            if self._starting:
                self._say_started(label)
            with self._format_lock:
                self._put(self._prefixer.add(label, data))

    def output_ended(self, label: str) -> None:
        """Note that a task's output is complete: an unfinished last line is finished."""
        if self.shows_output:
            with self._format_lock:
                self._put(self._prefixer.end(label))

    def skipped(self, label: str, lines: int, path: str) -> None:
        """Show how much output was skipped on a slow terminal."""
        dots = "\u2026" if self.is_unicode else "..."
        self.say(f"[{label}] {dots} {counted(lines, 'line')} skipped; the log has all: {path}")

    def transition(self, transition: Transition) -> None:
        """Count a change of state and show the important ones."""
        if self._states.says_start(transition.task):
            if transition.new is TaskState.STARTING:
                self._starting[transition.task] = transition
            else:
                self._starting.pop(transition.task, None)
        with self._condition:
            is_line_due = self._activity.add(transition)
        line = self._states.add(transition)
        if line is not None:
            self._say(line)
        elif (self._can_redraw or is_line_due) and not self._is_changed:
            # Thousands of tasks change: waking the thread for nothing takes the interpreter from the scheduler.
            with self._condition:
                self._is_changed = True
                self._condition.notify_all()

    def _say_started(self, label: str) -> None:
        """Say that a task runs before its first line; the report of it comes later then, and says nothing more."""
        starting = self._starting.get(label) or self._starting.get(label.rpartition(".")[0])
        if starting is not None:
            self.transition(
                msgspec.structs.replace(
                    starting, old=TaskState.STARTING, new=TaskState.RUNNING, reason=Reason("started")
                )
            )

    def waiting(self, task: str, text: str) -> None:
        """Take in which readiness conditions a running service has not met."""
        with self._condition:
            self._activity.waits_for(task, text)
            self._is_changed = True
            self._condition.notify_all()

    def begin_with(self, task: str, state: TaskState, ago_s: float = 0.0) -> None:
        """Count a task that has been in this state for so long, without a line for it."""
        self._states.begin_with(task, state)
        with self._condition:
            self._activity.begin_with(task, state, ago_s)

    def say(self, text: str) -> None:
        """Print a line, or several, that are not a task's output."""
        self._say(printable(text))

    def _say(self, text: str) -> int:
        encoded = text.encode(errors="surrogateescape" if self.is_unicode else "replace") + b"\n"
        with self._format_lock:
            return self._put(self._prefixer.line_break() + encoded)

    # ------------------------------------------------------------------ lifetime

    def start(self) -> None:
        """Start writing; there is one writer, however often this is called."""
        if self._thread is not None:
            return
        if not self.is_terminal:
            self._stream.enlarge()
        self._thread = QuietThread(self._write_all, "console")
        self._thread.start()

    def flush(self, deadline_s: float) -> bool:
        """Wait until everything is written, at most that long; return False when the reader did not accept it."""
        until = time.monotonic() + deadline_s
        with self._condition:
            while (self._queue or self._is_writing) and not self._stream.is_broken:
                left = until - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    return not (self._queue or self._is_writing) or self._stream.is_broken
        return True

    def close(self, deadline_s: float = 5.0) -> bool:
        """Finish unfinished lines, remove the progress line and stop writing.

        Return False when output was lost.
        """
        with self._format_lock:
            self._put(self._prefixer.end_all())
        with self._condition:
            self._is_closing = True
            self._condition.notify_all()
        is_written = self.flush(deadline_s)
        if self._thread is not None:
            self._thread.join(deadline_s if is_written else 0.0)
        return is_written and not self._stream.is_broken

    @property
    def is_unread(self) -> bool:
        """True while its reader is there and takes nothing: whatever is written after it would wait as well."""
        with self._condition:
            return bool(self._queue or self._is_writing) and not self._stream.is_broken

    # ------------------------------------------------------------------ the writing thread

    def _put(self, data: bytes) -> int:
        """Queue what is to be written; return how many bytes that are."""
        if not data or self._stream.is_broken:
            return 0
        with self._condition:
            data = SECRETS.mask.raw(data)
            self._queue.append(data)
            self._queued += len(data)
            self._condition.notify_all()
        return len(data)

    def _write_all(self) -> None:
        while True:
            with self._condition:
                while not self._queue and not self._is_changed and not self._is_closing:
                    wait_s = self._wait_s()
                    if (wait_s is not None and wait_s <= 0) or not self._condition.wait(wait_s):
                        break
                is_last = self._is_closing
                self._is_writing = True
                lines = self._activity.lines(self._can_redraw)
                if not self._can_redraw and not is_last and self._activity.ends_silence():
                    lines.append(self._progress_text(MAX_LINE))
            said = sum(self._say(f"{self._states.dash} {line}") for line in lines)
            if self._can_redraw and not is_last:
                self._pace()
            if self._write_batch(is_last) > said:
                self._activity.spoke(self._last_write)
            with self._condition:
                self._is_writing = False
                self._condition.notify_all()
                if is_last and not self._queue:
                    return

    def _wait_s(self) -> float | None:
        """Return how long there is nothing to write, as far as the clock knows; None for no limit."""
        due = self._activity.next_line_at()
        waits = [] if due is None else [due - time.monotonic()]
        if self._can_redraw and self._drawn:
            waits.append(CLOCK_S)
        elif not self._can_redraw:
            waits.append(REPORT_AFTER_S[0])  # starts of tasks do not wake this thread
        return min(waits, default=None)

    def _pace(self) -> None:
        """Gather text: a terminal is drawn at most every `REDRAW_S`, unless much is waiting."""
        wait_s = self._last_write + REDRAW_S - time.monotonic()
        if wait_s > 0 and self._queued < BUFFER_BYTES // 4:
            with self._condition:
                if not self._is_closing:
                    self._condition.wait_for(
                        lambda: self._is_closing or self._queued >= BUFFER_BYTES // 4, wait_s
                    )

    def _write_batch(self, is_last: bool) -> int:
        """Write a part of what is queued; return how many bytes of that were written."""
        with self._condition:
            batch, size = [], 0
            while self._queue and size < WRITE_BYTES:
                batch.append(self._queue.popleft())
                size += len(batch[-1])
            self._is_changed = False
        text = b"".join(batch)
        if self._can_redraw:
            progress = b"" if is_last and not self._queue else self._progress()
            if not text and progress == self._drawn:
                return 0
            erase = b"\r\x1b[K" if self._drawn else b""
            text = erase + text + progress
            self._drawn = progress
        self._write(text)
        self._last_write = time.monotonic()
        with self._condition:
            self._queued -= size
            is_wanted = self._wants_room and self._queued < BUFFER_BYTES // 2
            if is_wanted:
                self._wants_room = False
        if is_wanted and self.on_room is not None:
            self.on_room()
        return size

    def _progress(self) -> bytes:
        return self._progress_text((columns(self._stream.descriptor) or DEFAULT_COLUMNS) - 1).encode()

    def _progress_text(self, width: int) -> str:
        activity, running = self._activity.status(), self._activity.running()
        return self._states.progress(width, SECRETS.mask.text(activity), running)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        if not self._stream.is_broken:
            return
        with self._condition:
            self._queue.clear()
            self._queued = 0
            self._wants_room = False
        if self.on_room is not None:
            self.on_room()
