"""What differs between two runs: configuration, tasks, and the values of their outputs. Pure.

Called by the `report` command with the plans and reports of both. What a run says of itself, as its directory, does not count.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_report.comparing import (
    ConfigurationChange,
    RunComparison,
    TaskComparison,
    ValueComparison,
)
from sflow_ctl.report.run_report.model import RunReport, TaskReport
from sflow_ctl.report.run_report.sweeps import number_of

MAX_DIFF_LINES = 600
MAX_TEXT = 4000
_OF_PLAN = frozenset(
    {
        *("version", "tasks", "nodes", "warnings", "notes", "task_views", "job_id", "variables", "contents"),
        *("secrets", "artifacts"),
    }
)
"""Fields of a plan that are compared in another way, or are each run's own."""
_OF_TASK = frozenset({"name", "base", "replica_index", "sweep", "is_replicated"})
_SCRIPT = "(its script)"
_OWN_VARIABLES = ("SFLOW_", "SLURM_")
"""Beginnings of variables that a run sets for itself."""


def comparison(
    left: RunReport,
    right: RunReport,
    plans: tuple[Plan, Plan],
    workflows: tuple[Sequence[str], Sequence[str]],
    mask: Callable[[str], str],
) -> RunComparison:
    """Return the comparison of two runs. `mask` removes secrets from texts of the plans."""
    diff = list(difflib.unified_diff(*workflows, left.run.run_id, right.run.run_id, lineterm="", n=3))
    if len(diff) > MAX_DIFF_LINES:
        diff[MAX_DIFF_LINES:] = [f"... {len(diff) - MAX_DIFF_LINES} more lines"]
    return RunComparison(
        left=left,
        right=right,
        configuration=tuple(_configuration(left, right, plans, mask)),
        workflow=tuple(map(mask, diff)),
        tasks=tuple(_tasks(left, right)),
        values=tuple(_values(left, right)),
    )


def _configuration(
    left: RunReport, right: RunReport, plans: tuple[Plan, Plan], mask: Callable[[str], str]
) -> Iterator[ConfigurationChange]:
    facts = [
        {"versions": dict(one.versions), "command": _without_id(one), "variables": dict(one.variables)}
        for one in (left, right)
    ]
    yield from _changes("", facts[0], facts[1])
    sides = [
        _Texts(run.run.directory, mask).plain(_of_plan(plan))
        for run, plan in zip((left, right), plans, strict=True)
    ]
    yield from _changes("", sides[0], sides[1])


def _without_id(report: RunReport) -> str:
    words = [word.rpartition("=") for word in report.run.command[1:]]
    run_id = report.run.run_id
    return " ".join(f"{name}{equals}{'RUN' if value == run_id else value}" for name, equals, value in words)


def _of_plan(plan: Plan) -> dict[str, Any]:
    """Return what a plan says, with one entry for all replicas of a task."""
    rest = {name: getattr(plan, name) for name in plan.__struct_fields__ if name not in _OF_PLAN}
    shown = {
        "nodes": [f"{node.backend}: {node.gpus or 0} GPUs" for node in plan.nodes],
        "tasks": {base: _of_task(members, plan.variables) for base, members in plan.members().items()},
    }
    return {**msgspec.to_builtins(rest, enc_hook=str), **msgspec.to_builtins(shown, enc_hook=str)}


def _of_task(members: Sequence[PlannedTask], variables: Mapping[str, object]) -> dict[str, Any]:
    first = members[0]
    fields: dict[str, Any] = {
        name: getattr(first, name) for name in first.__struct_fields__ if name not in _OF_TASK
    }
    fields["argv"] = [_SCRIPT if one == first.script else one for one in first.argv]
    fields["env"] = {
        name: value
        for name, value in first.env.items()
        if not name.startswith(_OWN_VARIABLES) and variables.get(name) != value
    }
    fields["replicas"] = [task.name for task in members]
    return fields


class _Texts:
    """Makes the texts of a run comparable: without its directory, and without secrets."""

    def __init__(self, directory: str, mask: Callable[[str], str]) -> None:
        self._directory, self._mask = directory, mask

    def plain(self, value: Any) -> Any:
        """Return data with such texts."""
        if isinstance(value, str):
            text = self._mask(value.replace(self._directory, "RUN_DIRECTORY"))
            return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ... ({len(text)} characters)"
        if isinstance(value, Mapping):
            return {str(key): self.plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        return value


def _changes(path: str, left: Any, right: Any) -> Iterator[ConfigurationChange]:
    """Yield the values that differ, each at the deepest place that both have."""
    if left == right:
        return
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for key in dict.fromkeys((*left, *right)):
            yield from _changes(f"{path}.{key}" if path else key, left.get(key), right.get(key))
    elif _is_parallel(left, right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _changes(f"{path}[{number}]", one, other)
    else:
        yield ConfigurationChange(path=path, left=left, right=right)


def _is_parallel(left: Any, right: Any) -> bool:
    """Return whether two lists have the same length, and members whose parts can be compared."""
    return (
        isinstance(left, list)
        and isinstance(right, list)
        and len(left) == len(right)
        and all(isinstance(one, Mapping) for one in (*left, *right))
    )


def _tasks(left: RunReport, right: RunReport) -> Iterable[TaskComparison]:
    sides = [{task.name: task for task in one.tasks} for one in (left, right)]
    found = [_task(name, sides[0].get(name), sides[1].get(name)) for name in _names(left, right)]
    return sorted(found, key=lambda one: (one.states[0] == one.states[1], -_changed(one)))


def _names(left: RunReport, right: RunReport) -> list[str]:
    return list(dict.fromkeys(task.name for one in (left, right) for task in one.tasks))


def _task(name: str, left: TaskReport | None, right: TaskReport | None) -> TaskComparison:
    sides = (left, right)
    states = tuple(None if one is None else one.state.value for one in sides)
    return TaskComparison(
        name=name,
        states=(states[0], states[1]),
        attempts=(len(left.attempts) if left else 0, len(right.attempts) if right else 0),
        ready_after_s=(left.ready_after_s if left else None, right.ready_after_s if right else None),
        ran_s=(left.ran_s if left else None, right.ran_s if right else None),
    )


def _changed(one: TaskComparison) -> float:
    """Return by how many seconds a task's times differ."""
    pairs = (one.ready_after_s, one.ran_s)
    return max((abs(b - a) for a, b in pairs if a is not None and b is not None), default=0.0)


def _values(left: RunReport, right: RunReport) -> Iterable[ValueComparison]:
    sides = [{task.name: task.outputs for task in one.tasks} for one in (left, right)]
    found = []
    for task in _names(left, right):
        one, other = sides[0].get(task, {}), sides[1].get(task, {})
        found += [
            _value(task, name, one.get(name), other.get(name)) for name in dict.fromkeys((*one, *other))
        ]
    return sorted(found, key=lambda one: -abs(one.change or 0.0))


def _value(task: str, name: str, left: Any, right: Any) -> ValueComparison:
    before, after = number_of(left), number_of(right)
    change = round((after - before) / abs(before), 6) if before and after is not None else None
    return ValueComparison(task=task, name=name, left=left, right=right, change=change)
