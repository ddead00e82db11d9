"""Watches the logs of ranks for the lines at which a window starts and ends, as they pass. `monitoring` calls it.

Reads the log as a file, at intervals: what it sees is at most `LOOK_EVERY_S` old, which is how exact a mark's time is.
"""

import os
import time
from collections.abc import Callable

from msgspec import Struct

from protocol.ids import RankId
from protocol.messages.monitor import LogWindow, RankWindow
from protocol.messages.rank_spec import RankSpec
from sflow_agent.monitor.window_marks import MarkFinder

LOOK_EVERY_S = 0.02
READ_BYTES = 256 * 1024
READ_PER_PASS = 1024 * 1024
"""A flood of one task must not keep the loop from another's exit."""
LAST_READ_S = 2.0
"""How long the agent's end waits for logs that were not searched to their end."""


class _Watched(Struct):
    rank: RankId
    path: str
    log: str
    finder: MarkFinder
    offset: int = 0
    is_ended: bool = False


class WindowWatch:
    """The ranks with a window. `found` is called once for each, when its log is complete."""

    def __init__(
        self,
        windows: tuple[LogWindow, ...],
        found: Callable[[RankWindow], None],
        warn: Callable[[str], None],
    ) -> None:
        self._window_of = {task: window for window in windows for task in window.tasks}
        self._found, self._warn = found, warn
        self._watched: dict[RankId, _Watched] = {}
        self._next_look: float | None = None

    def started(self, spec: RankSpec, path: str, now: float) -> None:
        """Begin to watch a rank, if its task has a window."""
        window = self._window_of.get(spec.rank.attempt.task)
        if window is None:
            return
        finder = MarkFinder(window, spec.labels)
        self._watched[spec.rank] = _Watched(spec.rank, path, spec.log, finder)
        self._next_look = now if self._next_look is None else self._next_look

    def ended(self, rank: RankId, now: float) -> None:
        """Note that a rank is gone: its log is read to its end."""
        watched = self._watched.get(rank)
        if watched is not None:
            watched.is_ended = True
            self._next_look = now

    def renamed(self, old: str, new: str) -> None:
        """Follow a log that was renamed for the next attempt."""
        for watched in self._watched.values():
            if watched.path == old:
                watched.path = new

    def next_wakeup(self) -> float | None:
        """Return when `look` is due."""
        return self._next_look

    def look(self, now: float) -> None:
        """Read what has been added to the logs."""
        if self._next_look is None or now < self._next_look:
            return
        budget, is_more = READ_PER_PASS, False
        for watched in list(self._watched.values()):
            budget, is_at_end = _read(watched, budget)
            is_more = is_more or not is_at_end
            if is_at_end and watched.is_ended:
                self._finish(watched)
        self._next_look = None
        if self._watched:
            self._next_look = now if is_more else now + LOOK_EVERY_S

    def finish(self) -> None:
        """Read all logs to their ends, within a limit: the agent ends."""
        deadline = time.monotonic() + LAST_READ_S
        for watched in list(self._watched.values()):
            is_at_end = False
            while not is_at_end and time.monotonic() < deadline:
                _, is_at_end = _read(watched, READ_PER_PASS)
            if not is_at_end:
                self._warn(
                    f"the window of {watched.rank}: its log could not be searched to its end in {LAST_READ_S:g} s"
                )
            self._finish(watched)

    def _finish(self, watched: _Watched) -> None:
        watched.finder.finish(_now_ms())
        for problem in watched.finder.problems:
            self._warn(f"the window of {watched.rank}: {problem}")
        del self._watched[watched.rank]
        self._found(
            RankWindow(rank=watched.rank, log=watched.log, start=watched.finder.start, end=watched.finder.end)
        )


def _read(watched: _Watched, budget: int) -> tuple[int, bool]:
    """Search a log's new bytes; return the rest of the budget, and whether its end was reached."""
    if watched.finder.is_settled:
        return budget, True
    try:
        descriptor = os.open(watched.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return budget, True
    try:
        if os.fstat(descriptor).st_size < watched.offset:  # the task has truncated it
            watched.offset = 0
            watched.finder.restart()
        while budget > 0:
            data = os.pread(descriptor, READ_BYTES, watched.offset)
            if not data:
                return budget, True
            watched.offset += len(data)
            budget -= len(data)
            watched.finder.feed(data, _now_ms())
    except OSError:
        return budget, True
    finally:
        os.close(descriptor)
    return budget, False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
