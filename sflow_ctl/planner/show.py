"""A plan as a person reads it: the order, who runs where with which GPUs, and what each task is."""

from protocol.messages import Condition, Probe
from sflow_ctl.planner.graph import topological_order
from sflow_ctl.planner.plan import Placement, Plan, PlannedNode, PlannedTask

MAX_TASKS_IN_FULL = 40
MAX_SCRIPT_LINES = 12


def plan_text(plan: Plan) -> str:
    """The whole report of a dry run; ends with the format's own last line."""
    lines = [f"Workflow {plan.workflow}: {len(plan.tasks)} tasks on {len(plan.nodes)} nodes"]
    if plan.timeout_s is not None:
        lines.append(f"Time limit: {plan.timeout_s:g} s")
    lines += ["", "Order (a task starts when what it depends on is completed, or ready):", *_graph(plan)]
    lines += ["", "Allocation map:", *_map(plan)]
    lines += ["", "Tasks:", *_tasks(plan)]
    if plan.warnings:
        lines += ["", "Warnings:", *(f"  - {warning}" for warning in plan.warnings)]
    return "\n".join([*lines, "", "✓ Configuration is valid"])


def start_order(plan: Plan) -> list[str]:
    """Names so that each comes after all it waits for. Linear: replicas share what they wait for."""
    members: dict[str, list[str]] = {}
    base_of = {task.name: task.base for task in plan.tasks}
    edges: dict[str, dict[str, None]] = {}
    seen: set[int] = set()
    for task in plan.tasks:
        members.setdefault(task.base, []).append(task.name)
        known = edges.setdefault(task.base, {})
        if id(task.depends_on) not in seen:
            seen.add(id(task.depends_on))
            known.update((base_of[d.task], None) for d in task.depends_on if base_of[d.task] != task.base)
    order = topological_order({base: list(others) for base, others in edges.items()})
    return [name for base in order for name in members[base]]


def _graph(plan: Plan) -> list[str]:
    by_name = {task.name: task for task in plan.tasks}
    order = start_order(plan)
    lines = []
    for name in order[:MAX_TASKS_IN_FULL]:
        task = by_name[name]
        arrows = [_edge(by_name[d.task], d.needs_completion) for d in task.depends_on[:6]]
        more = f" and {len(task.depends_on) - 6} more" if len(task.depends_on) > 6 else ""
        lines.append(f"  {name}" + (f"  <- {', '.join(arrows)}{more}" if arrows else ""))
    if len(order) > MAX_TASKS_IN_FULL:
        lines.append(f"  ... and {len(order) - MAX_TASKS_IN_FULL} more")
    return lines


def _edge(task: PlannedTask, needs_completion: bool) -> str:
    return f"{task.name} ({'Ready' if task.has_readiness and not needs_completion else 'Completed'})"


def _map(plan: Plan) -> list[str]:
    lines = []
    backends = dict.fromkeys(node.backend for node in plan.nodes)
    for backend in backends:
        lines.append(f"  - backend '{backend}':")
        for node in plan.nodes:
            if node.backend == backend:
                lines += _node(plan, node)
    flexible = [task.name for task in plan.tasks if task.placement.is_flexible]
    if flexible:
        shown = ", ".join(flexible[:10]) + (f" and {len(flexible) - 10} more" if len(flexible) > 10 else "")
        lines.append(f"  Placed when ready, as room comes free: {shown}")
    return lines


def _node(plan: Plan, node: PlannedNode) -> list[str]:
    here = [
        task for task in plan.tasks if not task.placement.is_flexible and node.index in task.placement.nodes
    ]
    lines = [f"    ├─ node {node.name}"]
    if node.gpus is None:
        lines.append("    │  GPUs: n/a")
    for gpu in range(node.gpus or 0):
        owners = "/".join(task.name for task in here if gpu in task.placement.gpus)
        lines.append(f"    │  GPU {gpu}: {_short(owners, 60) if owners else '.'}")
    names = [task.name for task in here]
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    lines.append(f"    │  Tasks: {shown or '(none)'}")
    return lines


def _tasks(plan: Plan) -> list[str]:
    lines = []
    for task in plan.tasks[:MAX_TASKS_IN_FULL]:
        lines.append(f"  {task.name}  [{task.operator_kind}, {_where(plan, task.placement)}]")
        if task.sweep:
            lines.append(f"    sweep:     {', '.join(f'{name}={value}' for name, value in task.sweep)}")
        if task.retries.count:
            retries = task.retries
            lines.append(
                f"    retries:   {retries.count}, after {retries.interval_s:g} s, backoff {retries.backoff:g}"
            )
        if task.timeout_s is not None:
            lines.append(f"    timeout:   {task.timeout_s:g} s")
        lines += [f"    {probe.kind + ':':<10} {_probe(probe)}" for probe in task.probes]
        if task.deadline_s is not None:
            lines.append(f"    deadline:  ready within {task.deadline_s:g} s")
        lines.append("    script:")
        script = task.script.splitlines()
        lines += [f"      {line}" for line in script[:MAX_SCRIPT_LINES]]
        if len(script) > MAX_SCRIPT_LINES:
            lines.append(f"      ... and {len(script) - MAX_SCRIPT_LINES} more lines")
    if len(plan.tasks) > MAX_TASKS_IN_FULL:
        lines.append(f"  ... and {len(plan.tasks) - MAX_TASKS_IN_FULL} more tasks")
    return lines


def _probe(probe: Probe) -> str:
    parts = (" and " if probe.needs_all else " or ").join(_condition(part) for part in probe.parts)
    return (parts or _condition(probe)) + (" on each node" if probe.on_node == "each" else "")


def _condition(condition: Condition) -> str:
    if condition.tcp_port is not None:
        host = f"{condition.tcp_host}:" if condition.tcp_host is not None else ""
        return f"port {host}{condition.tcp_port}"
    if condition.http is not None:
        return f"{condition.http.method} {_short(condition.http.url, 60)}"
    if condition.exec:
        return f"command {_short(' '.join(condition.exec), 60)!r}"
    return f"log {condition.log and condition.log.pattern!r}"


def _where(plan: Plan, placement: Placement) -> str:
    if placement.is_flexible:
        nodes = "1 node" if placement.node_count == 1 else f"{placement.node_count} nodes"
        return (
            f"any {nodes} with {placement.gpus_per_node} free GPUs"
            if placement.gpus_per_node
            else f"any {nodes}"
        )
    names = ", ".join(plan.nodes[index].name for index in placement.nodes)
    gpus = f", GPUs {','.join(map(str, placement.gpus))}" if placement.gpus else ""
    return f"{_short(names, 80)}{gpus}"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."
