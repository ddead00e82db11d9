"""The console of `run` and `attach`: prefixed output, a line per important change, a progress line.

Any thread may call it; only `flush` waits for the terminal. A thread of its own writes, from a bounded
buffer. On a pipe or file no byte is ever left out; a terminal that cannot keep up is shown how much was
skipped. A closed pipe ends the output, never the run.
"""

import errno
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from protocol.text.ansi import printable
from protocol.text.counted import counted
from sflow_ctl.cli.terminal.activity import Activity
from sflow_ctl.cli.terminal.columns import DEFAULT_COLUMNS, columns
from sflow_ctl.cli.terminal.line_prefix import LinePrefixer
from sflow_ctl.cli.terminal.paint import wants_colours, wants_unicode
from sflow_ctl.cli.terminal.state_lines import StateLines
from sflow_ctl.core.states import Reason, TaskState, Transition
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.secrets import SECRETS

BUFFER_BYTES = 2 * 1024 * 1024
"""Formatted bytes waiting to be written; enough to keep a pipe busy, little enough to be current."""
REDRAW_S = 0.1
CLOCK_S = 1.0
WRITE_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
"""A larger pipe means fewer switches between us and the reader: 64 KiB is filled by 0.4 ms of fast output."""
F_SETPIPE_SZ = 1031
"""fcntl(2), Linux; a constant here because importing `fcntl` for one number costs time."""


class Console:
    """One output stream of one run, which began `elapsed_s` ago. Quiet shows changes of state only."""

    def __init__(
        self,
        plan: Plan,
        run_directory: Path,
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
        self.failure: str | None = None
        """The reason why output stopped before its end, unless its reader has gone away."""
        self.is_unicode = wants_unicode(environ)
        self._descriptor = descriptor
        self._run_directory = run_directory
        colours = wants_colours(self.is_terminal, environ)
        self._can_redraw = self.is_terminal and environ.get("TERM", "") not in ("", "dumb")
        self._prefixer = LinePrefixer(is_terminal=self.is_terminal, colours=colours)
        self._states = StateLines(
            len(plan.tasks),
            is_brief=not self.is_terminal or is_quiet,
            colours=colours,
            is_unicode=self.is_unicode,
            elapsed_s=elapsed_s,
            finals=frozenset(task.name for task in plan.tasks if task.finally_when is not None),
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
        self._is_broken = False
        self._is_changed = False
        self._drawn = b""
        self._last_write = 0.0
        self._thread: threading.Thread | None = None

    # ------------------------------------------------------------------ what the output service calls

    @property
    def is_lossless(self) -> bool:
        """True when no output may be left out: the stream is a pipe or a file."""
        return not self.is_terminal

    def room(self) -> int:
        """Return the bytes of output it accepts now.

        After a 0 or less, `on_room` is called once there is room.
        """
        if self._is_broken:
            return BUFFER_BYTES
        room = BUFFER_BYTES - self._queued
        if room <= 0:
            with self._condition:
                self._wants_room = True
                room = BUFFER_BYTES - self._queued
        return room

    def output(self, label: str, data: bytes | memoryview) -> None:
        """Show output of a task."""
        if self.shows_output and not self._is_broken:
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

    def begin_with(self, task: str, state: TaskState) -> None:
        """Count a task that is in this state already, without a line for it."""
        self._states.begin_with(task, state)

    def say(self, text: str) -> None:
        """Print a line, or several, that are not a task's output."""
        self._say(printable(text))

    def _say(self, text: str) -> None:
        encoded = text.encode(errors="surrogateescape" if self.is_unicode else "replace") + b"\n"
        with self._format_lock:
            self._put(self._prefixer.line_break() + encoded)

    # ------------------------------------------------------------------ lifetime

    def start(self) -> None:
        """Start writing; there is one writer, however often this is called."""
        if self._thread is not None:
            return
        if not self.is_terminal:
            import fcntl

            with suppress(OSError):  # not a pipe, or above the user's limit
                fcntl.fcntl(self._descriptor, F_SETPIPE_SZ, PIPE_BYTES)
        self._thread = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._thread.start()

    def flush(self, deadline_s: float) -> bool:
        """Wait until everything is written, at most that long; return False when the reader did not accept it."""
        until = time.monotonic() + deadline_s
        with self._condition:
            while (self._queue or self._is_writing) and not self._is_broken:
                left = until - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    return not (self._queue or self._is_writing) or self._is_broken
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
        return is_written and not self._is_broken

    @property
    def is_unread(self) -> bool:
        """True while its reader is there and takes nothing: whatever is written after it would wait as well."""
        with self._condition:
            return bool(self._queue or self._is_writing) and not self._is_broken

    # ------------------------------------------------------------------ the writing thread

    def _put(self, data: bytes) -> None:
        if not data or self._is_broken:
            return
        with self._condition:
            data = SECRETS.mask.raw(data)
            self._queue.append(data)
            self._queued += len(data)
            self._condition.notify_all()

    def _write_all(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are the main thread's
        while True:
            with self._condition:
                while not self._queue and not self._is_changed and not self._is_closing:
                    wait_s = self._wait_s()
                    if (wait_s is not None and wait_s <= 0) or not self._condition.wait(wait_s):
                        break
                is_last = self._is_closing
                self._is_writing = True
                lines = self._activity.lines(self._can_redraw)
            for line in lines:
                self._say(f"{self._states.dash} {line}")
            if self._can_redraw and not is_last:
                self._pace()
            self._write_batch(is_last)
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

    def _write_batch(self, is_last: bool) -> None:
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
                return
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

    def _progress(self) -> bytes:
        width = columns(self._descriptor) or DEFAULT_COLUMNS
        return self._states.progress(width - 1, SECRETS.mask.text(self._activity.status())).encode()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view and not self._is_broken:
            try:
                view = view[os.write(self._descriptor, view[:WRITE_BYTES]) :]
            except BlockingIOError:
                # Another process that shares the stream has made it non-blocking.
                waiter = select.poll()
                waiter.register(self._descriptor, select.POLLOUT)
                waiter.poll(1000)
            except InterruptedError:
                continue
            except OSError as error:
                self._break(error)

    def _break(self, error: OSError) -> None:
        """Stop writing: the reader has gone (EPIPE), the terminal is gone (EIO), or the disk is full."""
        with self._condition:
            self._is_broken = True
            self._queue.clear()
            self._queued = 0
            self._wants_room = False
        if error.errno not in (errno.EPIPE, errno.EIO):
            self.failure = f"output is no longer shown: {error.strerror}"
        if self.on_room is not None:
            self.on_room()
