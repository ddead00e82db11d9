"""Why a task of a run has not started, as a sentence. Pure; `logs` prints it where a log would be."""

from collections.abc import Mapping, Sequence

from sflow_ctl.core.model.task import NEEDS_IT_ALIVE
from sflow_ctl.core.policy.dependencies import reached
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Dependency, PlannedTask
from sflow_ctl.report.run_view import RunView

SHOWN = 5


def not_started(state: RunView, name: str) -> str | None:
    """Return `cli has not started: it waits for srv`, or None for a task that has been started."""
    record = state.tasks[name]
    if record.attempts:
        return None
    if record.state in TERMINAL:
        why = record.reason.text or record.reason.word if record.reason is not None else ""
        return f"{name} did not run: {why or record.state.value}"
    if record.state is TaskState.QUEUED:
        return f"{name} has not started: it waits for room"
    waits = unmet(state, name)
    shown = ", ".join(waits[:SHOWN]) + (f" and {len(waits) - SHOWN} more" if len(waits) > SHOWN else "")
    task = next(task for task in state.plan.tasks if task.name == name)
    if not waits:  # a task that may start at once is queued without a change of state
        shown = "room" if task.finally_when is None else "the end of the run"
    return f"{name} has not started: it waits for {shown}"


def unmet(state: RunView, name: str) -> list[str]:
    """Return the tasks that a task still waits for."""
    task = next(task for task in state.plan.tasks if task.name == name)
    members = state.plan.members()
    waits: dict[str, None] = {}
    for dependency in task.depends_on:
        waits |= dict.fromkeys(unmet_members(state, dependency, members))
    return list(waits)


def unmet_members(
    state: RunView, dependency: Dependency, members: Mapping[str, Sequence[PlannedTask]]
) -> list[str]:
    """Return the tasks that are not as far as a dependency asks for; none once enough of its members are."""
    names = [one.name for one in members[dependency.task]] if dependency.is_group else [dependency.task]
    lacking = [one for one in names if dependency.until not in reached(state.tasks[one].state, frozenset())]
    return lacking if len(names) - len(lacking) < needed(dependency, members) else []


def needed(dependency: Dependency, members: Mapping[str, Sequence[PlannedTask]]) -> int:
    """Return for how many of its members a dependency must hold, by the rule of `core/model/task.py`."""
    group = members[dependency.task] if dependency.is_group else ()
    if not group or dependency.until == "failed":
        return 1
    if group[0].quorum is not None and dependency.until in ("available", "completed"):
        return group[0].quorum.needed
    if dependency.until in NEEDS_IT_ALIVE:
        return group[0].min_ready or len(group)
    return len(group)
