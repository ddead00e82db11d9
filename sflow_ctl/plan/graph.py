"""Algorithms on the dependency graph: find a cycle, find an order. Linear in tasks and dependencies."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from sflow_ctl.plan.model import PlannedTask


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
