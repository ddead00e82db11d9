"""Collects the values of a completed task from its outputs: patterns, JSON paths, CSV columns, and metrics over them.

Pure. The output collector of the run calls `collect` with a function that reads lines. No problem here fails
a task: problems are sentences for the console and the summary.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct, field

from sflow_ctl.plan.results import STDOUT, PlannedOutput
from sflow_ctl.results.aggregates import AggregateError, summarised
from sflow_ctl.results.documents import IncompleteError, column, json_values
from sflow_ctl.results.patterns import MAX_TEXT, Found, PatternError, match_lines

Read = Callable[[str], Iterable[str]]
"""Lines of a source: `stdout`, or a file of the task. Raises: OSError."""
MAX_RECORDED = 10_000
"""Values of one name that are recorded: they go into the journal and one cell of `results.csv`."""


class OutputValues(Struct):
    """The values of a task's outputs. `problems` are sentences for people; a problem never fails a task."""

    values: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def visible(self) -> dict[str, Any]:
        """Return the values that later tasks see as `task.NAME.outputs`.

        A metric replaces the values it was made of.
        """
        return {**self.values, **self.metrics}


def collect(outputs: Sequence[PlannedOutput], read: Read) -> OutputValues:
    """Return all values of one task, in the order of its outputs."""
    found, result = Found(), OutputValues()
    for source, patterns in _patterns_by_source(outputs).items():
        try:
            matched = match_lines(patterns, read(source))
        except (OSError, PatternError) as error:
            text = f"{source}: {_why(error)}" if isinstance(error, OSError) else str(error)
            result.problems.append(text)
            continue
        result.problems += [f"{source}: {problem}" for problem in matched.problems]
        for name, values in matched.values.items():
            for value in values:
                found.add(name, value)
    for output in outputs:
        _collect_document(output, read, found, result)
    for output in outputs:
        _collect_metrics(output, found, result)
    for name, values in found.values.items():
        if len(values) > MAX_RECORDED:
            what = f"{name}: only the first {MAX_RECORDED} of {len(values)} values are recorded"
            result.problems.append(what)
            values = values[:MAX_RECORDED]
        if values:
            result.values[name] = values[0] if len(values) == 1 else values
    return result


def _collect_document(output: PlannedOutput, read: Read, found: Found, result: OutputValues) -> None:
    """Add the values of an output from JSON or CSV."""
    name = output.name or ""
    try:
        if output.json is not None:
            values = json_values(output.json, read(output.source), output.source == STDOUT)
        elif output.csv is not None:
            values = column(output.csv, read(output.source))
        else:
            return
    except (
        IncompleteError
    ) as error:  # a program that was interrupted while it wrote loses its last document alone
        for value in error.values:
            found.add(name, value)
        result.problems.append(f"{output.source}: {error}")
        return
    except (OSError, ValueError, KeyError, RecursionError) as error:
        text = error.args[0] if isinstance(error, KeyError) else _why(error)
        result.problems.append(f"{output.source}: {text}")
        return
    if not values:
        wanted = (
            f"path {output.json} is missing" if output.json is not None else f"column {output.csv} is empty"
        )
        result.problems.append(f"{output.source}: {wanted}: {name} has no value")
    for value in values:
        found.add(name, value)


def _collect_metrics(output: PlannedOutput, found: Found, result: OutputValues) -> None:
    for metric in output.metrics:
        values = found.values.get(metric.name)
        if not values:
            continue
        try:
            value = summarised(values, metric.type, metric.aggregate)
        except (AggregateError, ArithmeticError, statistics.StatisticsError) as error:
            result.problems.append(f"metric {metric.name}: {error}")
            continue
        if isinstance(value, list):
            value = value[:MAX_RECORDED]
        result.metrics[metric.name] = value[:MAX_TEXT] if isinstance(value, str) else value


def _patterns_by_source(outputs: Sequence[PlannedOutput]) -> dict[str, list[str]]:
    by_source: dict[str, list[str]] = {}
    for output in outputs:
        if output.pattern is not None:
            by_source.setdefault(output.source, []).append(output.pattern)
    return by_source


def _why(error: Exception) -> str:
    """Return why a source cannot be read, without a number or an absolute path."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file in the task's directory"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
