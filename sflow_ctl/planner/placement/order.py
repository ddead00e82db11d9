"""The order in which tasks are placed, and which tasks come after which: they may get what those have freed.

Tasks are placed in the order of their dependencies, as sflow 0.3.1 does. Called by `requests.py`.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from sflow_ctl.plan.graph import topological_order
from sflow_ctl.plan.model import Dependency
from sflow_ctl.planner.phases.graph import Expanded, Graph

_STARTS_BESIDE = "started"


def placement_order(graph: Graph) -> list[tuple[Expanded, range]]:
    """Return every copy as its task and index, neighbours together, each after all that it depends on.

    Copies without dependencies are queued in file order; each that is taken queues those that waited for nothing else, in
    file order, the next copy of its own chain at its own place.
    """
    tasks = [one for one in graph.tasks if one.replicas]
    position = {one.task.name: index for index, one in enumerate(tasks)}
    edges = base_edges(graph)
    waiting = {name: len(needed) for name, needed in edges.items()}
    dependants: dict[str, list[str]] = {name: [] for name in edges}
    for name, needed in edges.items():
        for other in needed:
            dependants[other].append(name)
    queue: deque[tuple[Expanded, range]] = deque()
    for one in tasks:
        if not waiting[one.task.name]:
            queue.append(_first(one))
    order: list[tuple[Expanded, range]] = []
    left = {one.task.name: len(one.replicas) for one in tasks}
    while queue:
        one, copies = queue.popleft()
        order.append((one, copies))
        name = one.task.name
        left[name] -= len(copies)
        following: list[tuple[int, tuple[Expanded, range]]] = []
        if one.is_sequential and left[name]:
            following.append((position[name], (one, range(copies.stop, copies.stop + 1))))
        if not left[name]:
            for dependant in dependants[name]:
                waiting[dependant] -= 1
                if not waiting[dependant]:
                    place = position[dependant]
                    following.append((place, _first(tasks[place])))
        queue.extend(copies for _, copies in sorted(following, key=lambda entry: entry[0]))
    return order


def _first(one: Expanded) -> tuple[Expanded, range]:
    """Return the copies that wait for no other copy."""
    return one, range(1 if one.is_sequential else len(one.replicas))


def base_edges(graph: Graph, without: str | None = None) -> dict[str, list[str]]:
    """Return for each task as written with copies the tasks that it depends on; not by an `until` of `without`."""
    # Of copies only the first and the last of a chain are waited for by name.
    ends = [(one.task.name, one.replicas[end].name) for one in graph.tasks if one.replicas for end in (0, -1)]
    base_of = {name: base for base, name in ends}
    return {
        one.task.name: list(dict.fromkeys(_bases(graph.outside[one.task.name], base_of, without)))
        for one in graph.tasks
        if one.replicas
    }


def _bases(dependencies: Sequence[Dependency], base_of: Mapping[str, str], without: str | None) -> list[str]:
    return [one.task if one.is_group else base_of[one.task] for one in dependencies if one.until != without]


class Ancestry:
    """Says which tasks come before which, as bits: a set for each task would cost quadratic memory."""

    def __init__(self, graph: Graph, counted: Sequence[str]) -> None:
        """`counted` are the tasks, as written, of which it matters."""
        self._bits = {name: 1 << number for number, name in enumerate(counted)}
        self._before: dict[str, int] = {}
        whole, sure = base_edges(graph), base_edges(graph, _STARTS_BESIDE)
        for name in topological_order(whole):
            mask = 0
            for other in whole[name]:
                mask |= self._before[other]
            for other in sure[name]:
                mask |= self._bits.get(other, 0)
            self._before[name] = mask

    def bit(self, task: str) -> int:
        """Return the bit of a task as written; 0 for one that does not count."""
        return self._bits.get(task, 0)

    def before(self, task: str) -> int:
        """Return the bits of all tasks that have come as far as a dependency asks when this one starts."""
        return self._before[task]
