"""Writes a plan for people: the start order, each node's tasks and GPUs, and the details of each task.

For `plan` and `run --dry-run`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import assert_never

from protocol.messages.checks import Check, ExecCheck, HttpCheck, LogCheck, Probe, TcpCheck
from protocol.messages.rank_spec import HangPolicy, PortBlock, SideCommand, Stopping
from protocol.text.counted import counted
from protocol.text.listing import listed
from protocol.text.signal_names import signal_name
from sflow_ctl.plan.copies.task_list import ByName, Part, kind_of, kinds_of, listed_tasks, parts_of
from sflow_ctl.plan.graph import needs_text, topological_order, until_text
from sflow_ctl.plan.model import Dependency, Plan, PlannedNode, PlannedTask
from sflow_ctl.plan.monitors import monitor_text
from sflow_ctl.planner.phases.fetches import shown_uri
from sflow_ctl.planner.placement.capacity import gpus_taken
from sflow_ctl.planner.tasks.success import conditions

MAX_TASKS_IN_FULL = 40
MAX_SCRIPT_LINES = 12
MAX_REPLICAS_IN_FULL = 5
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
    lines += ["", "Order (a task starts when what it depends on is completed, or ready):", *_graph(plan)]
    lines += ["", "Allocation map:", *_map(plan)]
    lines += ["", "Environment of all tasks:", *(f"  {line}" for line in _variables(_common(plan)))]
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
        arrows = [_edge(d, members[d.task] if d.is_group else [by_name[d.task]]) for d in task.depends_on]
        lines.append(f"  {name}" + (f"  <- {listed(arrows, 6)}" if arrows else ""))
    if len(order) > MAX_TASKS_IN_FULL:
        lines.append(f"  ... and {len(order) - MAX_TASKS_IN_FULL} more")
    return lines


def shown_members(group: Sequence[PlannedTask]) -> Sequence[PlannedTask]:
    """Return the copies of a task that are shown by themselves: of many only the first is."""
    return group if len(group) <= MAX_REPLICAS_IN_FULL else group[:1]


def _edge(dependency: Dependency, members: Sequence[PlannedTask]) -> str:
    """Return a dependency as "load × 3 (Completed)": the task, and how far it must be."""
    until = until_text(dependency, members[0])
    many = f" × {len(members)}" if dependency.is_group else ""
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
        lines.append(f"    │  GPU {gpu}: {_short(owners, 60) if owners else '.'}")
    lines.append(f"    │  Tasks: {_names(here, 12) or '(none)'}")
    return lines


def _tasks(plan: Plan) -> list[str]:
    lines = []
    beside, common, members = rivals(plan), _common(plan), plan.members()
    shown = [task for group in members.values() for task in shown_members(group)]
    for task in shown[:MAX_TASKS_IN_FULL]:
        lines.append(f"  {task.name}  [{task.operator_kind}, {_where(plan, task)}]")
        if task.node_count > 1 or task.world_size > 1:
            lines.append(f"    processes: {_processes(task)}")
        if task.placement.is_flexible:
            lines.append(f"    waits:     {_why_it_waits(task, beside.get(task.base, []))}")
        facts = chain(_repeats(task), _policies(task), _surroundings(task, common))
        lines += [f"    {what + ':':<10} {text}" for what, text in facts]
        lines.append("    script:")
        script = task.script.splitlines()
        lines += [f"      {line}" for line in script[:MAX_SCRIPT_LINES]]
        if len(script) > MAX_SCRIPT_LINES:
            lines.append(f"      ... and {counted(len(script) - MAX_SCRIPT_LINES, 'more line')}")
        if len(group := members[task.base]) > MAX_REPLICAS_IN_FULL:
            lines.append(f"  {task.base} × {len(group)}: {group[1].name} to {group[-1].name} are alike")
    if len(shown) > MAX_TASKS_IN_FULL:
        lines.append(f"  ... and {counted(len(shown) - MAX_TASKS_IN_FULL, 'more task')}")
    return lines


def _repeats(task: PlannedTask) -> Iterator[tuple[str, str]]:
    """Return the lines about a task's replicas, attempts and time limits."""
    if task.sweep:
        yield "sweep", ", ".join(f"{name}={value}" for name, value in task.sweep)
    if task.retries.count:
        retries = task.retries
        only = f", only after {', '.join(retries.reasons)}" if retries.reasons else ""
        yield (
            "retries",
            f"{retries.count}, after {retries.interval_s:g} s, backoff {retries.backoff:g}{only}",
        )
    if task.timeout_s is not None:
        yield "timeout", f"{task.timeout_s:g} s"


def _surroundings(task: PlannedTask, common: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Return the lines about a task's environment, conditions, probes, ports, files and variables."""
    if task.bootstrap is not None:
        from protocol.bootstrap import shown_steps  # few tasks have one

        steps = shown_steps(task.bootstrap.shared, task.bootstrap.before)
        yield "before", f"environment {task.bootstrap.name}: {'; '.join(steps) or 'variables only'}"
    for condition in conditions(task.success) if task.success is not None else ():
        yield "success", condition
    for probe in task.probes:
        yield probe.kind, probe_text(task, probe)
    if task.ports:
        yield "ports", f"{', '.join(map(_block, task.ports))}; leased on its nodes when it starts"
    if task.files:
        yield "files", ", ".join(file.path for file in task.files)
    if any(limit is not None for limit in task.deadlines_s):
        yield "deadline", _deadlines(task)
    own = {name: value for name, value in task.env.items() if common.get(name) != value}
    if own:
        yield "env", ", ".join(_variables(own))


def _deadlines(task: PlannedTask) -> str:
    """Return within which time a task must be ready, and each of its checks must end."""
    parts = [part for probe in task.probes if probe.kind == "readiness" for part in probe.parts]
    limits = {part.timeout_s for part in parts}
    checks = "".join(f", each check within {limit:g} s" for limit in limits) if len(limits) == 1 else ""
    if len(set(task.deadlines_s)) == 1:
        return f"ready within {task.deadlines_s[0]:g} s{checks}"
    own = [
        f"probe {number} without limit" if limit is None else f"probe {number} within {limit:g} s"
        for number, limit in enumerate(task.deadlines_s, 1)
    ]
    return f"{', '.join(own)}{checks}"


def _policies(task: PlannedTask) -> Iterator[tuple[str, str]]:
    """Return lines about the task's end, where they differ from the defaults."""
    if task.kind is not None:
        yield "kind", task.kind
    if task.is_main:
        yield "main", "the run ends with it"
    if task.finally_when is not None:
        beside = task.finally_when == "services_up"
        yield "finally", "when the run ends, " + ("beside the services" if beside else "after all is stopped")
    if task.on_failure != "cancel":
        yield "if it fails", _ON_FAILURE[task.on_failure]
    if task.restart is not None:
        window = f" within {task.restart.window_s:g} s" if task.restart.window_s is not None else ""
        after = "every end" if task.restart.policy == "always" else "a failure"
        others = ", with its running dependants" if task.restart.restarts_dependents else ""
        backoff = f"after {task.restart.backoff_s:g} s, doubling"
        yield "restart", f"after {after}, {counted(task.restart.count, 'time')}{window}, {backoff}{others}"
    if task.stopping != Stopping():
        yield "stop", _stopping(task.stopping)
    if task.hang is not None:
        yield "hang", _hang(task.hang, is_service=task.is_service)
    if task.is_log_direct:
        yield "log", "written by the task itself"
    if task.success_exit_codes != (0,):
        yield "success", f"exit status {' or '.join(map(str, task.success_exit_codes))}"


def _stopping(stopping: Stopping) -> str:
    command = f"{_side_command(stopping.command)}, then " if stopping.command is not None else ""
    return f"{command}{signal_name(stopping.signal)}, then SIGKILL after {stopping.grace_s:g} s"


def _hang(hang: HangPolicy, *, is_service: bool) -> str:
    limits = (("output", hang.no_output_s), ("use of its GPUs", hang.no_gpu_use_s))
    what = " or ".join(f"no {name} for {limit_s:g} s" for name, limit_s in limits if limit_s is not None)
    until = " until it is ready" if is_service and not hang.is_always else ""
    return f"{what}{until}" + (f"; then {_side_command(hang.command)}" if hang.command is not None else "")


def _side_command(command: SideCommand) -> str:
    line = command.argv[-1] if command.argv[:2] == ("bash", "-c") else " ".join(command.argv)
    return f"{_short(line, 60)!r} for up to {command.timeout_s:g} s"


_ON_FAILURE = {
    "drain": "running tasks may finish, nothing new starts",
    "isolate": "dependants are stopped, other tasks continue, the run fails at its end",
    "continue": "dependants that have not started are skipped, the run may still succeed",
}


def _common(plan: Plan) -> dict[str, str]:
    """Return the variables that every task has, beside the inherited ones."""
    common = dict(plan.tasks[0].env) if plan.tasks else {}
    for env in {id(task.env): task.env for task in kinds_of(plan.tasks)}.values():  # copies share theirs
        common = {name: value for name, value in common.items() if env.get(name) == value}
    return common


def _variables(env: Mapping[str, str]) -> list[str]:
    return [
        f"{name}={_short(value.splitlines()[0] if value else '', 100)}" for name, value in sorted(env.items())
    ]


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


def _block(block: PortBlock) -> str:
    many = f" × {block.count}" if block.count > 1 else ""
    return f"{block.name}{many}{' in a row' if block.contiguous and many else ''}"


def probe_text(task: PlannedTask, probe: Probe) -> str:
    """Return what a probe of a task asks, and how its checks are combined."""
    deferred_ports = {deferred.key: deferred.text for deferred in task.deferred_tcp_ports}
    texts = [
        _check(check, deferred_ports.get(key))
        for key, check in zip(probe.keys(), probe.all_checks, strict=True)
    ]
    parts = []
    for part in probe.parts:
        own, texts = texts[: len(part.checks)], texts[len(part.checks) :]
        text = (" and " if part.needs_all else " or ").join(own)
        parts.append(text + (" on each node" if part.on_node == "each" else ""))
    return ("; and once " if probe.kind == "readiness" else "; or ").join(parts)


def _check(check: Check, deferred_port: str | None) -> str:
    match check:
        case TcpCheck():
            host = f"{check.host}:" if check.host is not None else ""
            return f"port {host}{deferred_port or check.port}"
        case HttpCheck():
            return f"{check.method} {_short(check.url, 60)}"
        case ExecCheck():
            return f"command {_short(' '.join(check.argv), 60)!r}"
        case LogCheck():
            return f"log {check.pattern.pattern!r}"
        case _:
            assert_never(check)


def _where(plan: Plan, task: PlannedTask) -> str:
    placement, host = task.placement, "" if task.needs is None else f", asks for {task.needs.text()}"
    if placement.is_flexible:
        return f"placed when ready: {needs_text(placement)}{host}"
    names = ", ".join(plan.nodes[index].name for index in placement.nodes)
    shared = " (shared)" if placement.is_shared else ""
    gpus = f", GPUs {','.join(map(str, placement.gpus))}{shared}" if placement.gpus else ""
    return f"{_short(names, 80)}{gpus}{host}"


def _processes(task: PlannedTask) -> str:
    """Return how many processes a task of several nodes or processes has, and where."""
    if task.launch_kind == "step":
        return f"those of a job step on {counted(task.node_count, 'node')}"
    used = task.ranks_per_node
    if len(set(used)) == 1 and len(used) == task.node_count:
        return f"{sum(used)}, {used[0]} on each node" if len(used) > 1 else f"{sum(used)} on one node"
    return f"{sum(used)}, on {len(used)} of {counted(task.node_count, 'node')}"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
