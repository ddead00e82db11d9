"""The tasks of a plan, of which many copies are one entry: `Copies`, made into tasks when they are asked for.

100,000 replicas that differ in nothing but their names cost as much as one of them so, until a scheduler needs a record of each.
Made by the planner and by the reader of `plan.json`; everything that shows a plan reads them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, overload

from msgspec.structs import replace

from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.model import Dependency, PlannedTask
from sflow_ctl.plan.parts.cells import item_of
from sflow_ctl.plan.words import Until


class Copies(Sequence[PlannedTask]):
    """All copies of a task: the first one, and others that differ in name, index, and what they wait for in a chain."""

    __slots__ = ("chain_until", "first", "items", "names")

    def __init__(
        self,
        first: PlannedTask,
        size: int,
        chain_until: Until | None = None,
        items: Sequence[Any] | None = None,
    ) -> None:
        """With `chain_until` each copy waits for the one before it to come so far, and for nothing else.

        `items` are those that the copies are for, one for each, or what `grouped` makes of them.
        """
        self.first, self.chain_until, self.items = first, chain_until, items
        self.names = CopyNames(first.base, size)

    def like(self, first: PlannedTask) -> "Copies":
        """Return as many copies of another first task."""
        return Copies(first, len(self), self.chain_until, self.items)

    def __len__(self) -> int:
        return self.names.size

    @overload
    def __getitem__(self, index: int) -> PlannedTask: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PlannedTask]: ...
    def __getitem__(self, index: int | slice) -> PlannedTask | Sequence[PlannedTask]:
        if isinstance(index, slice):
            return tuple(self._copies(range(self.names.size)[index]))
        return next(self._copies((range(self.names.size)[index],)))

    def __iter__(self) -> Iterator[PlannedTask]:
        return self._copies(range(self.names.size))

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def _copies(self, indices: Sequence[int]) -> Iterator[PlannedTask]:
        first, base = self.first, self.first.base
        depends_on, is_paired = first.depends_on, _has_pairs(first)
        for index in indices:
            if index == 0:
                yield first
                continue
            if self.chain_until is not None:
                depends_on = (Dependency(task=f"{base}_{index - 1}", until=self.chain_until),)
            item = first.item if self.items is None else item_of(first.foreach, self.items[index])
            paired = paired_with(first, index) if is_paired else {"depends_on": depends_on}
            yield replace(first, name=f"{base}_{index}", replica_index=index, item=item, **paired)


def _has_pairs(first: PlannedTask) -> bool:
    """Return whether copies are paired with those of another task."""
    sources = (source for given in first.inputs for source in given.sources)
    return any(one.pair for one in first.depends_on) or any(one.pair for one in sources)


def paired_with(first: PlannedTask, index: int) -> dict[str, Any]:
    """Return what a copy at a position has of other tasks' copies: those at the same position."""
    return {
        "depends_on": tuple(
            replace(one, task=f"{one.pair}_{index}") if one.pair else one for one in first.depends_on
        ),
        "inputs": tuple(
            replace(
                given,
                sources=tuple(
                    replace(one, tasks=(f"{one.pair}_{index}",)) if one.pair else one for one in given.sources
                ),
            )
            for given in first.inputs
        ),
    }


Part = PlannedTask | Copies


class TasksInParts(Sequence[PlannedTask]):
    """Tasks in plan order. A copy is a new object each time that it is asked for."""

    __slots__ = ("_ends", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._ends = list(
            accumulate(1 if isinstance(part, PlannedTask) else len(part) for part in self.parts)
        )

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> PlannedTask: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PlannedTask]: ...
    def __getitem__(self, index: int | slice) -> PlannedTask | Sequence[PlannedTask]:
        if isinstance(index, slice):
            return tuple(map(self._at, range(len(self))[index]))
        return self._at(range(len(self))[index])

    def part_at(self, index: int) -> int:
        """Return the position of the part that has the task at an index."""
        return bisect_right(self._ends, index)

    def with_more(self, place: int, task: PlannedTask, more: Sequence[Part]) -> "TasksInParts":
        """Return tasks of which the part at a place is another task, and others follow."""
        other = TasksInParts(())
        other.parts = (*self.parts[:place], task, *self.parts[place + 1 :], *more)
        sizes = (len(part) if isinstance(part, Copies) else 1 for part in more)
        other._ends = self._ends + list(accumulate(sizes, initial=len(self)))[1:]
        return other

    def since(self, index: int) -> Iterator[PlannedTask]:
        """Yield the tasks from an index on, which begins a part."""
        for part in self.parts[self.part_at(index) :]:
            yield from part if isinstance(part, Copies) else (part,)

    def _at(self, index: int) -> PlannedTask:
        place = self.part_at(index)
        part = self.parts[place]
        return part[index - self._ends[place] + len(part)] if isinstance(part, Copies) else part

    def __iter__(self) -> Iterator[PlannedTask]:
        for part in self.parts:
            if isinstance(part, Copies):
                yield from part
            else:
                yield part

    def __eq__(self, other: object) -> bool:
        return _are_equal(self, other)

    __hash__ = None  # type: ignore[assignment]


def _are_equal(tasks: Sequence[PlannedTask], other: object) -> bool:
    if not isinstance(other, tuple | list | Copies | TasksInParts) or len(tasks) != len(other):
        return False
    return all(one == another for one, another in zip(tasks, other, strict=True))


def listed_tasks(parts: Sequence[Part]) -> Sequence[PlannedTask]:
    """Return the tasks of these parts."""
    tasks = tuple(part for part in parts if isinstance(part, PlannedTask))
    return tasks if len(tasks) == len(parts) else TasksInParts(parts)


def with_more(
    tasks: Sequence[PlannedTask], index: int, task: PlannedTask, more: Sequence[Part]
) -> Sequence[PlannedTask] | None:
    """Return tasks of which the one at an index is another, and others follow; None if that one is a copy among others.

    The tasks that stay are not looked at one by one.
    """
    if not isinstance(tasks, TasksInParts):
        parts = (*tasks[:index], task, *tasks[index + 1 :], *more)
        return listed_tasks(parts) if any(isinstance(part, Copies) for part in more) else parts  # type: ignore[return-value]
    place = tasks.part_at(index)
    return None if isinstance(tasks.parts[place], Copies) else tasks.with_more(place, task, more)


def tasks_since(tasks: Sequence[PlannedTask], index: int) -> Sequence[PlannedTask]:
    """Return the tasks from an index on, at which a part begins."""
    return tuple(tasks.since(index)) if isinstance(tasks, TasksInParts) else tasks[index:]


def parts_of(tasks: Sequence[PlannedTask]) -> Sequence[Part]:
    """Return the parts of tasks; each task by itself where there are no others."""
    return tasks.parts if isinstance(tasks, TasksInParts) else tasks


def kinds_of(tasks: Sequence[PlannedTask]) -> Iterator[PlannedTask]:
    """Yield one task for all that differ from it only in name, index and dependencies."""
    return map(kind_of, parts_of(tasks))


def kind_of(part: Part) -> PlannedTask:
    """Return the task that stands for a part."""
    return (
        part if isinstance(part, PlannedTask) else part.first
    )  # `Copies` is an ABC, of which the question is slow


def names_of(tasks: Sequence[Part]) -> Iterator[str]:
    """Yield the names of tasks, or of those in parts, in their order."""
    for part in tasks.parts if isinstance(tasks, TasksInParts) else tasks:
        if isinstance(part, PlannedTask):
            yield part.name
        else:
            yield from part.names


def names_where(tasks: Sequence[PlannedTask], fits: Callable[[PlannedTask], bool]) -> Iterator[str]:
    """Yield the names of the tasks that fit, which is asked of one of each kind."""
    return names_of([part for part in parts_of(tasks) if fits(kind_of(part))])


def gang_sizes(tasks: Sequence[PlannedTask]) -> dict[str, int]:
    """Return the number of ranks of each task that has several, by name."""
    gangs = [part for part in parts_of(tasks) if kind_of(part).world_size > 1]
    return {name: kind_of(part).world_size for part in gangs for name in names_of([part])}


def startable(part: Part) -> int:
    """Return how many tasks of a part wait for no other task."""
    if kind_of(part).depends_on:
        return 0
    return 1 if isinstance(part, PlannedTask) or part.chain_until is not None else len(part)


def members_of(tasks: Sequence[PlannedTask]) -> dict[str, Sequence[PlannedTask]]:
    """Return the tasks as written with their concrete tasks, in plan order; those that a revision has removed are none."""
    result: dict[str, Any] = {}
    for part in parts_of(tasks):
        if isinstance(part, Copies):
            result[part.first.base] = part
        elif not part.removed_in and not part.is_grown:
            result.setdefault(part.base, []).append(part)
    return result


class ByName:
    """Finds tasks by their names, without making the others."""

    def __init__(self, tasks: Sequence[PlannedTask]) -> None:
        parts = parts_of(tasks)
        self._single = {part.name: part for part in parts if not isinstance(part, Copies)}
        self._copies = {part.first.base: part for part in parts if isinstance(part, Copies)}

    def get(self, name: str) -> PlannedTask | None:
        """Return the task of this name."""
        if name in self._single:
            return self._single[name]
        copies = self._copies.get(name.rpartition("_")[0])
        index = None if copies is None else copies.names.find(name)
        return None if copies is None or index is None else copies[index]

    def __getitem__(self, name: str) -> PlannedTask:
        task = self.get(name)
        if task is None:
            raise KeyError(name)
        return task

    def base(self, name: str) -> str:
        """Return the task as written of a concrete one."""
        single = self._single.get(name)
        return name.rpartition("_")[0] if single is None else single.base
