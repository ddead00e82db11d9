"""The values of a sweep as a table and as plots: each numeric value over a swept variable. Pure. Called by `building.py`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sflow_ctl.report.run_report.model import Plot, PlotSeries, ResultsReport, TaskReport

MAX_PLOTS = 24
MAX_SERIES = 8
_FACTS = 4
"""Columns of facts: task, state, attempts, run time."""


def results_report(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], tasks: Mapping[str, TaskReport]
) -> ResultsReport:
    """Return the table and the plots of `results.csv`: `columns` are the task, swept variables, facts, and values."""
    swept = tuple(dict.fromkeys(name for task in tasks.values() for name in task.sweep))
    swept = tuple(name for name in columns[1 : len(columns)] if name in swept)
    names = columns[_FACTS + len(swept) :]
    plots: list[Plot] = []
    over = _axis(swept, rows, columns)
    if over is not None:
        for name in names:
            plot = _plot(name, over, swept, columns, rows, tasks)
            if plot is not None and len(plots) < MAX_PLOTS:
                plots.append(plot)
    return ResultsReport(
        columns=tuple(columns), rows=tuple([*row] for row in rows), swept=swept, plots=tuple(plots)
    )


def number_of(value: Any) -> float | None:
    """Return a value as a finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _axis(swept: Sequence[str], rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> str | None:
    """Return the swept variable for the axis: one of numbers before others, then the one with the most values."""
    candidates = []
    for name in swept:
        position = columns.index(name)
        values = {row[position] for row in rows if row[position] is not None}
        if len(values) > 1:
            candidates.append((all(_number(one) is not None for one in values), len(values), name))
    return max(candidates, key=lambda one: one[:2])[2] if candidates else None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _plot(
    name: str,
    over: str,
    swept: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    tasks: Mapping[str, TaskReport],
) -> Plot | None:
    """Return the plot of a value; None if it is nowhere a number, or at one place only."""
    value_at, over_at = columns.index(name), columns.index(over)
    others = [(one, columns.index(one)) for one in swept if one != over]
    found: dict[str, dict[str, list[float]]] = {}
    bases = {tasks[row[0]].base for row in rows if number_of(row[value_at]) is not None and row[0] in tasks}
    for row in rows:
        value, place = number_of(row[value_at]), row[over_at]
        if value is None or place is None or row[0] not in tasks:
            continue
        parts = [f"{one}={row[at]}" for one, at in others if row[at] is not None]
        base = tasks[row[0]].base
        label = ", ".join([base, *parts] if len(bases) > 1 or not parts else parts)
        found.setdefault(label, {}).setdefault(str(place), []).append(value)
    places = list(dict.fromkeys(place for line in found.values() for place in line))
    if len(places) < 2:
        return None
    numbers = {place: _number(place) for place in places}
    is_numeric = all(one is not None for one in numbers.values())
    if is_numeric:
        places.sort(key=lambda place: numbers[place] or 0.0)
    series = [
        PlotSeries(
            name=label,
            values=tuple(sum(line[one]) / len(line[one]) if one in line else None for one in places),
        )
        for label, line in list(found.items())[:MAX_SERIES]
    ]
    return Plot(value=name, over=over, places=tuple(places), is_numeric=is_numeric, series=tuple(series))
