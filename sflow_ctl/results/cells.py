"""Makes one table over the cells of a sweep: a row per cell, with the values of all its tasks. Pure.

The run writes it as `cells.csv`, and the command line prints it instead of the table by task.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import RunView
from sflow_ctl.results.table import values_in_table

_FACTS = ("state", "attempts", "runtime_s")
_WORST = (TaskState.FAILED, TaskState.LOST, TaskState.TIMEOUT, TaskState.CANCELLED, TaskState.SKIPPED)
"""The first of these that a task of a cell has is the state of the cell."""


def cell_results(
    plan: Plan, state: RunView, outputs: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: the cell, swept values, facts, values. Nothing without a sweep of the workflow.

    A value that several tasks have is called TASK.VALUE; that of several replicas in a cell is a list.
    """
    cells: dict[str, list[PlannedTask]] = {}
    for task in sorted(plan.tasks, key=_position):
        if task.cell is not None and not task.cell.owner and not task.removed_in:
            cells.setdefault(task.cell.id, []).append(task)
    owners = {
        (value, task.base)
        for members in cells.values()
        for task in members
        for value in values_in_table(task, outputs.get(task.name, {}))
    }
    shared = {name for name, count in Counter(value for value, _ in owners).items() if count > 1}
    rows: list[tuple[dict[str, str], list[Any], dict[str, Any]]] = []
    for members in cells.values():
        values: dict[str, Any] = {}
        for task in members:
            for value, found in _values(task, outputs, shared):
                values[value] = [*_listed(values[value]), found] if value in values else found
        swept = {name: text for task in members for name, text in task.sweep}
        rows.append((swept, [_label(members), *_facts(members, state)], values))
    swept_names = list(dict.fromkeys(name for swept, _, _ in rows for name in swept))
    names = list(dict.fromkeys(name for _, _, values in rows for name in values))
    made = [
        [facts[0], *map(swept.get, swept_names), *facts[1:], *map(values.get, names)]
        for swept, facts, values in rows
    ]
    return ["cell", *swept_names, *_FACTS, *names] if made else [], made


def _position(task: PlannedTask) -> int:
    """Return the position of a task's cell: a revision adds tasks of any cell at the end of the plan."""
    return -1 if task.cell is None else task.cell.index


def _values(
    task: PlannedTask, outputs: Mapping[str, Mapping[str, Any]], shared: set[str]
) -> Iterator[tuple[str, Any]]:
    for value, found in values_in_table(task, outputs.get(task.name, {})).items():
        yield (f"{task.base}.{value}" if value in shared else value), found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _label(members: Sequence[PlannedTask]) -> str:
    cell = members[0].cell
    return "" if cell is None else cell.label


def _facts(members: Sequence[PlannedTask], state: RunView) -> list[Any]:
    """Return the state of a cell, the attempts of the task with the most, and the run time of all."""
    records = [state.tasks[task.name] for task in members]
    jobs = [record for task, record in zip(members, records, strict=True) if not task.is_service]
    states = {record.state for record in jobs}
    word = next((str(one) for one in _WORST if one in states), None)
    if word is None:
        word = (
            "completed" if states <= {TaskState.COMPLETED} else "not ended" if states - TERMINAL else "ended"
        )
    times = [record.runtime_s for record in records if record.runtime_s is not None]
    return [word, max(record.attempts for record in records), round(sum(times), 3) if times else None]
