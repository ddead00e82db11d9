"""The records of tasks whose copies differ in nothing but their names, each made when it is asked for.

A controller that takes over a run of 100,000 tasks begins with them: of those that have ended nearly none is looked at again.
The list is used in place of that of `build_graph`, and looks like it from outside.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, cast, overload

from msgspec import Struct

from sflow_ctl.core.model.task import Requirement, Task, members_needed
from sflow_ctl.core.states import NONE_MISSING, Reason, TaskState
from sflow_ctl.plan.copies.task_list import Copies, Part, kind_of, parts_of
from sflow_ctl.plan.model import Dependency, PlannedTask

_NOT_MADE = cast("Task", None)


class _Alike(Struct):
    """Tasks that are made later: what a new record of one has."""

    first: int
    copies: Copies
    needs: tuple[Requirement, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    unmet: int = 0
    state: TaskState = TaskState.WAITING
    last_reason: Reason | None = None


class LazyTasks(list[Task]):
    """The records of a plan's tasks, in plan order, linked by requirements."""

    def __init__(self, planned: Sequence[PlannedTask]) -> None:
        super().__init__([_NOT_MADE] * len(planned))
        self._alike: list[_Alike] = []
        self._firsts: list[int] = []
        self.kept: Mapping[int, Any] = {}
        """The states to be given, by index; those of tasks that have been made since as well."""
        self._give: Callable[[Task, Any], None] = _nothing
        parts, firsts = parts_of(planned), _firsts_of(parts_of(planned))
        named = {one.task for part in parts for one in kind_of(part).depends_on if not one.is_group}
        for first, part in zip(firsts, parts, strict=True):
            if isinstance(part, Copies) and _are_alike(part, named):
                self._alike.append(_Alike(first, part))
                continue
            for index, one in enumerate(part if isinstance(part, Copies) else (part,), first):
                super().__setitem__(index, Task(index=index, plan=one))
        self._firsts = [one.first for one in self._alike]
        self._link()

    # ------------------------------------------------------------------ what was made, and what was not

    def made(self) -> Iterator[Task]:
        """Yield the records that have been made: of the others none is live, or waits for anything but its start."""
        return (task for task in super().__iter__() if task is not _NOT_MADE)

    def is_made(self, index: int) -> bool:
        """Return whether a record has been made."""
        return super().__getitem__(index) is not _NOT_MADE

    def keep(self, kept: Mapping[int, Any], give: Callable[[Task, Any], None]) -> None:
        """Give the tasks with these indices their states, by calls of `give`: at once, or when their records are made."""
        self.kept, self._give = kept, give
        for task in self.made():
            if task.index in kept:
                give(task, kept[task.index])

    def is_kept(self, index: int) -> bool:
        """Return whether a task that is not made has a state to be given."""
        return index in self.kept and not self.is_made(index)

    def unmade_requirements(self) -> Iterator[Requirement]:
        """Yield the requirements that copies which are not made are members of."""
        for one in self._alike:
            yield from one.requirements

    def count_needs(self, requirements: Collection[Requirement]) -> list[int]:
        """Count what copies lack that are not made; return the other tasks that wait for one of these requirements."""
        changed = {id(one) for one in requirements}
        for alike in self._alike:
            if any(id(one) in changed for one in alike.needs):
                alike.unmet = sum(not one.is_met for one in alike.needs)
        return [index for one in requirements for index in one.dependants if self.is_made(index)]

    # ------------------------------------------------------------------ a list

    @overload
    def __getitem__(self, index: SupportsIndex) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        found = super().__getitem__(index)
        return self._make(range(len(self))[index]) if found is _NOT_MADE else found

    def __iter__(self) -> Iterator[Task]:
        return map(self.__getitem__, range(len(self)))

    def _make(self, index: int) -> Task:
        alike = self._alike[bisect_right(self._firsts, index) - 1]
        task = Task(
            index=index,
            plan=alike.copies[index - alike.first],
            state=alike.state,
            last_reason=alike.last_reason,
            requirements=alike.requirements,
            needs=alike.needs,
            unmet=alike.unmet,
        )
        super().__setitem__(index, task)
        kept = self.kept.get(index)
        if kept is not None:
            self._give(task, kept)
        return task

    # ------------------------------------------------------------------ requirements

    def _link(self) -> None:
        """Link the tasks as `task.link` does."""
        holders: list[Task | _Alike] = [*self.made(), *self._alike]
        holders.sort(key=lambda one: _indices_of(one)[0])
        members = _Members(holders)
        known: dict[Dependency, Requirement] = {}
        for holder in holders:
            plan = _plan_of(holder)
            for dependency in plan.depends_on:
                requirement = known.get(dependency)
                if requirement is None:
                    requirement = known[dependency] = members.requirement(dependency)
                requirement.dependants += _indices_of(holder)
                holder.needs += (requirement,)
            holder.unmet = len(plan.depends_on) + (plan.finally_when is not None)
            if holder.unmet == 0:  # as the first tasks of a run
                holder.state, holder.last_reason = TaskState.QUEUED, NONE_MISSING


class _Members:
    """Finds the tasks that a dependency is about."""

    def __init__(self, holders: Sequence[Task | _Alike]) -> None:
        self._by_name = {one.plan.name: one for one in holders if isinstance(one, Task)}
        self._by_base: dict[str, list[Task | _Alike]] = {}
        for one in holders:
            if not _plan_of(one).removed_in and not _plan_of(one).is_grown:
                self._by_base.setdefault(_plan_of(one).base, []).append(one)

    def requirement(self, dependency: Dependency) -> Requirement:
        """Return the requirement of a dependency, of which its members know."""
        name = dependency.task
        holders = self._by_base[name] if dependency.is_group else [self._by_name[name]]
        indices = [index for holder in holders for index in _indices_of(holder)]
        size = sum(one.share if isinstance(one, Task) else len(one.copies) for one in holders)
        needed = members_needed(dependency, _plan_of(holders[0]), size)
        requirement = Requirement(dependency.until, needed, size, members=indices)
        for holder in holders:
            holder.requirements += (requirement,)
        return requirement


def _plan_of(holder: Task | _Alike) -> PlannedTask:
    return holder.plan if isinstance(holder, Task) else holder.copies.first


def _indices_of(holder: Task | _Alike) -> Sequence[int]:
    if isinstance(holder, Task):
        return (holder.index,)
    return range(holder.first, holder.first + len(holder.copies))


def _are_alike(copies: Copies, named: set[str]) -> bool:
    """Return whether nothing but names tells copies apart: none waits for another, or is waited for by itself."""
    first = copies.first
    if copies.chain_until is not None or first.removed_in or first.finally_when is not None:
        return False
    if first.quorum is not None and first.item is not None and first.item.positions is not None:
        return False  # each counts for as many members as it has items
    return not any(name in copies.names for name in named)


def _firsts_of(parts: Sequence[Part]) -> list[int]:
    """Return the index of the first task of each part."""
    firsts, index = [], 0
    for part in parts:
        firsts.append(index)
        index += len(part) if isinstance(part, Copies) else 1
    return firsts


def _nothing(_task: Task, _kept: object) -> None: ...


def made(tasks: list[Task]) -> Iterable[Task]:
    """Return the records that have been made: any other is neither live nor has it anything to be done for."""
    return tasks.made() if isinstance(tasks, LazyTasks) else tasks


def made_of(tasks: list[Task], indices: Iterable[int]) -> list[Task]:
    """Return those records of these indices that have been made."""
    if isinstance(tasks, LazyTasks):
        return [tasks[index] for index in indices if tasks.is_made(index)]
    return [tasks[index] for index in indices]
