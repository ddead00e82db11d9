"""Why a task of a run has not started, as a sentence. Pure; `logs` prints it where a log would be."""

from protocol.text.listing import listed
from sflow_ctl.core.policy.dependencies import reached
from sflow_ctl.core.states import TERMINAL, TaskState
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
    shown = listed(waits, SHOWN)
    task = next(task for task in state.plan.tasks if task.name == name)
    if task.finally_when is not None and not waits:
        shown = "the end of the run"
    return f"{name} has not started" + (f": it waits for {shown}" if shown else "")


def unmet(state: RunView, name: str) -> list[str]:
    """Return the tasks that a task still waits for."""
    task = next(task for task in state.plan.tasks if task.name == name)
    members = state.plan.members()
    waits: dict[str, None] = {}
    for dependency in task.depends_on:
        names = [one.name for one in members[dependency.task]] if dependency.is_group else [dependency.task]
        waits |= {
            one: None for one in names if dependency.until not in reached(state.tasks[one].state, frozenset())
        }
    return list(waits)
