"""Writes a plan's graph as Mermaid and Graphviz text."""

from collections.abc import Iterator

from protocol.text.counted import counted
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.words import until_text

MAX_MEMBERS = 3
"""Replicas of a task that are drawn one by one; more are drawn as one box with their number."""


def mermaid(plan: Plan, show_variables: bool = False) -> str:
    """Return the graph as a Mermaid flowchart."""
    lines = ["flowchart TD", "    start([start])", "    stop([stop])"]
    ids = _ids(plan)
    for name, label in _boxes(plan):
        lines.append(f'    {ids[name]}["{_mermaid_text(label)}"]')
    lines += [f"    {a} -->|{how}| {b}" if how else f"    {a} --> {b}" for a, b, how in _edges(plan, ids)]
    if show_variables and plan.variables:
        text = "\n".join(f"{name} = {value}" for name, value in plan.variables.items())
        lines.append(f'    variables[/"{_mermaid_text(text)}"/]')
    return "\n".join(lines) + "\n"


def dot(plan: Plan, show_variables: bool = False) -> str:
    """Return the graph in the language of Graphviz."""
    lines = [
        f"digraph {_quoted(plan.workflow)} {{",
        "    rankdir=TB;",
        "    node [shape=box, style=rounded];",
    ]
    lines += ["    start [shape=oval];", "    stop [shape=oval];"]
    ids = _ids(plan)
    for name, label in _boxes(plan):
        lines.append(f"    {ids[name]} [label={_quoted(label)}];")
    for a, b, how in _edges(plan, ids):
        lines.append(f"    {a} -> {b}" + (f" [label={_quoted(how)}];" if how else ";"))
    if show_variables and plan.variables:
        text = "\n".join(f"{name} = {value}" for name, value in plan.variables.items())
        lines.append(f"    variables [shape=note, label={_quoted(text)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _boxes(plan: Plan) -> Iterator[tuple[str, str]]:
    """Return (base name, label) of every task as written."""
    for base, members in plan.members().items():
        lines = [base]
        if members[0].is_replicated:
            names = ", ".join(task.name for task in members[:MAX_MEMBERS])
            more = f", ... {members[-1].name}" if len(members) > MAX_MEMBERS else ""
            lines.append(f"{len(members)} × ({names}{more})")
        gpus = _gpus(members[0])
        if gpus:
            lines.append(counted(gpus, "GPU") + (" each" if len(members) > 1 else ""))
        yield base, "\n".join(lines)


def _gpus(task: PlannedTask) -> int:
    placement = task.placement
    if placement.is_flexible:
        return placement.gpus_per_node * placement.node_count
    return len(placement.gpus) * len(placement.nodes)


def _edges(plan: Plan, ids: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Return (from, to, label) between boxes. A task with dependants needs no edge to `stop`."""
    groups = plan.members()
    by_name = {task.name: task for task in plan.tasks}
    waited_for: set[str] = set()
    for base, members in groups.items():
        first = members[0]
        others = {d.task if d.is_group else by_name[d.task].base: d for d in first.depends_on}
        if not others:
            yield ("stop" if first.finally_when else "start"), ids[base], ""
        for other, dependency in others.items():
            waited_for.add(other)
            yield ids[other], ids[base], until_text(dependency, groups[other][0])
    for base, members in groups.items():
        if base not in waited_for and members[0].finally_when is None:
            yield ids[base], "stop", "Ready" if members[0].is_service else "Completed"


def _ids(plan: Plan) -> dict[str, str]:
    return {base: f"task{index}" for index, base in enumerate(plan.members())}


def _mermaid_text(text: str) -> str:
    return text.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace("\n", "<br>")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
