"""Writes down what agents measure, in a thread: a slow disk must delay neither the scheduler nor the agents' facts.

The controller gives it every `Sampled` and change of state, and answers the agents for it once their readings are written;
agents send a few messages until then. Nothing here fails a run: what cannot be written is counted and said.
"""

import contextlib
import os
import queue
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from protocol.ids import RankId
from protocol.machine.loop_signals import QuietThread
from protocol.messages.facts import Sampled
from protocol.messages.monitor import Mark, RankWindow, Scope
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.model import Placement, Plan
from sflow_ctl.report.monitor.history import RunHistory
from sflow_ctl.report.monitor.metrics import raw_head, raw_line
from sflow_ctl.runtime.monitor.earlier import KeptWindow, PlanOf, earlier_run, keep_window
from sflow_ctl.runtime.monitor.files import DIRECTORY, RAW, raw_path

CLOSE_WITHIN_S = 30.0
MAX_WAITING = 64
"""Messages of one agent that wait to be written; it has fewer on their way, but for its last ones."""
CORRECTED_FROM_MS = 1000
"""Clocks of nodes that are off by more are corrected in reports."""


class Stored(NamedTuple):
    """A message whose readings are written, or given up."""

    node: int
    number: int


class MonitorRecorder:
    """The readings of one run. `take` and `note` are called by the controller's loop, which polls `fileno`."""

    def __init__(
        self, directory: Path, plan: Plan, warn: Callable[[str], None], plan_of: PlanOf | None = None
    ) -> None:
        """`warn` is called in the controller's thread, once for each text; `plan_of` is given for a resumed run."""
        self.history = RunHistory(begin_ms=_now_ms())
        self.whole_plan = plan
        """With the nodes that earlier controllers of the run had."""
        self._windows: list[tuple[int, RankWindow]] = []
        if plan_of is not None:
            earlier = earlier_run(directory, plan, plan_of, self.history.begin_ms)
            self.history, self.whole_plan, self._windows = earlier
        self.fileno = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._directory = directory
        self._plan = plan
        self._warn = warn
        self._warned: set[str] = set()
        self._problems: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._wanted: queue.SimpleQueue[tuple[int, Sampled, list[RankWindow]] | None] = queue.SimpleQueue()
        self._stored: queue.SimpleQueue[Stored] = queue.SimpleQueue()
        self._newest: dict[int, int] = {}
        self._written: dict[int, int] = {}
        """By node, the newest message that was written: set by the thread."""
        self.refused = 0
        """Messages of agents that sent more than they may."""
        self._clock_ms: dict[int, int] = {}
        """By node, how far its clock is behind the controller's: the smallest difference of all messages."""
        self.dropped: dict[int, int] = {}
        """By node, readings that its agent had to drop."""
        self._thread = QuietThread(self._work, "monitor")
        self._thread.start()

    # ------------------------------------------------------------------ the controller's side

    def take(self, node: int, message: Sampled, is_own: Callable[[int, RankId], bool]) -> None:
        """Take in a message; one that comes again is only answered again. `is_own` says of which ranks a node may speak."""
        if message.number <= self._newest.get(node, 0):
            self._stored.put(Stored(node, message.number))
            self._wake()
            return
        waiting = message.number - self._written.get(node, 0)
        if waiting > MAX_WAITING:  # it does not keep to the protocol
            self.refused += 1
            return
        self._newest[node] = message.number
        self.dropped[node] = message.dropped
        behind_ms = _now_ms() - message.sent_at_ms
        self._clock_ms[node] = min(behind_ms, self._clock_ms.get(node, behind_ms))
        windows = [window for window in message.windows if is_own(node, window.rank)]
        self._windows += [(node, window) for window in windows]
        self._wanted.put((node, message, windows))

    def note(self, transition: Transition, place: Placement | None) -> None:
        """Take in a change of a task's state; `place` is where its attempt runs."""
        self.history.note(transition, place, _now_ms())

    def stored(self) -> Iterator[Stored]:
        """Return what has been written since the last call."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fileno)
        with contextlib.suppress(queue.Empty):
            while True:
                self._say(self._problems.get_nowait())
        with contextlib.suppress(queue.Empty):
            while True:
                yield self._stored.get_nowait()

    def correction_ms(self, node: int) -> int:
        """Return what to add to times of a node's clock."""
        behind_ms = self._clock_ms.get(node, 0)
        return behind_ms if abs(behind_ms) > CORRECTED_FROM_MS else 0

    def close(self) -> None:
        """Write the rest, within a limit; the history is complete then."""
        self._wanted.put(None)
        self._thread.join(CLOSE_WITHIN_S)
        if self._thread.is_alive():
            self._say(f"the readings of monitors could not be written within {CLOSE_WITHIN_S:g} s")
        for _ in self.stored():
            pass
        for node, window in self._windows:
            self.history.found(_corrected(window, self.correction_ms(node)))
        self._windows.clear()
        if not self._thread.is_alive():
            os.close(self.fileno)

    def _say(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._warn(text)

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            node, message, windows = wanted
            try:
                self._write(node, message)
                for window in windows:
                    keep_window(self._directory, KeptWindow(node, self._plan.nodes[node].name, window))
            except OSError as error:
                self._problems.put(f"readings of monitors cannot be written: {error.strerror}")
            self._written[node] = message.number
            self._stored.put(Stored(node, message.number))
            self._wake()

    def _write(self, node: int, message: Sampled) -> None:
        lines: dict[Scope, list[str]] = {}
        for reading in message.readings:
            lines.setdefault(reading.scope, []).append(raw_line(reading))
        for scope, added in lines.items():
            path = raw_path(self._directory, self._plan, scope, node)
            _append(path, raw_head(scope, message.gpu_fields), added)

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # closed: the run has ended
            os.eventfd_write(self.fileno, 1)


def prepare(directory: Path) -> None:
    """Make the directory of raw files. Raises: OSError."""
    (directory / DIRECTORY).mkdir(mode=0o700, exist_ok=True)
    (directory / RAW).mkdir(mode=0o700, exist_ok=True)


def _append(path: Path, head: str, lines: list[str]) -> None:
    """Add lines to a raw file, which begins with `head`. Raises: OSError."""
    prepare(path.parents[2])  # a task may have removed it
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with open(descriptor, "ab") as file:  # noqa: PTH123 - a descriptor has no path
        is_new = os.fstat(descriptor).st_size == 0
        file.write("".join([head if is_new else "", *lines]).encode(errors="replace"))


def _corrected(window: RankWindow, by_ms: int) -> RankWindow:
    def moved(mark: Mark | None) -> Mark | None:
        return None if mark is None else replace(mark, at_ms=mark.at_ms + by_ms)

    return replace(window, start=moved(window.start), end=moved(window.end)) if by_ms else window


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
