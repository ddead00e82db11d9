"""What lists over many runs have of a task, and which of them a query means. Pure.

Exports, `ps --tasks` and the index of runs have the same entries, so that they cannot differ.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from protocol.diagnosis.reasons import WORDS
from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import RunView, TaskRecord
from sflow_ctl.report.selecting.query import Query, refuse_unknown
from sflow_ctl.report.selecting.task_query import KEYS, UNFINISHED, cell_words, reason_of
from sflow_ctl.report.tables import Table
from sflow_ctl.report.words import duration_text, node_name

MOST_ROWS = 1000
"""Tasks of the table on a terminal; `--json` has all."""
_UNFINISHED = {
    one.value
    for one in (frozenset(TaskState) - TERMINAL) | {TaskState.LOST, TaskState.CANCELLED, TaskState.SKIPPED}
}


class TaskEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One task of one run."""

    run_id: str
    """The id of the run."""
    directory: str
    """Its run directory, absolute."""
    workflow: str
    """The name of the workflow."""
    task: str
    """The concrete task."""
    base: str
    """The task as written."""
    replica: int | None = None
    """Its index among the copies of the task as written; null without copies."""
    state: str
    """The state, as far as the run's files tell."""
    reason: str = ""
    """The word for why it ended, or for why its last attempt did."""
    text: str = ""
    """The same as a sentence."""
    node: str | None = None
    """The node of its last attempt."""
    attempts: int = 0
    """How many attempts were made."""
    exit_code: int | None = None
    """The exit status of the last attempt."""
    signal: int | None = None
    """The number of the signal that ended it."""
    runtime_s: float | None = None
    """Its run time in seconds."""
    cell: str | None = None
    """The label of its cell in a sweep."""
    cell_words: tuple[str, ...] = ()
    """All that a query may call the cell."""
    sweep: dict[str, str] = {}
    """Swept values."""
    labels: dict[str, str] = {}
    """Its labels, and those of its run."""
    values: dict[str, Any] = {}
    """Values that were read of its outputs."""


class FoundTasks(msgspec.Struct, frozen=True, kw_only=True):
    """`ps --tasks --json`."""

    version: int = 1
    """The version of this format; it grows when a field changes its meaning."""
    tasks: tuple[TaskEntry, ...]
    """Those of the newest run first, of a run in the order of its plan."""


def entries_of(
    run_id: str,
    directory: str,
    state: RunView,
    labels: Mapping[str, str],
    outputs: Mapping[str, Mapping[str, Any]],
) -> Iterator[TaskEntry]:
    """Yield the tasks of a run, in the order of its plan. `outputs` are values by task and name."""
    plan = state.plan
    for task in plan.tasks:
        yield _entry(
            run_id, directory, plan, task, state.tasks[task.name], labels, outputs.get(task.name, {})
        )


def _entry(
    run_id: str,
    directory: str,
    plan: Plan,
    task: PlannedTask,
    record: TaskRecord,
    labels: Mapping[str, str],
    values: Mapping[str, Any],
) -> TaskEntry:
    reason = record.reason
    return TaskEntry(
        run_id=run_id,
        directory=directory,
        workflow=plan.workflow,
        task=task.name,
        base=task.base,
        replica=task.replica_index if task.is_replicated else None,
        state=record.state.value,
        reason=reason_of(record),
        text=reason.text if reason is not None and record.state in TERMINAL else "",
        node=node_name(plan, record.node) if record.node is not None else None,
        attempts=record.attempts,
        exit_code=record.exit_code,
        signal=record.signal,
        runtime_s=record.runtime_s,
        cell=(task.cell.label or None) if task.cell is not None else None,
        cell_words=tuple(cell_words(task)),
        sweep=dict(task.sweep),
        labels={**labels, **dict(task.labels)},
        values=dict(values),
    )


def fits(query: Query, entry: TaskEntry) -> bool:
    """Return whether a query means a task."""
    return query.fits(lambda key: _values(key, entry))


def refuse_unknown_words(query: Query, entries: Callable[[], Collection[TaskEntry]]) -> None:
    """Check that each condition could be met by a task of some run. Raises: UsageError."""

    def known(key: str) -> Collection[str]:
        match key:
            case "state":
                return [*(one.value for one in TaskState), UNFINISHED]
            case "reason":
                return WORDS | {one.reason for one in entries() if one.reason}
            case _:
                return {value for one in entries() for value in _values(key, one)}

    refuse_unknown(query, known)


def _values(key: str, entry: TaskEntry) -> Sequence[str]:
    if key.startswith("label."):
        name = key.removeprefix("label.")
        return (entry.labels[name],) if name in entry.labels else ()
    match key:
        case "label":
            return tuple(entry.labels)
        case "state":
            return (entry.state, UNFINISHED) if entry.state in _UNFINISHED else (entry.state,)
        case "reason":
            return (entry.reason,)
        case "task":
            index = () if entry.replica is None else (f"{entry.base}[{entry.replica}]",)
            return (entry.task, entry.base, *index)
        case "cell":
            return entry.cell_words
        case _:
            assert key in KEYS
            return () if entry.node is None else (entry.node,)


def entry_table(entries: Sequence[TaskEntry]) -> Table:
    """Return the tasks as a table."""
    shown = entries[:MOST_ROWS]
    notes = (
        (f"... {len(entries) - MOST_ROWS} more tasks; --json has all",) if len(entries) > MOST_ROWS else ()
    )
    return Table(
        headings=("RUN", "TASK", "STATE", "ATTEMPTS", "RUNTIME", "NODE", "REASON") if shown else (),
        rows=tuple(
            (
                one.run_id,
                one.task,
                one.state,
                str(one.attempts),
                "" if one.runtime_s is None else duration_text(one.runtime_s),
                one.node or "",
                one.text,
            )
            for one in shown
        ),
        right=frozenset({"ATTEMPTS", "RUNTIME"}),
        shrinks=frozenset({"RUN", "REASON"}),
        notes=notes,
    )


def export_rows(entries: Sequence[TaskEntry]) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows for an export: facts, then `label.`, `param.` and `value.` columns.

    Columns have a prefix, so that a swept variable, a value and a fact of the same name stay apart.
    """
    labels = list(dict.fromkeys(name for one in entries for name in one.labels))
    swept = list(dict.fromkeys(name for one in entries for name in one.sweep))
    values = list(dict.fromkeys(name for one in entries for name in one.values))
    rows = [
        [
            *_facts(one),
            *map(one.labels.get, labels),
            *map(one.sweep.get, swept),
            *map(one.values.get, values),
        ]
        for one in entries
    ]
    prefixed = (("label", labels), ("param", swept), ("value", values))
    return [*FACTS, *(f"{prefix}.{name}" for prefix, names in prefixed for name in names)], rows


FACTS = (
    "run", "workflow", "task", "base", "cell", "state", "attempts", "exit_code", "signal", "runtime_s", "node",
)  # fmt: skip


def _facts(one: TaskEntry) -> list[Any]:
    return [
        one.run_id, one.workflow, one.task, one.base, one.cell, one.state, one.attempts, one.exit_code, one.signal,
        one.runtime_s, one.node,
    ]  # fmt: skip
