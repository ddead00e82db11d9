"""The copies of tasks in the cells of a sweep, and what each waits for. Called by the phase that expands tasks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sflow_ctl.format import schema
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.sweeping.cells import SweptCell, refused
from sflow_ctl.planner.sweeping.variants import CellNames, changed

if TYPE_CHECKING:
    from sflow_ctl.planner.phases.graph import Expanded, Replica


def offsets_of(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return where the copies of each cell begin, and the end of the last ones."""
    result = [0]
    for size in sizes:
        result.append(result[-1] + size)
    return tuple(result)


def check_task(task: schema.Task) -> None:
    """Check that a task can be swept. Raises: UnplannableError."""
    if task.replicas is not None and task.replicas.min_ready is not None:
        hint = "give it sweep: false, or drop min_ready"
        raise refused(
            task.name, "has min_ready, which is not known in cells of a sweep", hint, "replicas", "min_ready"
        )
    if task.main:
        hint = "drop main: a run with a sweep ends when all of its cells have ended"
        if task.main is True or str(task.main).lower() == "true":
            raise refused(task.name, "is main, and runs once for each cell", hint, "main")


class Variants:
    """Makes the task as each cell has it; cells that change nothing, and need no other names, share the one as written."""

    def __init__(self, tasks: Mapping[str, "Expanded"]) -> None:
        """`tasks` are all tasks by name, with the copies that they have."""
        self._tasks = tasks
        self._changed: dict[tuple[str, str], schema.Task] = {}
        self._names: dict[str, tuple[CellNames, tuple[str, ...]]] = {}

    def of(self, one: "Expanded", cell: SweptCell) -> schema.Task:
        """Return the task of a cell. Raises: UnplannableError."""
        task = one.task
        changes = cell.overrides.get(task.name, ())
        if changes:
            key = (task.name, repr(changes))
            if key not in self._changed:
                self._changed[key] = changed(task, changes)
            task = self._changed[key]
        names, others = self._names_of(one)
        if not names:
            return task
        return names.put(task, {other: self._tasks[other].names_in(cell.cell.index) for other in others})

    def _names_of(self, one: "Expanded") -> tuple[CellNames, tuple[str, ...]]:
        name = one.task.name
        if name not in self._names:
            everywhere = {wanted.task for wanted in one.task.dependencies if wanted.cells == "all"}
            others = tuple(
                other
                for other, two in self._tasks.items()
                if two.is_in_sweep_of(one) and other not in everywhere
            )
            names = CellNames(one.task, {other: self._tasks[other].names_in(0) for other in others})
            self._names[name] = (names, others)
        return self._names[name]


def members_in(other: "Expanded", cell: int, until: str) -> Sequence["Replica"]:
    """Return the copies in a cell that must have come so far: of a chain the last one, or the first for its start."""
    copies = other.replicas_in(cell)
    if other.is_chain_in_cell and copies:
        return copies[:1] if until == "started" else copies if until == "failed" else copies[-1:]
    return copies


def needed_in_cell(
    one: "Expanded", tasks: Mapping[str, "Expanded"], cell: int
) -> Iterator[tuple[schema.Dependency, Sequence["Replica"]]]:
    """Yield what a task of a cell waits for in its own cell. A task without copies there is replaced by what it waits for."""
    pending = list(reversed(one.task.dependencies))
    seen: set[str] = set()
    while pending:
        wanted = pending.pop()
        other = tasks[wanted.task]
        if not other.is_in_sweep_of(one) or wanted.cells == "all":
            continue
        members = members_in(other, cell, wanted.until)
        if members:
            yield wanted, members
        elif wanted.task not in seen:
            seen.add(wanted.task)
            pending += reversed(other.task.dependencies)


def joined_tasks(
    one: "Expanded", tasks: Mapping[str, "Expanded"]
) -> Sequence[tuple[schema.Dependency, "Expanded"]] | None:
    """Return what a task waits for in its own cell, whichever that is; None unless all those have one copy in each cell."""
    joined = [
        (wanted, tasks[wanted.task])
        for wanted in one.task.dependencies
        if tasks[wanted.task].is_in_sweep_of(one) and wanted.cells != "all"
    ]
    has_one_each = all(
        other.cells is not None and list(other.offsets) == list(range(len(other.cells.cells) + 1))
        for _, other in joined
    )
    return joined if has_one_each else None


def refuse_waiting_for_all(tasks: Sequence["Expanded"], findings: Findings) -> None:
    """Find tasks of cells that wait for other cells, directly or not, where only some cells may run at once."""
    by_name = {one.task.name: one for one in tasks}
    for one in tasks:
        if one.cells is None or one.cells.planned.max_parallel is None or len(one.cells.cells) < 2:
            continue
        outside = [w for w in one.task.dependencies if not _joins(one, by_name[w.task], w)]
        through = next((w.task for w in outside if _reaches(by_name, w.task, one)), None)
        if through is not None:
            limit = one.cells.planned.max_parallel
            what = f'task "{one.task.name}" waits for all cells, through "{through}", and only {limit} of them may run at once'
            where = findings.loaded.where("tasks", one.task.name, "depends_on")
            findings.add(
                "never-runs", what, where, "give what waits for all cells sweep: false, or drop max_parallel"
            )


def _joins(one: "Expanded", other: "Expanded", wanted: schema.Dependency) -> bool:
    return other.is_in_sweep_of(one) and wanted.cells == "same"


def _reaches(tasks: Mapping[str, "Expanded"], name: str, target: "Expanded") -> bool:
    """Return whether a task is in the sweep of another one, or waits for such a task."""
    pending, seen = [name], {name}
    while pending:
        one = tasks[pending.pop()]
        if one.is_in_sweep_of(target):
            return True
        more = [wanted.task for wanted in one.task.dependencies if wanted.task not in seen]
        seen.update(more)
        pending += more
    return False
