"""Plans the `outputs` of a task: the source and the name of each value."""

from collections.abc import Callable, Iterable
from typing import Any

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.plan.results import PlannedMetric, PlannedOutput
from sflow_ctl.planner.findings import Findings


def plan_outputs(
    task: schema.Task, evaluate: Callable[[Any], Any], findings: Findings
) -> tuple[PlannedOutput, ...]:
    """Return those that are values of lines, in the order of the file. Warns of metrics whose value no output yields."""
    of_lines = (output for output in task.outputs if not output.is_found)
    return tuple(_plan_one(task, output, evaluate, findings) for output in of_lines)


def _plan_one(
    task: schema.Task, output: schema.Output, evaluate: Callable[[Any], Any], findings: Findings
) -> PlannedOutput:
    pattern, path, column = (evaluate(field) for field in (output.pattern, output.json, output.csv))
    metrics = tuple(
        PlannedMetric(name=name, type=metric.type, aggregate=metric.aggregate)
        for name, metric in output.metrics.items()
    )
    name = None if pattern is not None else str(output.name or column or last_step(str(path)))
    yields = {name} if name is not None else pattern_fields(str(pattern))
    for metric in metrics:
        if metric.name not in yields:
            shown = ", ".join(sorted(filter(None, yields))) or "nothing"
            what = f'task "{task.name}": metric "{metric.name}" has no value of that name; the output yields {shown}'
            findings.warn("metric-without-value", what, findings.loaded.where("tasks", task.name, "outputs"))
    return PlannedOutput(
        pattern=None if pattern is None else str(pattern),
        json=None if path is None else str(path),
        csv=None if column is None else str(column),
        name=name,
        source=str(evaluate(output.source)),
        metrics=metrics,
    )


def names_of_values(task: schema.Task) -> set[str] | None:
    """Return the names of all values that a task yields; None where expressions or a file decide about them."""
    if task.block is not None or (task.result is not None and task.result.file is not None):
        return None
    names = names_of_outputs(task.outputs)
    if names is None or task.result is None:
        return names
    return names | {one.name for one in task.result.patterns or ()}


def names_of_outputs(outputs: Iterable[schema.Output]) -> set[str] | None:
    """Return the names of the values of these outputs; None where expressions decide about them."""
    names: set[str] = set()
    for output in outputs:
        if output.is_found:
            names.add(str(output.name))
            continue
        fields = (output.pattern, output.json, output.csv, output.name)
        if any(EXPRESSION_START in field for field in fields if field is not None):
            return None
        if output.pattern is not None:
            names |= pattern_fields(output.pattern)
        else:
            names.add(output.name or output.csv or last_step(str(output.json)))
    return names


def pattern_fields(pattern: str) -> set[str]:
    """Return the named fields of a `parse` pattern."""
    from string import Formatter  # few outputs have one

    try:
        return {name for _, name, _, _ in Formatter().parse(pattern) if name}
    except ValueError:
        return set()  # the pattern itself is reported where it is used


def last_step(path: str) -> str:
    """Return `rate` for `$.stats[0].rate`: the default name of a value."""
    return path.replace("[", ".").rstrip("]*.").rpartition(".")[2].strip("]'\"$") or "value"
