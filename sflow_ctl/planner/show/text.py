"""Writes a plan for people: the start order, each node's tasks and GPUs, and the details of each task.

For `plan` and `run --dry-run`.
"""

from collections.abc import Sequence

from protocol.text.counted import counted
from protocol.text.listing import listed
from sflow_ctl.plan.copies.task_list import ByName, Part, kind_of, kinds_of, listed_tasks, parts_of
from sflow_ctl.plan.graph import needs_text, topological_order, until_text
from sflow_ctl.plan.model import Dependency, Plan, PlannedNode, PlannedTask
from sflow_ctl.plan.monitors import monitor_text
from sflow_ctl.planner.phases.fetches import shown_uri
from sflow_ctl.planner.placement.capacity import gpus_taken
from sflow_ctl.planner.show.items import copies_text
from sflow_ctl.planner.show.task_text import (
    MAX_REPLICAS_IN_FULL,
    block_lines,
    short,
    shown_members,
    task_lines,
    variables_text,
)
from sflow_ctl.planner.tasks.success import conditions

MAX_TASKS_IN_FULL = 40
"""Of a task with more, the first stands for all."""


def plan_text(plan: Plan) -> str:
    """Return the whole report of a dry run; it ends with the format's own last line."""
    lines = [
        f"Workflow {plan.workflow}: {counted(len(plan.tasks), 'task')} on {counted(len(plan.nodes), 'node')}"
    ]
    if plan.timeout_s is not None:
        lines.append(f"Time limit: {plan.timeout_s:g} s")
    if plan.success is not None:
        lines += [f"Success: {condition}" for condition in conditions(plan.success)]
    if plan.stop_before_end_s is not None:
        lines.append(
            f"Stops {plan.stop_before_end_s:g} s before the end of its Slurm job's time: tasks can save"
        )
    if plan.stop_timeout_s is not None:
        lines.append(f"Limit for its end: {plan.stop_timeout_s:g} s, then all remaining processes are killed")
    if plan.sweeps:
        from sflow_ctl.planner.show.sweeps import sweep_lines  # most plans have none

        lines += sweep_lines(plan)
    lines += ["", "Order (a task starts when what it depends on is completed, or ready):", *_graph(plan)]
    lines += ["", "Allocation map:", *_map(plan)]
    lines += ["", "Environment of all tasks:", *(f"  {line}" for line in variables_text(_common(plan)))]
    lines += ["", "Tasks:", *_tasks(plan)]
    if plan.storage:
        from sflow_ctl.planner.show.uploads import upload_lines  # few plans upload anything

        lines += upload_lines(plan)
    if plan.fetches:
        lines += ["", "Fetched before the first task, unless it is here:"]
        lines += [f"  - {fetch.artifact}: {shown_uri(fetch.uri)}" for fetch in plan.fetches]
    if plan.notes:
        lines += ["", "Notes:", *(f"  - {note.line()}" for note in plan.notes)]
    if plan.monitors:
        lines += ["", "Monitors:", *(f"  - {monitor_text(one)}" for one in plan.monitors)]
    if plan.warnings:
        lines += ["", *(warning.text("warning") for warning in plan.warnings)]
    return "\n".join([*lines, "", "✓ Configuration is valid"])


def start_order(plan: Plan) -> list[str]:
    """Return the tasks as written, each after all that it waits for. Linear: replicas share their dependencies."""
    return topological_order(_base_edges(plan))


def _base_edges(plan: Plan) -> dict[str, list[str]]:
    """Return the dependencies of each task as written, without itself."""
    base_of = ByName(plan.tasks).base
    edges: dict[str, dict[str, None]] = {}
    seen: set[int] = set()
    for task in kinds_of(plan.tasks):
        known = edges.setdefault(task.base, {})
        if id(task.depends_on) not in seen:
            seen.add(id(task.depends_on))
            bases = (d.task if d.is_group else base_of(d.task) for d in task.depends_on)
            known.update((base, None) for base in bases if base != task.base)
    return {base: list(others) for base, others in edges.items()}


def _graph(plan: Plan) -> list[str]:
    by_name, members = ByName(plan.tasks), plan.members()
    order = [task.name for base in start_order(plan) for task in shown_members(members[base])]
    lines = []
    for name in order[:MAX_TASKS_IN_FULL]:
        task = by_name[name]
        if len(group := members[task.base]) > MAX_REPLICAS_IN_FULL:
            is_chain = any(d.task == name for d in group[1].depends_on)
            name = f"{task.base} × {len(group)}" + (", one after the other" if is_chain else "")
        is_many = len(group) > MAX_REPLICAS_IN_FULL
        arrows = [
            _edge(d, members[d.task] if d.is_group else [by_name[d.task]], is_many) for d in task.depends_on
        ]
        lines.append(f"  {name}" + (f"  <- {listed(arrows, 6)}" if arrows else ""))
    if len(order) > MAX_TASKS_IN_FULL:
        lines.append(f"  ... and {len(order) - MAX_TASKS_IN_FULL} more")
    return lines


def _edge(dependency: Dependency, members: Sequence[PlannedTask], is_of_many: bool) -> str:
    """Return a dependency as "load × 3 (Completed)": the task, and how far it must be."""
    if dependency.pair and is_of_many:
        return f"{dependency.pair}, the same item ({until_text(dependency, members[0])})"
    until = until_text(dependency, members[0])
    many = copies_text(members) if dependency.is_group else ""
    return f"{dependency.task}{many} ({until})"


def _map(plan: Plan) -> list[str]:
    lines = []
    backends = dict.fromkeys(node.backend for node in plan.nodes)
    here: dict[int, list[Part]] = {}
    for part in parts_of(plan.tasks):
        placement = kind_of(part).placement
        for index in () if placement.is_flexible else placement.nodes:
            here.setdefault(index, []).append(part)
    for backend in backends:
        lines.append(f"  - backend '{backend}':")
        for node in plan.nodes:
            if node.backend == backend:
                lines += _node(node, here.get(node.index, ()))
    flexible = [part for part in parts_of(plan.tasks) if kind_of(part).placement.is_flexible]
    if flexible:
        lines.append(f"  Placed when ready, as room comes free: {_names(flexible, 10)}")
    return lines


def _names(parts: Sequence[Part], most: int) -> str:
    """Return the names of the first tasks, and how many more there are."""
    tasks = listed_tasks(parts)
    names = [task.name for task in tasks[:most]]
    return listed(names, most) if len(tasks) <= most else f"{', '.join(names)} and {len(tasks) - most} more"


def _node(node: PlannedNode, here: Sequence[Part]) -> list[str]:
    group = "" if node.het_group is None else f" (component {node.het_group} of the job)"
    spare = " (spare: used when another node is lost)" if node.is_spare else ""
    lines = [f"    ├─ node {node.name}{group}{spare}"]
    if node.gpus is None:
        lines.append("    │  GPUs: n/a")
    for gpu in range(node.gpus or 0):
        owners = "/".join(kind_of(part).name for part in here if gpu in kind_of(part).placement.gpus)
        lines.append(f"    │  GPU {gpu}: {short(owners, 60) if owners else '.'}")
    lines.append(f"    │  Tasks: {_names(here, 12) or '(none)'}")
    return lines


def _tasks(plan: Plan) -> list[str]:
    lines = []
    beside, common, members = rivals(plan), _common(plan), plan.members()
    shown = [task for group in members.values() for task in shown_members(group)]
    for task in shown[:MAX_TASKS_IN_FULL]:
        waits = _why_it_waits(task, beside.get(task.base, [])) if task.placement.is_flexible else ""
        lines += task_lines(plan, task, members, common, waits)
        if len(group := members[task.base]) > MAX_REPLICAS_IN_FULL:
            lines.append(f"  {task.base} × {len(group)}: {group[1].name} to {group[-1].name} are alike")
    if len(shown) > MAX_TASKS_IN_FULL:
        lines.append(f"  ... and {counted(len(shown) - MAX_TASKS_IN_FULL, 'more task')}")
    for name in plan.blocks:
        lines += ["", *block_lines(plan, name, common)]
    return lines


def _common(plan: Plan) -> dict[str, str]:
    """Return the variables that every task has, beside the inherited ones."""
    common = dict(plan.tasks[0].env) if plan.tasks else {}
    for env in {id(task.env): task.env for task in kinds_of(plan.tasks)}.values():  # copies share theirs
        common = {name: value for name, value in common.items() if env.get(name) == value}
    return common


def _why_it_waits(task: PlannedTask, others: list[str]) -> str:
    what = "GPUs" if task.placement.gpus_per_node else "nodes"
    first = "for what it depends on, then " if task.depends_on else ""
    if not others:
        return f"{first}for no other task: the {what} that it may use will be free"
    return f"{first}for {needs_text(task.placement)}, which {listed(others, 8)} may hold at the same time"


def rivals(plan: Plan) -> dict[str, list[str]]:
    """Map flexible tasks, as written, to the tasks that may hold the GPUs they need while they are ready.

    Those are all tasks with GPUs on the same backend that are neither before nor after them in the graph; a
    service that they depend on keeps its GPUs beside them.
    """
    members = plan.members()
    flexible = [base for base, tasks in members.items() if tasks[0].placement.is_flexible]
    if not flexible:
        return {}
    edges = _base_edges(plan)
    before = _closure(edges)
    result = {}
    for base in flexible:
        others = []
        for other, tasks in members.items():
            is_alike = tasks[0].backend == members[base][0].backend and gpus_taken(tasks[0].placement)
            is_ordered = base in before[other] or (other in before[base] and not tasks[0].is_service)
            if is_alike and not is_ordered and (other != base or len(tasks) > 1):
                others.append("its other replicas" if other == base else other)
        result[base] = others
    return result


def _closure(edges: dict[str, list[str]]) -> dict[str, set[str]]:
    """Return all direct and indirect dependencies of each task as written."""
    result: dict[str, set[str]] = {}
    for base in topological_order(edges):
        result[base] = set(edges[base]).union(*(result[other] for other in edges[base]))
    return result
