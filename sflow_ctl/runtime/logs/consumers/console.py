"""Shows logs on the console, at the console's pace. Owned by the output thread.

Chunks are passed on at once while the console accepts them; the rest is read from the file later. A slow
console therefore costs no memory and delays nothing, and a piped one still gets every byte.
"""

from collections.abc import Callable
from typing import Protocol

from protocol.ids import RankId
from sflow_ctl.core.states import Transition
from sflow_ctl.runtime.logs.consumers.consumer import LogConsumer
from sflow_ctl.runtime.logs.cursor import Cursor
from sflow_ctl.runtime.logs.store import RankLog

READ_BYTES = 128 * 1024
UNREADABLE_RETRY_S = 0.1
"""Another node's bytes may become visible a moment after their chunk (NFS); the file is read again this often."""


class ConsoleSink(Protocol):
    """The console as the output service uses it. `cli/terminal/console.py` implements it."""

    on_room: Callable[[], None] | None
    """Called from any thread when the console accepts bytes again."""

    @property
    def failure(self) -> str | None:
        """The reason why output stopped before its end; None if it did not, or its reader has gone."""
        ...

    @property
    def is_lossless(self) -> bool:
        """True when no output may be skipped."""
        ...

    @property
    def shows_output(self) -> bool:
        """False when only changes of state are shown."""
        ...

    def shows(self, task: str) -> bool:
        """Return whether this task's output is shown."""
        ...

    def room(self) -> int:
        """Return how many bytes it accepts now; after 0 it calls `on_room`."""
        ...

    def output(self, label: str, data: bytes | memoryview) -> None:
        """Show output of a task."""
        ...

    def output_ended(self, label: str) -> None:
        """Note that the task's output is complete."""
        ...

    def skipped(self, label: str, lines: int, path: str) -> None:
        """Show how much output was skipped."""
        ...

    def transition(self, transition: Transition) -> None:
        """Show a change of state."""
        ...

    def say(self, text: str) -> None:
        """Show a line of this program."""
        ...

    def waiting(self, task: str, text: str) -> None:
        """Take in which readiness conditions a running service has not met."""
        ...

    def start(self) -> None:
        """Start writing."""
        ...

    def flush(self, deadline_s: float) -> bool:
        """Wait until everything is written."""
        ...


class ConsoleFeed(LogConsumer):
    """Passes the logs to the console that it shows."""

    def __init__(self, console: ConsoleSink) -> None:
        self._console = console
        self._cursors: dict[RankLog, Cursor] = {}
        self._behind: dict[RankLog, Cursor] = {}
        """Logs with bytes that the console has not received, in the order they fell behind."""
        self._is_waiting_for_room = False
        self._retry_at: float | None = None
        self.unreadable_since: float | None = None
        """The time since when no waiting log could be read."""

    @property
    def is_drained(self) -> bool:
        """Return whether the console has received everything."""
        return not self._behind

    def behind_bytes(self) -> int:
        """Return how many bytes the console has not received yet."""
        return sum(cursor.log.position - cursor.offset for cursor in self._behind.values())

    def wants(self, rank: RankId, /) -> bool:
        """Return whether the task's log is shown."""
        return self._console.shows(rank.attempt.task)

    def open(self, log: RankLog, offset: int) -> None:
        """Start to show this log, from `offset` on, if it is shown."""
        if self._console.shows(log.rank.attempt.task):
            self._cursors[log] = Cursor(log, offset, may_skip=not self._console.is_lossless)

    def offer(self, log: RankLog, offset: int, body: memoryview, _now: float, /) -> None:
        """Show a chunk whose end is the log's position."""
        cursor = self._cursors.get(log)
        if cursor is None:
            return
        if log not in self._behind and self._console.room() > 0:
            new = cursor.take(offset, body)
            if new is not None:
                if new:
                    self._console.output(log.label, new)
                return
        self.grown(log)

    def grown(self, log: RankLog) -> None:
        """Note that the log's file has more than was offered."""
        cursor = self._cursors.get(log)
        if cursor is not None and not cursor.is_at_end:
            self._behind.setdefault(log, cursor)

    def ended(self, log: RankLog) -> None:
        """Finish the rank's last line, once all of the log is shown."""
        if log in self._cursors and log not in self._behind:
            self._console.output_ended(log.label)

    def has_all(self, log: RankLog) -> bool:
        """Return whether all known bytes of this log are shown."""
        return log not in self._behind

    def forget(self, log: RankLog) -> None:
        """Close the cursor of a log that is complete and shown."""
        cursor = self._cursors.pop(log, None)
        if cursor is not None:
            cursor.close()
        self._behind.pop(log, None)

    def room_again(self) -> None:
        """Note that the console accepts output again."""
        self._is_waiting_for_room = False

    def wake_at(self, now: float) -> float | None:
        """Return when `work` is due; None when it waits for a chunk or the console."""
        if not self._behind or self._is_waiting_for_room:
            return None
        return now if self._retry_at is None else self._retry_at

    def work(self, now: float, limit: int) -> list[RankLog]:
        """Pass up to about `limit` waiting bytes to the console, all logs in turn; return the logs that caught up."""
        caught_up = []
        self._retry_at = None
        unreadable = 0
        while limit > 0 and len(self._behind) > unreadable:
            if self._console.room() <= 0:
                self._is_waiting_for_room = True
                break
            log = next(iter(self._behind))
            cursor = self._behind.pop(log)
            size = self._read_one(log, cursor)
            if cursor.is_at_end:
                caught_up.append(log)
                if log.is_complete:
                    self._console.output_ended(log.label)
                continue
            self._behind[log] = cursor  # at the end of the queue: all logs get their turn
            if size < 0:
                unreadable += 1
                self._retry_at = now + UNREADABLE_RETRY_S
            limit -= max(size, 1024)
        if not unreadable or unreadable < len(self._behind):
            self.unreadable_since = None
        elif self.unreadable_since is None:
            self.unreadable_since = now
        return caught_up

    def _read_one(self, log: RankLog, cursor: Cursor) -> int:
        """Return the number of bytes handled; -1 when none can be read yet."""
        before = cursor.offset
        try:
            piece = cursor.read(READ_BYTES)
        except OSError:
            return -1
        if piece is None:
            return -1
        if piece.skipped_lines:
            self._console.skipped(log.label, piece.skipped_lines, str(log.path))
        if piece.data:
            self._console.output(log.label, piece.data)
        return cursor.offset - before
