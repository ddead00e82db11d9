"""Phase: from tasks as written to concrete tasks: replicas, sweeps, names, and the dependencies between them."""

import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from protocol.text.lazy_pattern import lazy_pattern
from protocol.text.listing import listed
from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START, evaluate_any
from sflow_ctl.plan.copies.names import CopyNames
from sflow_ctl.plan.graph import find_cycle
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.impossible import find_impossible
from sflow_ctl.planner.numbers import as_int
from sflow_ctl.planner.phases.graph import Counted, Expanded, Graph, Replica, dependencies, with_replicas
from sflow_ctl.planner.phases.variables import environment_text, swept_names
from sflow_ctl.planner.source import PlanInput, Scope

if TYPE_CHECKING:
    from sflow_ctl.planner.sweeping.cells import CellSet  # most workflows have no sweep

_UNSAFE = lazy_pattern(r"[^A-Za-z0-9_+=,@%^~]")
MAX_REPLICAS = 1_000_000
MAX_NAME_LENGTH = 200
"""The limit of a replica's name. A longer one is cut and ends in a checksum of the whole.

The name is a directory and a part of names such as `NAME.attempt-12.rank-1000.log`; a file system allows 255
bytes.
"""


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
    return _shortened("_".join([base, *(_UNSAFE.sub("_", environment_text(value)) for value in values)]))


def _shortened(name: str) -> str:
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


def expand_tasks(source: PlanInput, scope: Scope, findings: Findings) -> Graph:
    """Phase: return the copies of every task, with distinct names and a graph without cycles."""
    domains = {variable.name: variable.domain for variable in source.variables}
    cells = _cells_by_task(source, scope, findings)
    findings.stop_if_any()
    expanded = []
    for task in source.tasks:
        with findings.collecting("tasks", task.name, "replicas", subject=f'task "{task.name}"'):
            if task.name in cells:
                refuse_foreach(task)
                expanded.append(_in_cells(source, task, cells[task.name], scope, domains, findings))
            elif task.foreach is not None:
                expanded.append(_for_items(source, task, scope))
            else:
                expanded.append(_copies(task, scope.value, domains))
    findings.stop_if_any()
    if cells:
        expanded = _with_variants(expanded, findings)
        findings.stop_if_any()
    _find_collisions(expanded, findings)
    findings.stop_if_any()
    _warn_of_case(expanded, findings)
    _find_cycle(expanded, findings)
    if any(one.foreach is not None for one in expanded):
        from sflow_ctl.planner.growing.items import find_unpaired  # few tasks have items

        find_unpaired(expanded, findings)
    if not any(one.replicas for one in expanded):
        where = findings.loaded.where("tasks", expanded[0].task.name, "replicas")
        findings.add("nothing-to-run", "no task has a replica", where, "ask for at least one")
    if not all(one.replicas for one in expanded):
        by_base = {one.task.name: one for one in expanded}
        for one in expanded:  # one call each: a problem of one task must not hide that of another
            with findings.collecting("tasks", one.task.name, "depends_on"):
                with_replicas(one.task, by_base)
    findings.stop_if_any()
    find_impossible(source.tasks, findings)
    if cells:
        from sflow_ctl.planner.sweeping.copies import refuse_waiting_for_all

        refuse_waiting_for_all(expanded, findings)
    findings.stop_if_any()
    names = {one.task.name: one.names for one in expanded}
    return Graph(tuple(expanded), dependencies(expanded), names, source.rules.chain_until)


def _for_items(source: PlanInput, task: schema.Task, scope: Scope) -> Expanded:
    """Return the copies of a task for the items of its list. Raises: UnplannableError, NumberError, ExpressionError."""
    from sflow_ctl.planner.growing.items import groups_of, items_of, plan_foreach

    foreach = plan_foreach(task, scope.value)
    items = groups_of(task, foreach, items_of(task, scope.value, source.context))
    replicas: Sequence[Replica] = Counted(CopyNames(task.name, len(items or ())))
    if items is None:
        replicas = (Replica(task.name, 0),)
    return Expanded(task, replicas, is_replicated=True, is_sequential=False, foreach=foreach, items=items)


def _copies(
    task: schema.Task, value: Callable[[Any], Any], domains: Mapping[str, Sequence[Any] | None]
) -> Expanded:
    """Return the copies of a task, its fields evaluated. Raises: UnplannableError, NumberError, ExpressionError."""
    count, policy = None, "parallel"
    if task.replicas is not None:
        policy = str(value(task.replicas.policy))
        if task.replicas.count is not None:
            subject, path = f'task "{task.name}"', ("replicas", "count")
            count = number(subject, path, as_int, value(task.replicas.count))
    return expand(task, count, policy, domains)


def refuse_foreach(task: schema.Task) -> None:
    """Refuse a task of a sweep that has a list of items. Raises: UnplannableError."""
    if task.foreach is not None:
        what = f'task "{task.name}" has foreach, and is in a sweep'
        hint = "give it sweep: false to run it once for all cells, or sweep a variable in place of foreach"
        raise UnplannableError("conflicting-keys", what, hint, ("foreach",))


def _cells_by_task(source: PlanInput, scope: Scope, findings: Findings) -> dict[str, "CellSet"]:
    """Return the cells of each task that has some."""
    result: dict[str, CellSet] = {}
    sweep = source.document.sweep
    if sweep is None and not any(isinstance(task.sweep, schema.Sweep) for task in source.tasks):
        return result
    from sflow_ctl.planner.sweeping.cells import cells_of, with_room
    from sflow_ctl.planner.sweeping.which import swept_tasks

    if sweep is not None:
        shared = cells_of(source, sweep, "", scope, findings)
        if shared is not None:
            swept = swept_tasks(source, findings)
            tasks = [task for task in source.tasks if task.name in swept]
            result = dict.fromkeys(swept, with_room(shared, tasks, findings))
    for task in source.tasks:
        if isinstance(task.sweep, schema.Sweep):
            own = cells_of(source, task.sweep, task.name, scope, findings)
            if own is not None:
                result[task.name] = own
    return result


def _in_cells(
    source: PlanInput,
    task: schema.Task,
    cells: "CellSet",
    scope: Scope,
    domains: Mapping[str, Sequence[Any] | None],
    findings: Findings,
) -> Expanded:
    """Return the copies of a task in all cells. Raises: UnplannableError, NumberError, ExpressionError."""
    from sflow_ctl.planner.sweeping.copies import check_task, offsets_of

    check_task(task)
    depends_on_cell = task.replicas is not None and EXPRESSION_START in repr(task.replicas)
    inner = None
    replicas: list[Replica] = []
    sizes: list[int] = []
    for cell in cells.cells:
        if inner is None or depends_on_cell:
            names = swept_names(source, scope, dict(cell.variables), findings) if depends_on_cell else {}
            inner = _copies(
                task, partial(evaluate_any, names=names) if depends_on_cell else scope.value, domains
            )
        for one in inner.replicas:
            name = _shortened(f"{task.name}_{cell.cell.label}{one.name[len(task.name) :]}")
            replicas.append(
                Replica(name, one.index, (*cell.variables, *one.sweep) if one.sweep else cell.variables, cell)
            )
        sizes.append(len(inner.replicas))
        if len(replicas) > MAX_REPLICAS:
            raise _too_many(task, ("replicas",))
    assert inner is not None
    return Expanded(
        task,
        tuple(replicas),
        is_replicated=True,
        is_sequential=False,
        cells=cells,
        offsets=offsets_of(sizes),
        is_chain_in_cell=inner.is_sequential,
    )


def _with_variants(expanded: list[Expanded], findings: Findings) -> list[Expanded]:
    """Return the tasks with each copy's task as its cell has it. Problems are findings."""
    from sflow_ctl.planner.sweeping.copies import Variants

    variants = Variants({one.task.name: one for one in expanded})
    result = []
    for one in expanded:
        if one.cells is None:
            result.append(one)
            continue
        with findings.collecting("tasks", one.task.name, "sweep"):
            replicas = []
            for replica in one.replicas:
                assert replica.cell is not None
                task = variants.of(one, replica.cell)
                replicas.append(replica if task is one.task else replace(replica, task=task))
            result.append(replace(one, replicas=tuple(replicas)))
    return result


def _find_collisions(expanded: Sequence[Expanded], findings: Findings) -> None:
    for one, other, name in _collisions(expanded):
        what = f'a replica of task "{one.task.name}" and task "{other.task.name}" are both called "{name}"'
        where = findings.loaded.where("tasks", one.task.name)
        findings.add("name-collision", what, where, "rename one of the tasks")


def _warn_of_case(expanded: Sequence[Expanded], findings: Findings) -> None:
    """Warn of tasks whose directories would be one where a file system does not tell cases apart."""
    known: dict[str, str] = {}
    for name in (one.task.name for one in expanded):
        other = known.setdefault(name.casefold(), name)
        if other != name:
            what = f'the names of tasks "{other}" and "{name}" differ only in case'
            hint = "rename one: on file systems that do not tell cases apart, as of macOS, they share a directory and a log"
            findings.warn("name-case", what, findings.loaded.where("tasks", name), hint)


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
