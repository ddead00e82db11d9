"""Takes over from earlier controllers of a resumed run when and where its tasks ran, so that reports cover all of the run.

The journal has the tasks; windows of their logs are in a file of their own, which the recorder writes. A node that only an
earlier controller had is added to the plan that reports are made with. Called when a run with monitors begins.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from protocol.messages.monitor import RankWindow
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.core.states import Transition
from sflow_ctl.plan.model import Placement, Plan
from sflow_ctl.report.monitor.history import RunHistory
from sflow_ctl.runtime.journal.entry import read_journal
from sflow_ctl.runtime.journal.reader import TRANSITION, lines_of
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, open_regular

PlanOf = Callable[[int], Plan | None]
"""Returns the plan that a controller of the run carried out, by its number; None if it cannot be read."""
_HEAD = lazy_pattern(rb'\{"seq":\d+,"incarnation":(\d+),"wall_ns":(\d+)')


class KeptWindow(msgspec.Struct, frozen=True):
    """A line of the file of windows."""

    node: int
    host: str
    window: RankWindow


class EarlierRun(NamedTuple):
    """What reports need of earlier controllers."""

    history: RunHistory
    plan: Plan
    """With all nodes that the run ever had. The position of a node is its number in `history`."""
    windows: list[tuple[int, RankWindow]]
    """With the positions of their nodes."""


def earlier_run(directory: Path, plan: Plan, plan_of: PlanOf, began_ms: int) -> EarlierRun:
    """Read what earlier controllers have recorded; `began_ms` is when a run begins of which nothing can be read."""
    nodes = _Nodes(plan)
    reader = _Reader(RunHistory(begin_ms=began_ms), nodes, plan_of)
    for line in _journal(directory):
        reader.take(line)
    reader.end()
    windows = []
    for line in _lines(directory / layout.WINDOWS):
        try:
            kept = msgspec.json.decode(line, type=KeptWindow)
        except UNREADABLE:
            continue
        windows.append((nodes.position(kept.node, kept.host), kept.window))
    return EarlierRun(reader.history, nodes.plan(), windows)


class _Nodes:
    """The nodes of a plan, and those of earlier ones that it does not have."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._known = {(node.index, node.name): position for position, node in enumerate(plan.nodes)}

    def position(self, number: int, host: str) -> int:
        """Return the position of a node, which is added if the plan has no such node."""
        return self._known.setdefault((number, host), len(self._known))

    def plan(self) -> Plan:
        """Return the plan with all nodes, each with its own number."""
        added = list(self._known)[len(self._plan.nodes) :]
        first = self._plan.nodes[0]
        return replace(
            self._plan,
            nodes=(*self._plan.nodes, *(replace(first, index=number, name=host) for number, host in added)),
        )


class _Reader:
    """Folds the lines of a journal."""

    def __init__(self, history: RunHistory, nodes: _Nodes, plan_of: PlanOf) -> None:
        self.history = history
        self._nodes = nodes
        self._plan_of = plan_of
        self._incarnation = 0
        self._plan: Plan | None = None
        self._placements: dict[str, Placement] = {}
        self._last_ms = 0

    def take(self, line: bytes) -> None:
        """Take a line, of whatever kind."""
        head = _HEAD.match(line)
        if head is None:
            return
        if int(head[1]) != self._incarnation:
            self.end()
            self._begin(int(head[1]))
        at_ms = int(head[2]) // 1_000_000
        self.history.begin_ms = min(self.history.begin_ms, at_ms)
        self._last_ms = at_ms
        if TRANSITION in line:
            for entry in read_journal([line]):
                if entry.transition is not None:
                    self.history.note(entry.transition, self._place(entry.transition), at_ms)

    def end(self) -> None:
        """Take that the controller has ended, and its tasks with it."""
        self.history.stopped(self._last_ms)

    def _begin(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._plan = self._plan_of(incarnation)
        tasks = () if self._plan is None else self._plan.tasks
        self._placements = {task.name: task.placement for task in tasks}

    def _place(self, transition: Transition) -> Placement | None:
        """Return where an attempt ran, as positions: all nodes of a fixed place, else the first one."""
        if transition.node is None:
            return None
        planned = self._placements.get(transition.task)
        is_there = planned is not None and not planned.is_flexible and transition.node in planned.nodes
        numbers = planned.nodes if planned is not None and is_there else (transition.node,)
        return Placement(nodes=tuple(map(self._position, numbers)), gpus=transition.gpus)

    def _position(self, number: int) -> int:
        if self._plan is None or number >= len(self._plan.nodes):
            return number
        return self._nodes.position(number, self._plan.nodes[number].name)


def _journal(directory: Path) -> Iterator[bytes]:
    """Yield the lines of the journal that can be read."""
    with suppress(OSError):
        yield from lines_of(directory)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; none if it cannot be read."""
    try:
        with open_regular(path) as file:
            yield from file
    except OSError:
        return


def keep_window(directory: Path, kept: KeptWindow) -> None:
    """Add a window to those that a later controller of the run takes over. Raises: OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(directory / layout.WINDOWS, flags, 0o600)
    with open(descriptor, "ab") as file:  # noqa: PTH123 - a descriptor has no path
        file.write(msgspec.json.encode(kept) + b"\n")
