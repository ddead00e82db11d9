"""Phase: from tasks as written to concrete tasks: replicas, sweeps, names, and the dependencies between them."""

import itertools
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

from msgspec import Struct

from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.listing import listed
from sflow_ctl.format import schema
from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.graph import find_cycle
from sflow_ctl.plan.model import Dependency
from sflow_ctl.plan.words import Until
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.impossible import find_impossible
from sflow_ctl.planner.numbers import as_int
from sflow_ctl.planner.phases.variables import environment_text
from sflow_ctl.planner.source import PlanInput, Scope

_UNSAFE = lazy_pattern(r"[^A-Za-z0-9_+=,@%^~]")
MAX_REPLICAS = 1_000_000
MAX_NAME_LENGTH = 200
"""The limit of a replica's name. A longer one is cut and ends in a checksum of the whole.

The name is a directory and a part of names such as `NAME.attempt-12.rank-1000.log`; a file system allows 255
bytes.
"""


class Replica(Struct, frozen=True):
    """One copy of a task: its concrete name, and the values of the variables it sweeps."""

    name: str
    index: int
    sweep: tuple[tuple[str, Any], ...] = ()


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


class Expanded(Struct, frozen=True):
    """A task as written, with its copies."""

    task: schema.Task
    replicas: Sequence[Replica]
    is_replicated: bool
    is_sequential: bool

    @property
    def names(self) -> Sequence[str]:
        """Return the names of its copies."""
        if isinstance(self.replicas, Counted):
            return self.replicas.names
        return tuple(replica.name for replica in self.replicas)


def expand(
    task: schema.Task, count: int | None, policy: str, domains: Mapping[str, Sequence[Any] | None]
) -> Expanded:
    """Return the copies of a task. `domains` has every variable, None for one without a domain.

    Raises: UnplannableError.
    """
    if task.replicas is None:
        return Expanded(task, (Replica(task.name, 0),), is_replicated=False, is_sequential=False)
    if policy not in ("parallel", "sequential"):
        raise UnplannableError(
            "wrong-value", f'task "{task.name}": policy "{policy}" is neither parallel nor sequential',
            path=("replicas", "policy"),
        )  # fmt: skip
    names = task.replicas.variables or []
    sweep = _sweep(task, names, domains)
    size = len(sweep) if names else count if count is not None else 1
    if names and count is not None and count != size:
        raise UnplannableError(
            "sweep-size",
            f'task "{task.name}": replicas.count {count} does not match sweep size {size}',
            "leave count out: the sweep decides",
            ("replicas", "count"),
        )
    if size < 0:
        raise UnplannableError(
            "wrong-value",
            f'task "{task.name}": replicas.count must be at least 0, is {size}',
            path=("replicas", "count"),
        )
    if size > MAX_REPLICAS:
        raise _too_many(task, ("replicas", "count"))
    replicas: Sequence[Replica] = Counted(CopyNames(task.name, size))
    if names:
        replicas = _distinct(
            tuple(
                Replica(_sweep_name(task.name, values), index, tuple(zip(names, values, strict=True)))
                for index, values in enumerate(sweep)
            )
        )
    return Expanded(task, replicas, is_replicated=True, is_sequential=policy == "sequential")


def _sweep(
    task: schema.Task, names: Sequence[str], domains: Mapping[str, Sequence[Any] | None]
) -> list[tuple[Any, ...]]:
    for name in names:
        if name not in domains:
            raise UnplannableError(
                "unknown-variable",
                f'task "{task.name}": replicas.variables references unknown variable "{name}"',
                "define it under variables:, with a domain",
                ("replicas", "variables"),
            )
        if not domains[name]:
            raise UnplannableError(
                "no-domain",
                f'task "{task.name}": variable "{name}" needs to define a non-empty domain to be swept',
                f"give it one: {name}: {{value: 1, domain: [1, 2]}}, or --set {name}=[1,2]",
                ("replicas", "variables"),
            )
    lists = [domains[name] or () for name in names]
    if math.prod(len(values) for values in lists) > MAX_REPLICAS:
        raise _too_many(task, ("replicas",))
    return list(itertools.product(*lists))


def _too_many(task: schema.Task, path: tuple[str, ...]) -> UnplannableError:
    what = f'task "{task.name}": more than {MAX_REPLICAS} replicas'
    return UnplannableError("sweep-size", what, "use fewer: each is a task with a process of its own", path)


def _sweep_name(base: str, values: Sequence[Any]) -> str:
    name = "_".join([base, *(_UNSAFE.sub("_", environment_text(value)) for value in values)])
    if len(name) <= MAX_NAME_LENGTH:
        return name
    return f"{name[: MAX_NAME_LENGTH - 9]}_{zlib.crc32(name.encode()):08x}"


def _distinct(replicas: tuple[Replica, ...]) -> tuple[Replica, ...]:
    """Add the index to names of replicas that are equal, since two values may have the same text in a name."""
    seen: dict[str, int] = {}
    for replica in replicas:
        seen[replica.name] = seen.get(replica.name, 0) + 1
    if len(seen) == len(replicas):
        return replicas
    return tuple(
        replica
        if seen[replica.name] == 1
        else Replica(f"{replica.name}_{replica.index}", replica.index, replica.sweep)
        for replica in replicas
    )


def dependencies(expanded: Sequence[Expanded]) -> dict[str, tuple[Dependency, ...]]:
    """Return what each task as written waits for: all of its copies, or the first one of a sequential chain.

    A dependency on a parallel task is on all replicas (for `failed`, on any), on a sequential one it is on
    the last replica.
    """
    by_base = {one.task.name: one for one in expanded}
    result: dict[str, tuple[Dependency, ...]] = {}
    for one in expanded:
        outside: list[Dependency] = []
        for wanted in _with_replicas(one.task, by_base):
            other = by_base[wanted.task]
            if other.is_sequential and wanted.until not in ("started", "failed"):
                outside.append(Dependency(task=other.replicas[-1].name, until=wanted.until))
            elif other.is_sequential and wanted.until == "started":
                outside.append(Dependency(task=other.replicas[0].name, until=wanted.until))
            else:
                is_group = other.is_replicated
                outside.append(Dependency(task=wanted.task, until=wanted.until, is_group=is_group))
        result[one.task.name] = tuple(outside)
    return result


def _with_replicas(task: schema.Task, by_base: Mapping[str, Expanded]) -> list[schema.Dependency]:
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


class Graph(Struct, frozen=True):
    """All concrete tasks of a workflow and what they wait for, in file and replica order."""

    tasks: tuple[Expanded, ...]
    outside: Mapping[str, tuple[Dependency, ...]]
    """Maps tasks as written to what they wait for; of a chain only the first copy does."""
    replicas_of: Mapping[str, Sequence[str]]
    """Maps tasks as written to concrete names."""
    chain_until: Until = "completed"
    """How far a copy of a chain must be for the next one; being ready is not enough."""

    def waits_for(self, one: Expanded, replica: Replica) -> tuple[Dependency, ...]:
        """Return what a concrete task waits for."""
        if one.is_sequential and replica.index > 0:
            return (Dependency(task=one.replicas[replica.index - 1].name, until=self.chain_until),)
        return self.outside[one.task.name]


def expand_tasks(source: PlanInput, scope: Scope, findings: Findings) -> Graph:
    """Phase: return the copies of every task, with distinct names and a graph without cycles."""
    domains = {variable.name: variable.domain for variable in source.variables}
    expanded = []
    for task in source.tasks:
        with findings.collecting("tasks", task.name, "replicas", subject=f'task "{task.name}"'):
            count, policy = None, "parallel"
            if task.replicas is not None:
                policy = str(scope.value(task.replicas.policy))
                if task.replicas.count is not None:
                    subject, path = f'task "{task.name}"', ("replicas", "count")
                    count = number(subject, path, as_int, scope.value(task.replicas.count))
            expanded.append(expand(task, count, policy, domains))
    findings.stop_if_any()
    _find_collisions(expanded, findings)
    findings.stop_if_any()
    _find_cycle(expanded, findings)
    if not any(one.replicas for one in expanded):
        where = findings.loaded.where("tasks", expanded[0].task.name, "replicas")
        findings.add("nothing-to-run", "no task has a replica", where, "ask for at least one")
    if not all(one.replicas for one in expanded):
        by_base = {one.task.name: one for one in expanded}
        for one in expanded:  # one call each: a problem of one task must not hide that of another
            with findings.collecting("tasks", one.task.name, "depends_on"):
                _with_replicas(one.task, by_base)
    findings.stop_if_any()
    find_impossible(source.tasks, findings)
    findings.stop_if_any()
    names = {one.task.name: one.names for one in expanded}
    return Graph(tuple(expanded), dependencies(expanded), names, source.rules.chain_until)


def _find_collisions(expanded: Sequence[Expanded], findings: Findings) -> None:
    for one, other, name in _collisions(expanded):
        what = f'a replica of task "{one.task.name}" and task "{other.task.name}" are both called "{name}"'
        where = findings.loaded.where("tasks", one.task.name)
        findings.add("name-collision", what, where, "rename one of the tasks")


def _collisions(expanded: Sequence[Expanded]) -> Iterator[tuple[Expanded, Expanded, str]]:
    """Yield the later task, the earlier one, and the name that both have.

    Counted copies of two tasks are never called the same: before the last underscore is the name of the task.
    """
    place = {one.task.name: number for number, one in enumerate(expanded)}
    counted = {one.task.name: one for one in expanded if isinstance(one.replicas, Counted)}
    owner: dict[str, Expanded] = {}
    for one in expanded:
        for name in () if one.task.name in counted else one.names:
            other = owner.setdefault(name, one)
            base = counted.get(name.rpartition("_")[0])
            if other is one and base is not None and name in base.names:
                other = base
            if other is not one:
                first, last = sorted((one, other), key=lambda task: place[task.task.name])
                yield last, first, name


def _behind(expanded: Sequence[Expanded], cycle: set[str]) -> list[str]:
    """Return the tasks outside a cycle that wait for one in it."""
    waiting = set(cycle)
    has_more = True
    while has_more:
        has_more = False
        for one in expanded:
            if one.task.name not in waiting and any(d.task in waiting for d in one.task.dependencies):
                waiting.add(one.task.name)
                has_more = True
    return [one.task.name for one in expanded if one.task.name in waiting - cycle]


def _find_cycle(expanded: Sequence[Expanded], findings: Findings) -> None:
    """Find a cycle among tasks as written.

    That is enough: replicas of a task wait for the same tasks, and chains are acyclic.
    """
    cycle = find_cycle({one.task.name: [d.task for d in one.task.dependencies] for one in expanded})
    if cycle is not None:
        where = findings.loaded.where("tasks", cycle[0], "depends_on")
        edges = [f"{one} depends on {other}" for one, other in itertools.pairwise(cycle)]
        what = f"Graph contains a cycle: {', '.join(edges)}"
        behind = _behind(expanded, set(cycle))
        what += f"; waiting behind it: {listed(behind, 10)}" if behind else ""
        findings.add("cycle", what, where, "remove one of these dependencies")
