"""Algorithms on the dependency graph, linear in tasks and dependencies: a cycle, an order; and edges and places as words."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from protocol.text.counted import counted
from sflow_ctl.plan.model import Dependency, Placement, PlannedTask


def find_cycle(edges: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return a cycle as names, the first again at its end, or None. `edges` maps a task to its dependencies."""
    left = set(edges) - set(topological_order(edges))
    if not left:
        return None
    name = min(left)
    seen: dict[str, int] = {}
    path: list[str] = []
    while name not in seen:
        seen[name] = len(path)
        path.append(name)
        name = min(other for other in edges[name] if other in left)
    return [*path[seen[name] :], name]


def topological_order(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Return names so that each comes after all it depends on, ties in the given order; tasks in a cycle are left out."""
    waiting = {name: len(set(dependencies)) for name, dependencies in edges.items()}
    dependants: dict[str, list[str]] = {name: [] for name in edges}
    for name, others in edges.items():
        for other in dict.fromkeys(others):
            dependants[other].append(name)
    ready = deque(name for name, count in waiting.items() if count == 0)
    order = []
    while ready:
        name = ready.popleft()
        order.append(name)
        for dependant in dependants[name]:
            waiting[dependant] -= 1
            if waiting[dependant] == 0:
                ready.append(dependant)
    return order


def dependency_names(task: PlannedTask, members: Mapping[str, Sequence[PlannedTask]]) -> Iterator[str]:
    """Return the concrete tasks that a task waits for. `members` is `Plan.members()`."""
    for dependency in task.depends_on:
        if dependency.is_group:
            yield from (member.name for member in members[dependency.task])
        else:
            yield dependency.task


def needs_text(placement: Placement) -> str:
    """Say what a placement takes: "4 GPUs on each of 2 nodes"."""
    per_node = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    count = placement.node_count if placement.is_flexible else len(placement.nodes)
    where = "one node" if count == 1 else f"each of {count} nodes"
    return f"{counted(per_node, 'GPU')} on {where}" if per_node else where


def until_text(dependency: Dependency, target: PlannedTask) -> str:
    """Say how far the dependency must be: "Ready", "Completed", "Failed"."""
    if dependency.until == "available":
        return "Ready" if target.is_service else "Completed"
    return dependency.until.capitalize()
