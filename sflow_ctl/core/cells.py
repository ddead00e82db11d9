"""The cells of sweeps while a run continues: how many may run at once, which are done, and how many GPUs they have.

A cell runs from the start of its first task until all of its tasks have ended. Cells that have to wait begin in their order. Data
and queries only: `transitions` reports every change of a task, `dispatch` asks before it starts one.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from msgspec import Struct, field

from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.cells import PlannedSweep

CellKey = tuple[str, int]
"""The task whose sweep it is, empty for the workflow's, and the position in it."""


MAX_OVERTAKEN = 8
"""So many tasks with GPUs may start before one that waits for more of them; then GPUs that come free are kept for it."""


class Task(Protocol):
    """What is asked of the scheduler's record of a task."""

    index: int
    plan: PlannedTask
    state: TaskState
    attempt: Any


class CellState(Struct):
    """What is left of a cell."""

    tasks: int = 0
    """Tasks that have not ended."""
    jobs_left: int = 0
    """Those of them that are not services."""
    services: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    """Tasks that may start, but for the limit of cells."""


class SweepState(Struct):
    """The cells of one sweep."""

    planned: PlannedSweep
    running: set[int] = field(default_factory=set)
    waiting: list[int] = field(default_factory=list)
    """Cells with tasks that are held, as a heap."""
    gpus: int = 0
    """GPUs that its tasks have."""

    @property
    def has_room(self) -> bool:
        """Return whether another cell may begin."""
        limit = self.planned.max_parallel
        return limit is None or len(self.running) < limit


class SavedCells(Struct, frozen=True):
    """The cells, as a checkpoint has them: which tasks of a cell have ended is counted from the tasks."""

    sweeps: dict[str, tuple[set[int], list[int], int]]
    """By owner, what runs, what waits, and the GPUs."""
    held: list[tuple[CellKey, list[int]]]
    done: list[CellKey]
    first: int | None
    overtaken: int


class Cells(Struct):
    """The cells of all sweeps of a run."""

    sweeps: dict[str, SweepState] = field(default_factory=dict)
    states: dict[CellKey, CellState] = field(default_factory=dict)
    done: list[CellKey] = field(default_factory=list)
    """Cells whose jobs have all ended since `take_done`, and which have services."""

    first: int | None = None
    """The first task in plan order that found too few free GPUs, and still waits."""
    overtaken: int = 0
    """How many later tasks with GPUs have started since."""

    @classmethod
    def of(cls, plan: Plan, tasks: Iterable[Task]) -> "Cells":
        """Return the cells of a run that has not begun."""
        cells = cls({sweep.owner: SweepState(sweep) for sweep in plan.sweeps})
        for task in tasks if plan.sweeps else ():
            key = key_of(task)
            if key is not None and key[0] in cells.sweeps:
                state = cells.states.setdefault(key, CellState())
                if task.plan.is_service:
                    state.services.append(task.index)
        cells._count(tasks)
        return cells

    def saved(self) -> SavedCells:
        """Return the cells for a checkpoint."""
        return SavedCells(
            {owner: (sweep.running, sweep.waiting, sweep.gpus) for owner, sweep in self.sweeps.items()},
            [(key, state.held) for key, state in self.states.items() if state.held],
            self.done,
            self.first,
            self.overtaken,
        )

    def restore(self, saved: SavedCells, tasks: Iterable[Task]) -> None:
        """Take the cells of a checkpoint, whose tasks have their states already."""
        self.done, self.first, self.overtaken = saved.done, saved.first, saved.overtaken
        for owner, (running, waiting, gpus) in saved.sweeps.items():
            sweep = self.sweeps[owner]
            sweep.running, sweep.waiting, sweep.gpus = running, waiting, gpus
        for state in self.states.values():
            state.tasks = state.jobs_left = 0
        self._count(tasks)
        for key, held in saved.held:
            self.states[key].held = held

    def _count(self, tasks: Iterable[Task]) -> None:
        """Count what has not ended."""
        for task in tasks if self.states else ():
            key = key_of(task)
            if key in self.states and task.state not in TERMINAL:
                self.states[key].tasks += 1
                self.states[key].jobs_left += not task.plan.is_service

    def admits(self, task: Task) -> bool:
        """Return whether the cell of a task runs, or may begin now; a task without a cell always may."""
        found = self._of(task)
        if found is None:
            return True
        sweep, index, _ = found
        return index in sweep.running or sweep.has_room

    def hold(self, task: Task) -> None:
        """Keep a task that may start until its cell may begin."""
        found = self._of(task)
        assert found is not None
        sweep, index, state = found
        if not state.held:
            heappush(sweep.waiting, index)
        state.held.append(task.index)

    def may_take(self, tasks: Sequence[Task], task: Task, placement: Placement, *, jobs: int) -> bool:
        """Return whether a task may have GPUs now: its sweep's budget and the task that waits first decide.

        `jobs`, which are not services, run: while there are any, some GPUs will come free.
        """
        found = self._of(task)
        wanted = gpus_of(placement)
        if found is None or not wanted:
            return True
        budget, first = found[0].planned.gpu_budget, self._first_waiting(tasks)
        is_behind = first is not None and first.index < task.index and first.plan.backend == task.plan.backend
        if is_behind and self.overtaken >= MAX_OVERTAKEN and jobs:
            return False
        return budget is None or found[0].gpus + wanted <= budget

    def found_no_room(self, tasks: Sequence[Task], task: Task, placement: Placement) -> None:
        """Note that a task of a cell found too few free GPUs; of these the first in plan order is not overtaken for ever."""
        if self._of(task) is None or not gpus_of(placement):
            return
        first = self._first_waiting(tasks)
        if first is None or task.index < first.index:
            self.first, self.overtaken = task.index, 0

    def _first_waiting(self, tasks: Sequence[Task]) -> Task | None:
        if self.first is None or tasks[self.first].state is not TaskState.QUEUED:
            self.first = None
            return None
        return tasks[self.first]

    def occupy(self, task: Task, placement: Placement) -> None:
        """Note that a task starts."""
        found = self._of(task)
        if found is not None:
            found[0].running.add(found[1])
            found[0].gpus += gpus_of(placement)
            if self.first is not None and task.index > self.first and gpus_of(placement):
                self.overtaken += 1

    def release(self, task: Task, placement: Placement) -> None:
        """Note that a task has left its place."""
        found = self._of(task)
        if found is not None:
            found[0].gpus -= gpus_of(placement)

    def changed(self, task: Task, *, was_end: bool) -> list[int]:
        """Note that a task has ended, or starts again after its end; return tasks that may start because of it."""
        is_end = task.state in TERMINAL
        found = self._of(task) if is_end != was_end else None
        if found is None:
            return []
        sweep, index, state = found
        by = -1 if is_end else 1
        state.tasks += by
        state.jobs_left += by * (not task.plan.is_service)
        if is_end and state.jobs_left == 0 and state.services and not task.plan.is_service:
            self.done.append((sweep.planned.owner, index))
        if is_end and state.tasks == 0:
            sweep.running.discard(index)
        return self._admitted(sweep) if is_end else []

    def forget_held(self) -> None:
        """Hold no task any more: all that may start are asked about again."""
        for state in self.states.values():
            state.held = []
        for sweep in self.sweeps.values():
            sweep.waiting = []
        self.first, self.overtaken = None, 0

    def take_done(self) -> list[int]:
        """Return the services of the cells whose jobs have ended, once."""
        done, self.done = self.done, []
        return [
            index for key in done if self.states[key].jobs_left == 0 for index in self.states[key].services
        ]

    def _admitted(self, sweep: SweepState) -> list[int]:
        """Let cells begin as far as the limit allows; return their tasks that were held."""
        admitted: list[int] = []
        while sweep.waiting and sweep.has_room:
            index = heappop(sweep.waiting)
            state = self.states[sweep.planned.owner, index]
            held, state.held = state.held, []
            if state.tasks:
                sweep.running.add(index)
                admitted += held
        return admitted

    def _of(self, task: Task) -> tuple[SweepState, int, CellState] | None:
        key = key_of(task)
        if key is None or key not in self.states:
            return None
        return self.sweeps[key[0]], key[1], self.states[key]


def key_of(task: Task) -> CellKey | None:
    """Return the key of a task's cell."""
    cell = task.plan.cell
    return None if cell is None else (cell.owner, cell.index)


def gpus_of(placement: Placement) -> int:
    """Return the GPUs that a placement takes."""
    if placement.is_shared:
        return 0
    each = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    return each * (placement.node_count if placement.is_flexible else len(placement.nodes))
