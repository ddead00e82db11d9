"""Makes one table over a sweep: the outputs of every task, a row per concrete task. Pure.

The run writes it as `results.csv`, the command line prints it.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from protocol.messages.handover import PATH_KINDS
from protocol.text.cells import inert
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.tables import Table

MAX_ROWS = 60
"""Rows of the table on a terminal; `results.csv` has all."""
MAX_WIDTH = 24
"""Characters of a cell on a terminal."""
MAX_CELL = 32_000
"""Characters of a cell in `results.csv`: spreadsheets refuse more than 32,767."""
_FACTS = ("task", "state", "attempts", "runtime_s")


def results(
    plan: Plan, state: RunView, outputs: Mapping[str, Mapping[str, Any]]
) -> tuple[list[str], list[list[Any]]]:
    """Return columns and rows: facts, labels, swept variables, values. Only tasks with `outputs` or a `result` have a row."""
    tasks = [task for task in plan.tasks if task.has_values]
    labels = list(dict.fromkeys(name for task in tasks for name, _ in task.labels))
    swept = list(dict.fromkeys(name for task in tasks for name, _ in task.sweep))
    of_tasks = {task.name: values_in_table(task, outputs.get(task.name, {})) for task in tasks}
    names = list(dict.fromkeys(name for values in of_tasks.values() for name in values))
    rows = []
    for task in tasks:
        record = state.tasks[task.name]
        given, sweep, values = dict(task.labels), dict(task.sweep), of_tasks[task.name]
        runtime_s = None if record.runtime_s is None else round(record.runtime_s, 3)
        facts = [task.name, str(record.state), record.attempts, runtime_s]
        words = (*map(given.get, labels), *map(sweep.get, swept))
        rows.append([facts[0], *words, *facts[1:], *map(values.get, names)])
    return [_FACTS[0], *(f"label.{name}" for name in labels), *swept, *_FACTS[1:], *names], rows


def values_in_table(task: PlannedTask, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of a task without those that are paths of files: a table is of what was measured."""
    paths = {one.name for one in task.found if one.kind in PATH_KINDS}
    return {name: value for name, value in values.items() if name not in paths} if paths else values


def results_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return the table as a file: a missing value is empty, a list or mapping is JSON.

    Text that a spreadsheet would execute as a formula begins with an apostrophe. Source: OWASP, CSV injection.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([inert(name) for name in columns])
    writer.writerows([inert(_cell(value)[:MAX_CELL]) for value in row] for row in rows)
    return text.getvalue()


def results_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], path: str) -> Table:
    """Return the table for a console; `path` is where the whole table is."""
    shown = rows[:MAX_ROWS]
    notes = [f"... {len(rows) - MAX_ROWS} more rows"] if len(rows) > MAX_ROWS else []
    return Table(
        headings=tuple(columns),
        rows=tuple(tuple(_short(value) for value in row) for row in shown),
        right=frozenset(
            name for index, name in enumerate(columns) if all(_is_number(row[index]) for row in shown)
        ),
        shrinks=frozenset({columns[0]}),
        notes=(*notes, f"Results: {path}"),
    )


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return msgspec.json.encode(value).decode() if isinstance(value, list | dict) else str(value)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else _cell(value)
    return text if len(text) <= MAX_WIDTH else text[: MAX_WIDTH - 3] + "..."
