"""Which tasks the workflow's sweep applies to: all but those that say otherwise, and services that have nothing to do with it."""

import re
from collections.abc import Set

from sflow_ctl.format import schema
from sflow_ctl.format.sweep_paths import spelled_out
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.phases.late_variables import referenced
from sflow_ctl.planner.source import PlanInput
from sflow_ctl.planner.sweeping.points import cases_of


def swept_tasks(source: PlanInput, findings: Findings) -> frozenset[str]:
    """Return the names of the tasks that run once for each cell of the workflow's sweep."""
    sweep = source.document.sweep
    if sweep is None:
        return frozenset()
    changed = _changed_tasks(sweep)
    open_services: list[schema.Task] = []
    swept: set[str] = set()
    for task in source.tasks:
        if task.sweep is False or isinstance(task.sweep, schema.Sweep) or (task.finally_ and not task.sweep):
            continue
        if task.is_service and task.sweep is None and task.name not in changed:
            open_services.append(task)
        else:
            swept.add(task.name)
    words = _words(_swept_variables(source, sweep))
    has_changed = True
    while has_changed:
        has_changed = False
        for task in list(open_services):
            if _uses(source, task, words) or any(one.task in swept for one in task.dependencies):
                swept.add(task.name)
                open_services.remove(task)
                has_changed = True
    for task in open_services:
        findings.note(
            "shared-service", f'service "{task.name}" uses no swept value: it runs once, beside all cells'
        )
    return frozenset(swept)


def _changed_tasks(sweep: schema.Sweep) -> set[str]:
    """Return the tasks of which a cell changes a field."""
    written = [*sweep.axes, *(path for case in cases_of(sweep) for path in (*case.set, *case.axes))]
    return {path.parts[1] for path in map(spelled_out, written) if path.variable is None}


def _swept_variables(source: PlanInput, sweep: schema.Sweep) -> set[str]:
    """Return the swept variables, and those that are computed from them."""
    written = [*sweep.axes, *(path for case in cases_of(sweep) for path in (*case.set, *case.axes))]
    found = {path.variable for path in map(spelled_out, written) if path.variable is not None}
    uses = {variable.name: referenced(variable.value) for variable in source.variables}
    size = -1
    while size < len(found):
        size = len(found)
        found |= {name for name, used in uses.items() if used & found}
    return found


def _words(names: Set[str]) -> re.Pattern[str]:
    """Return the pattern that finds a use of a swept value in a text."""
    words = "|".join(map(re.escape, sorted(names)))
    swept = r"\bsweep\s*[.\[]|SFLOW_(?=SWEEP)"
    return re.compile(rf"(?<![\w]){'(?:' + words + ')'}(?!\w)|{swept}" if names else swept)


def _uses(source: PlanInput, task: schema.Task, words: re.Pattern[str]) -> bool:
    """Return whether a task, the operator that starts it, or its environment names a swept value."""
    name = task.operator if isinstance(task.operator, str) else (task.operator or {}).get("name")
    operators = [one for one in source.document.operators if one.name == name]
    given = task.environment if task.environment is not None else source.document.workflow.environment
    environments = [one for one in source.document.environments if one.name == given]
    return any(words.search(repr(part)) for part in (task, *operators, *environments))
