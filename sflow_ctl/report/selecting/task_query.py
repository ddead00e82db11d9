"""Which tasks of a run a `--query` means. Called by `status`, `logs`, `explain`, `rerun` and `replay`."""

from collections.abc import Collection, Sequence

from protocol.diagnosis.reasons import WORDS
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.selecting.query import Query, parsed_query, refuse_unknown
from sflow_ctl.report.words import node_name

UNFINISHED = "unfinished"
"""Beside the states: it has not ended, or ended without a result and not by itself."""
_UNFINISHED = (frozenset(TaskState) - TERMINAL) | {TaskState.LOST, TaskState.CANCELLED, TaskState.SKIPPED}
KEYS = {
    "state": f"a state, or {UNFINISHED}",
    "reason": "the word for why it ended, as cuda_oom",
    "task": "a name, of one task or of all its replicas",
    "cell": "the label, case or id of a cell, or swept values, as lr=0.1",
    "node": "the node of its last attempt",
    "label": "label.NAME=VALUE, or label=NAME for any value",
}


def task_query(texts: Sequence[str]) -> Query:
    """Return the query of the given options. Raises: UsageError."""
    return parsed_query(texts, KEYS)


def fitting_tasks(query: Query, state: RunView) -> list[str]:
    """Return the names of the tasks that a query means, in the order of the plan.

    Raises: UsageError for a value that no task of the run could have.
    """
    plan = state.plan
    by_name = {task.name: task for task in plan.tasks}
    refuse_unknown(query, lambda key: _known(key, state))
    return [
        name
        for name, record in state.tasks.items()
        if name in by_name and query.fits(lambda key: _values(key, record, by_name[name], plan))  # noqa: B023
    ]


def reason_of(record: TaskRecord) -> str:
    """Return the word for why a task ended, or why its last attempt did; empty if there is none."""
    if record.reason is None:
        return ""
    return record.reason.after or (record.reason.word if record.state in TERMINAL else "")


def cell_words(task: PlannedTask) -> list[str]:
    """Return how the cell of a task may be called: label, case and id, all of its swept values, one of them, or a value alone."""
    pairs = [f"{name}={value}" for name, value in task.sweep]
    words = [" ".join(pairs), *pairs, *(value for _, value in task.sweep)] if pairs else []
    cell = task.cell
    return words if cell is None else [word for word in (cell.label, cell.case, cell.id) if word] + words


def _values(key: str, record: TaskRecord, task: PlannedTask, plan: Plan) -> Sequence[str]:
    if key.startswith("label."):
        return [value for name, value in task.labels if name == key.removeprefix("label.")]
    match key:
        case "label":
            return [name for name, _ in task.labels]
        case "state":
            return (record.state.value, UNFINISHED) if record.state in _UNFINISHED else (record.state.value,)
        case "reason":
            return (reason_of(record),)
        case "task":
            return (task.name, task.base, f"{task.base}[{task.replica_index}]")
        case "cell":
            return cell_words(task)
        case _:
            return (node_name(plan, record.node),) if record.node is not None else ()


def _known(key: str, state: RunView) -> Collection[str]:
    plan = state.plan
    if key.startswith("label"):
        return {value for one in plan.tasks for value in _values(key, state.tasks[one.name], one, plan)}
    match key:
        case "state":
            return [*(one.value for one in TaskState), UNFINISHED]
        case "reason":
            own = {signature.reason for signature in plan.signatures}
            return WORDS | own | {reason_of(record) for record in state.tasks.values()} - {""}
        case "task":
            return {
                word
                for one in plan.tasks
                for word in (
                    one.name,
                    one.base,
                    *((f"{one.base}[{one.replica_index}]",) if one.is_replicated else ()),
                )
            }
        case "cell":
            return {word for one in plan.tasks for word in cell_words(one)}
        case _:
            return {node.name for node in plan.nodes}
