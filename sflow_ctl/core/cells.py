"""The cells of sweeps while a run continues: how many may run at once, which are done, and how many GPUs they have.

Copies of a task for items of which only so many may run at once are counted as cells of one task each.

A cell runs from the start of its first task until all of its tasks have ended. Cells that have to wait begin in their order. Data
and queries only: `transitions` reports every change of a task, `dispatch` asks before it starts one.
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any, Protocol

from msgspec import Struct, field

from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Placement, Plan, PlannedTask
from sflow_ctl.plan.parts.cells import PlannedSweep

CellKey = tuple[str, str]
"""The task whose sweep it is, empty for the workflow's, and the id of the cell: its position changes with the plan."""


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

    position: int = 0
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
    running: set[str] = field(default_factory=set)
    waiting: list[tuple[int, str]] = field(default_factory=list)
    """Positions and ids of cells with tasks that are held, as a heap."""
    gpus: int = 0
    """GPUs that its tasks have."""

    @property
    def has_room(self) -> bool:
        """Return whether another cell may begin."""
        limit = self.planned.max_parallel
        return limit is None or len(self.running) < limit


class SavedCells(Struct, frozen=True):
    """The cells, as a checkpoint has them: which tasks of a cell have ended is counted from the tasks."""

    sweeps: dict[str, tuple[set[str], list[tuple[int, str]], int]]
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
        cells = cls({sweep.owner: SweepState(sweep) for sweep in _limited(plan)})
        cells._take_in(tasks)
        return cells

    def revise(self, plan: Plan, tasks: Iterable[Task]) -> None:
        """Take in another plan of a live run, with its tasks: what runs, and the GPUs of that, stays.

        All tasks that were held must be asked about again.
        """
        before, self.sweeps = self.sweeps, {sweep.owner: SweepState(sweep) for sweep in _limited(plan)}
        for owner in before.keys() & self.sweeps.keys():
            self.sweeps[owner].running, self.sweeps[owner].gpus = before[owner].running, before[owner].gpus
        self.states.clear()
        self._take_in(tasks)
        self.forget_held()

    def grow(self, tasks: Sequence[Task]) -> None:
        """Take in tasks that have joined a live run; all else stays as it is."""
        limited: dict[str, PlannedTask] = {}
        for task in tasks:
            if task.plan.foreach is not None:
                limited.setdefault(task.plan.base, task.plan)
        for sweep in _limited_items(limited.values()):
            self.sweeps.setdefault(sweep.owner, SweepState(sweep))
        self._take_in(tasks)

    def _take_in(self, tasks: Iterable[Task]) -> None:
        for task in tasks if self.sweeps else ():
            self.joins(task)

    def joins(self, task: Task) -> None:
        """Count a task that has got its plan."""
        key, cell = key_of(task), task.plan.cell
        if key is None or key[0] not in self.sweeps:
            return
        state = self.states.setdefault(key, CellState())
        if not task.plan.removed_in:
            state.position = _turn_of(task.plan) if cell is None else cell.index
        if task.plan.is_service:
            state.services.append(task.index)
        self._count(task, state)

    def leaves(self, task: Task) -> None:
        """Count a task no longer: it is about to get another plan."""
        found = self._of(task)
        if found is None:
            return
        if task.index in found[2].services:
            found[2].services.remove(task.index)
        self._count(task, found[2], -1)

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
        self.states.clear()
        self._take_in(tasks)
        for key, held in saved.held:
            self.states[key].held = held

    def _count(self, task: Task, state: CellState, by: int = 1) -> None:
        """Count a task, unless it has ended."""
        if task.state not in TERMINAL:
            state.tasks += by
            state.jobs_left += by * (not task.plan.is_service)

    def admits(self, task: Task) -> bool:
        """Return whether the cell of a task runs, or may begin now; a task without a cell always may."""
        found = self._of(task)
        if found is None:
            return True
        sweep, cell, _ = found
        return cell in sweep.running or sweep.has_room

    def hold(self, task: Task) -> None:
        """Keep a task that may start until its cell may begin."""
        found = self._of(task)
        assert found is not None
        sweep, cell, state = found
        if not state.held:
            heappush(sweep.waiting, (state.position, cell))
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
        sweep, cell, state = found
        by = -1 if is_end else 1
        state.tasks += by
        state.jobs_left += by * (not task.plan.is_service)
        if is_end and state.jobs_left == 0 and state.services and not task.plan.is_service:
            self.done.append((sweep.planned.owner, cell))
        if is_end and state.tasks == 0:
            sweep.running.discard(cell)
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
            _, cell = heappop(sweep.waiting)
            state = self.states[sweep.planned.owner, cell]
            held, state.held = state.held, []
            if state.tasks:
                sweep.running.add(cell)
                admitted += held
        return admitted

    def _of(self, task: Task) -> tuple[SweepState, str, CellState] | None:
        key = key_of(task) if self.states else None
        if key is None or key not in self.states:
            return None
        return self.sweeps[key[0]], key[1], self.states[key]


def key_of(task: Task) -> CellKey | None:
    """Return the key of a task's cell; the copies of a task that only so many may run at once are cells of their own."""
    plan = task.plan
    if plan.foreach is not None and plan.item is not None and plan.foreach.max_parallel is not None:
        return _owner_of(plan), plan.name
    return None if plan.cell is None else (plan.cell.owner, plan.cell.id)


def _turn_of(plan: PlannedTask) -> int:
    """Return the place of a copy in the order in which they start."""
    turn = None if plan.item is None else plan.item.turn
    return plan.replica_index if turn is None else turn


def _owner_of(plan: PlannedTask) -> str:
    return f"foreach {plan.base}"


def _limited(plan: Plan) -> Iterable[PlannedSweep]:
    """Yield the sweeps of a plan, and those of its tasks with items of which only so many may run at once."""
    yield from plan.sweeps
    yield from _limited_items(kinds_of(plan.tasks))


def _limited_items(kinds: Iterable[PlannedTask]) -> Iterable[PlannedSweep]:
    """Yield, for each task with items of which only so many may run at once, how many those are."""
    seen: set[str] = set()
    for kind in kinds:
        foreach = kind.foreach
        if foreach is not None and foreach.max_parallel is not None and kind.base not in seen:
            seen.add(kind.base)
            yield PlannedSweep(owner=_owner_of(kind), cells=0, total=0, max_parallel=foreach.max_parallel)


def gpus_of(placement: Placement) -> int:
    """Return the GPUs that a placement takes."""
    if placement.is_shared:
        return 0
    each = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    return each * (placement.node_count if placement.is_flexible else len(placement.nodes))
