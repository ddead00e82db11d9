"""The concrete tasks of a workflow and what they wait for: the types that `expand` makes and all later phases read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.format import schema
from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.model import Dependency
from sflow_ctl.plan.parts.cells import PlannedForeach, PlannedItem, item_of
from sflow_ctl.plan.words import Until
from sflow_ctl.planner.findings import UnplannableError

if TYPE_CHECKING:
    from sflow_ctl.planner.sweeping.cells import CellSet, SweptCell  # most workflows have no sweep


class Replica(Struct, frozen=True):
    """One copy of a task: its concrete name, and the values of the variables it sweeps."""

    name: str
    index: int
    """Its position among the copies of its task, of a swept task among those of its cell."""
    sweep: tuple[tuple[str, Any], ...] = ()
    cell: "SweptCell | None" = None
    task: schema.Task | None = None
    """The task as its cell has it; None as it is written."""


class Counted(Sequence[Replica]):
    """The copies of a task that has only a number of them, each made when it is asked for."""

    __slots__ = ("names",)

    def __init__(self, names: CopyNames) -> None:
        self.names = names

    def __len__(self) -> int:
        return self.names.size

    @overload
    def __getitem__(self, index: int) -> Replica: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Replica]: ...
    def __getitem__(self, index: int | slice) -> Replica | Sequence[Replica]:
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return Replica(self.names[chosen], chosen)
        return tuple(Replica(self.names[one], one) for one in chosen)

    def __iter__(self) -> Iterator[Replica]:
        return (Replica(name, index) for index, name in enumerate(self.names))


class Expanded(Struct, frozen=True, dict=True):
    """A task as written, with its copies."""

    task: schema.Task
    replicas: Sequence[Replica]
    is_replicated: bool
    is_sequential: bool
    cells: "CellSet | None" = None
    """The cells in which it has copies, one cell after the other."""
    offsets: Sequence[int] = ()
    """Where the copies of each cell begin, and the end of the last ones."""
    is_chain_in_cell: bool = False
    foreach: PlannedForeach | None = None
    items: Sequence[Any] | None = None
    """What each of its copies is for, as `grouped` has it; None without `foreach`, and for a list that is not known yet."""

    @property
    def is_late(self) -> bool:
        """Return whether the list that its copies are for is known only while the run continues."""
        return self.foreach is not None and self.items is None

    def items_of(self, replica: Replica) -> dict[str, Any]:
        """Return the fields of a planned copy about its item, and its cell."""
        cell = None if replica.cell is None else replica.cell.cell
        return {"cell": cell, "foreach": self.foreach, "item": self.item_of(replica)}

    def item_of(self, replica: Replica) -> PlannedItem | None:
        """Return the item of a copy."""
        return None if self.items is None else item_of(self.foreach, self.items[replica.index])

    @property
    def first_item(self) -> PlannedItem | None:
        """Return the item of the first copy; None without `foreach`, and for a list that is not known."""
        return item_of(self.foreach, self.items[0]) if self.items else None

    @property
    def item_count(self) -> int:
        """Return how many items its copies are for; without `foreach`, how many copies there are."""
        if self.items is None or self.foreach is None or self.foreach.chunk is None:
            return len(self.replicas)
        return sum(len(positions) for _, positions, _ in self.items)

    def task_of(self, replica: Replica) -> schema.Task:
        """Return the task that a copy is of, as its cell has it."""
        return replica.task or self.task

    def is_in_sweep_of(self, other: "Expanded") -> bool:
        """Return whether it has copies in the same cells as another task."""
        return self.cells is not None and self.cells is other.cells

    def replicas_in(self, cell: int) -> Sequence[Replica]:
        """Return its copies in a cell."""
        return self.replicas[self.offsets[cell] : self.offsets[cell + 1]]

    def names_in(self, cell: int) -> tuple[str, ...]:
        """Return the names of its copies in a cell."""
        return tuple(replica.name for replica in self.replicas_in(cell))

    @cached_property
    def names(self) -> Sequence[str]:
        """Return the names of its copies."""
        if isinstance(self.replicas, Counted):
            return self.replicas.names
        return tuple(replica.name for replica in self.replicas)


def dependencies(expanded: Sequence[Expanded]) -> dict[str, tuple[Dependency, ...]]:
    """Return what each task as written waits for: all of its copies, or the first one of a sequential chain.

    A dependency on a parallel task is on all replicas (for `failed`, on any), on a sequential one it is on
    the last replica.
    """
    by_base = {one.task.name: one for one in expanded}
    result: dict[str, tuple[Dependency, ...]] = {}
    for one in expanded:
        outside: list[Dependency] = []
        for wanted in with_replicas(one.task, by_base):
            other = by_base[wanted.task]
            if wanted.items == "same" and one.foreach is not None:
                outside += _paired(one, other, wanted)
            elif other.is_sequential and wanted.until not in ("started", "failed"):
                outside.append(Dependency(task=other.replicas[-1].name, until=wanted.until))
            elif other.is_sequential and wanted.until == "started":
                outside.append(Dependency(task=other.replicas[0].name, until=wanted.until))
            else:
                is_group = other.is_replicated
                outside.append(Dependency(task=wanted.task, until=wanted.until, is_group=is_group))
                if is_group and has_quorum(other.task) and wanted.until == "settled":
                    # Single failures are tolerated: enough must complete.
                    if other.task.on_failure != "continue":
                        outside.append(Dependency(task=wanted.task, until="completed", is_group=True))
                elif is_group and has_quorum(other.task) and wanted.until in ("available", "completed"):
                    outside.append(Dependency(task=wanted.task, until="finished", is_group=True))
        result[one.task.name] = tuple(dict.fromkeys(outside))
    return result


def _paired(one: Expanded, other: Expanded, wanted: schema.Dependency) -> Iterator[Dependency]:
    """Yield what a copy at position 0 waits for; a task that stands for copies waits until those of the other are there."""
    if not one.is_late:
        yield Dependency(task=f"{wanted.task}_0", until=wanted.until, pair=wanted.task)
    elif other.is_late:
        yield Dependency(task=wanted.task, until="completed")


def has_quorum(task: schema.Task) -> bool:
    """Return whether a part of a task's copies is enough. Its dependants wait for the end of all, and for enough of them."""
    success = task.success
    return success is not None and (success.min_count is not None or success.min_ratio is not None)


def with_replicas(task: schema.Task, by_base: Mapping[str, Expanded]) -> list[schema.Dependency]:
    """Return what a task waits for; a task without replicas is replaced by its own dependencies.

    Raises: UnplannableError for a failure that can never happen.
    """
    written = task.dependencies
    if all(by_base[wanted.task].replicas for wanted in written):
        return list(dict.fromkeys(written))
    result: dict[schema.Dependency, None] = {}
    pending = list(reversed(written))
    seen: set[str] = set()
    while pending:
        wanted = pending.pop()
        if by_base[wanted.task].replicas:
            result[wanted] = None
        elif wanted.until == "failed":
            what = f'task "{task.name}" waits for a failure of "{wanted.task}", which has no replicas'
            raise UnplannableError("never-runs", what, "leave out one of them", ("depends_on",))
        elif wanted.task not in seen:
            seen.add(wanted.task)
            pending += reversed(by_base[wanted.task].task.dependencies)
    return list(result)


class Graph(Struct, frozen=True, dict=True):
    """All concrete tasks of a workflow and what they wait for, in file and replica order."""

    tasks: tuple[Expanded, ...]
    outside: Mapping[str, tuple[Dependency, ...]]
    """Maps tasks as written to what they wait for; of a chain only the first copy does."""
    replicas_of: Mapping[str, Sequence[str]]
    """Maps tasks as written to concrete names."""
    chain_until: Until = "completed"
    """How far a copy of a chain must be for the next one; being ready is not enough."""

    @cached_property
    def _tasks(self) -> Mapping[str, Expanded]:
        return {one.task.name: one for one in self.tasks}

    def task_named(self, name: str) -> Expanded:
        """Return a task as written, with its copies."""
        return self._tasks[name]

    @cached_property
    def _beside_cells(self) -> dict[str, tuple[Dependency, ...]]:
        """Maps swept tasks to what they wait for outside their cell."""
        return {}

    @cached_property
    def _joined(self) -> dict[str, Sequence[tuple[schema.Dependency, Expanded]] | None]:
        """Maps swept tasks to what they wait for in their cells; None where that differs, or has several copies."""
        return {}

    def _waits_for_in_cell(self, one: Expanded, replica: Replica, cell: int) -> tuple[Dependency, ...]:
        if one.is_chain_in_cell and replica.index > 0:
            before = one.replicas_in(cell)[replica.index - 1]
            return (Dependency(task=before.name, until=self.chain_until),)
        name = one.task.name
        if name not in self._beside_cells:
            joined = {wanted.task for wanted in one.task.dependencies if wanted.cells == "same"}
            joined = {other for other in joined if self._tasks[other].is_in_sweep_of(one)}
            self._beside_cells[name] = tuple(each for each in self.outside[name] if each.task not in joined)
        own = [
            Dependency(task=member.name, until=wanted.until)
            for wanted, members in self._needed_in_cell(one, cell)
            for member in members
        ]
        return (*own, *self._beside_cells[name])

    def _needed_in_cell(
        self, one: Expanded, cell: int
    ) -> Iterable[tuple[schema.Dependency, Sequence[Replica]]]:
        """Return what a task of a cell waits for in it: found once, where all of that has one copy in each cell."""
        from sflow_ctl.planner.sweeping.copies import joined_tasks, needed_in_cell

        name = one.task.name
        if name not in self._joined:
            self._joined[name] = joined_tasks(one, self._tasks)
        joined = self._joined[name]
        if joined is None:
            return needed_in_cell(one, self._tasks, cell)
        return [(wanted, other.replicas[cell : cell + 1]) for wanted, other in joined]

    def waits_for(self, one: Expanded, replica: Replica) -> tuple[Dependency, ...]:
        """Return what a concrete task waits for."""
        if replica.cell is not None:
            return self._waits_for_in_cell(one, replica, replica.cell.cell.index)
        if one.is_sequential and replica.index > 0:
            return (Dependency(task=one.replicas[replica.index - 1].name, until=self.chain_until),)
        outside = self.outside[one.task.name]
        if replica.index and any(each.pair for each in outside):
            return tuple(
                replace(each, task=f"{each.pair}_{replica.index}") if each.pair else each for each in outside
            )
        return outside
