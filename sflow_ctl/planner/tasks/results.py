"""Plans the `result` of a task: the patterns or the file that its values come from."""

import re
from collections.abc import Callable
from typing import Any

from sflow_ctl.format import schema
from sflow_ctl.format.rules.names import unsafe_path
from sflow_ctl.plan.results import PlannedResult, PlannedResultPattern
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_flag
from sflow_ctl.planner.tasks.outputs import names_of_outputs


def plan_result(
    task: schema.Task, evaluate: Callable[[Any], Any], findings: Findings
) -> PlannedResult | None:
    """Return the result. Warns of names that `outputs` has as well. Raises: UnplannableError, NumberError."""
    if task.result is None:
        return None
    file = task.result.file
    path = None if file is None else str(evaluate(file))
    problem = None if path is None else unsafe_path(path)
    if problem is not None:
        what = f'the file "{path}" of the result {problem}'
        raise UnplannableError("unsafe-path", what, "a JSON file in the task's directory", ("result", "file"))
    planned = PlannedResult(
        patterns=tuple(
            _pattern(one, index, evaluate) for index, one in enumerate(task.result.patterns or ())
        ),
        file=path,
    )
    in_both = sorted({one.name for one in planned.patterns} & (names_of_outputs(task.outputs) or set()))
    if in_both:
        what = f'task "{task.name}": {", ".join(in_both)} is in outputs and in result: the value of outputs counts'
        where = findings.loaded.where("tasks", task.name, "result")
        findings.warn("value-twice", what, where, "rename one of them")
    return planned


def _pattern(
    pattern: schema.ResultPattern, index: int, evaluate: Callable[[Any], Any]
) -> PlannedResultPattern:
    regex = str(evaluate(pattern.regex))
    try:
        re.compile(regex)
    except re.error as error:
        what = f'"{regex}" of the result is not a regular expression: {error}'
        raise UnplannableError("wrong-pattern", what, path=("result", "patterns", index, "regex")) from error
    return PlannedResultPattern(
        name=pattern.name,
        regex=regex,
        type=pattern.type,
        aggregate=pattern.aggregate,
        group=pattern.group,
        unit=pattern.unit,
        is_required=as_flag(evaluate(pattern.required)),
    )
