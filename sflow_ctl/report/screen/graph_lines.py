"""The graph of a run as indented lines with the states of its tasks, for the full-screen view. Pure.

A task stands below the last of the tasks that it waits for, and names the others. Replicas of one task are one line.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from sflow_ctl.plan.graph import topological_order, until_text
from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.tables import Colour, shown_state

MAX_OTHERS = 3


class GraphLine(Struct, frozen=True):
    """A task, or all replicas of one."""

    base: str
    depth: int
    """How many tasks stand above it on its way from the start."""
    text: str
    """Its name and states."""
    waits: str
    """What it waits for beside the line that it stands below."""
    colour: Colour | None


def graph_lines(state: RunView) -> list[GraphLine]:
    """Return the lines from those that wait for nothing on; each after all that it waits for."""
    members = state.plan.members()
    base_of = {task.name: task.base for task in state.plan.tasks}
    edges = _edges(base_of, members)
    order = topological_order(edges)
    place = {base: at for at, base in enumerate(order)}
    depths: dict[str, int] = {}
    parent: dict[str, str] = {}
    below: dict[str, list[str]] = {}
    for base in order:
        needs = edges[base]
        if needs:
            parent[base] = max(needs, key=lambda need: (depths[need], place[need]))
            below.setdefault(parent[base], []).append(base)
        depths[base] = depths[parent[base]] + 1 if needs else 0
    lines: list[GraphLine] = []
    waiting = [base for base in reversed(order) if base not in parent]
    while waiting:
        base = waiting.pop()
        waits = _waits(members, base_of, members[base][0], parent.get(base))
        text, colour = _states(state, base, members[base])
        lines.append(GraphLine(base, depths[base], text, waits, colour))
        waiting += reversed(below.get(base, []))
    return lines


def _edges(base_of: Mapping[str, str], members: Mapping[str, Sequence[PlannedTask]]) -> dict[str, list[str]]:
    edges: dict[str, list[str]] = {}
    for base, group in members.items():
        found: dict[str, None] = {}
        for task in (group[0], group[-1]):  # replicas differ in the replica that they wait for, at most
            for need in task.depends_on:
                other = need.task if need.is_group else base_of[need.task]
                if other != base:
                    found[other] = None
        edges[base] = list(found)
    return edges


def _states(state: RunView, base: str, group: Sequence[PlannedTask]) -> tuple[str, Colour | None]:
    """Return the name with the states of all its replicas, and a colour for them."""
    words: dict[str, int] = {}
    colours: list[Colour | None] = []
    for task in group:
        word, colour = shown_state(state.tasks[task.name], state.plan, task)
        words[word] = words.get(word, 0) + 1
        colours.append(colour)
    if len(group) == 1:
        return f"{group[0].name}  {next(iter(words))}", colours[0]
    counts = ", ".join(f"{count} {word}" for word, count in words.items())
    return f"{base} × {len(group)}  {counts}", _worst(colours)


def _waits(
    members: Mapping[str, Sequence[PlannedTask]],
    base_of: Mapping[str, str],
    task: PlannedTask,
    parent: str | None,
) -> str:
    others = []
    for need in task.depends_on:
        base = need.task if need.is_group else base_of[need.task]
        if need.until == "available" and base == parent:
            continue
        others.append(f"{need.task} {until_text(need, members[base][0]).lower()}")
    more = len(others) - MAX_OTHERS
    return ", ".join(others[:MAX_OTHERS]) + (f" and {more} more" if more > 0 else "")


def _worst(colours: Sequence[Colour | None]) -> Colour | None:
    """Return the colour of several tasks: red if any failed, green if all are well."""
    if "red" in colours:
        return "red"
    if colours and all(colour == "green" for colour in colours):
        return "green"
    return "yellow" if "yellow" in colours else None
