"""What is exported of runs to tracking tools: a record for each cell, and for each other task with values. Pure."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sflow_ctl.core.states import TERMINAL, TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.report.run_view import RunView
from sflow_ctl.results.task_entries import TaskEntry, entries_of

Outputs = Mapping[str, Mapping[str, Any]]


class ExportedRun(Struct, frozen=True):
    """What is read of a run."""

    run_id: str
    plan: Plan
    state: RunView
    outputs: Outputs
    """Values of tasks, by task and name."""
    labels: Mapping[str, str]
    started_wall_ns: int
    directory: str = ""
    """Its run directory, absolute."""


class TrackedRun(Struct, frozen=True):
    """What a tracking tool calls a run: a cell of a sweep with the values of all its tasks, or a task with values."""

    key: str
    """`RUN/NAME`: exporting it again replaces it."""
    name: str
    run_id: str
    workflow: str
    state: str
    """`completed`, `failed`, or `running`."""
    parameters: Mapping[str, str]
    metrics: Mapping[str, Sequence[float]]
    """Numbers; of a list all of them, as steps."""
    texts: Mapping[str, str]
    """Values that are not numbers."""
    labels: Mapping[str, str]
    started_ns: int
    ended_ns: int | None


def entries_of_runs(runs: Sequence[ExportedRun]) -> list[TaskEntry]:
    """Return all tasks of all runs."""
    return [
        entry
        for run in runs
        for entry in entries_of(run.run_id, run.directory, run.state, run.labels, run.outputs)
    ]


def tracked_runs(runs: Sequence[ExportedRun]) -> Iterator[TrackedRun]:
    """Yield what tracking tools get of runs."""
    for run in runs:
        groups: dict[str, list[PlannedTask]] = {}
        for task in run.plan.tasks:
            if task.cell is not None:
                name = f"{task.cell.owner}_{task.cell.label}" if task.cell.owner else task.cell.label
                groups.setdefault(name, []).append(task)
            elif task.name in run.outputs or task.sweep:
                groups.setdefault(task.name, []).append(task)
        for name, tasks in groups.items():
            yield _tracked(run, name, tasks)


def _tracked(run: ExportedRun, name: str, tasks: Sequence[PlannedTask]) -> TrackedRun:
    records = [run.state.tasks[task.name] for task in tasks]
    several = Counter(value for task in tasks for value in run.outputs.get(task.name, ()))
    metrics: dict[str, list[float]] = {}
    texts: dict[str, str] = {}
    for task in tasks:
        for value, found in run.outputs.get(task.name, {}).items():
            key = f"{task.base}.{value}" if several[value] > 1 else value
            numbers = _numbers(found)
            if numbers:
                metrics.setdefault(key, []).extend(numbers)
            elif found is not None:
                texts[key] = found if isinstance(found, str) else str(found)
    times = [record.runtime_s for record in records if record.runtime_s is not None]
    metrics["runtime_s"] = [round(sum(times), 3)]
    begun = [record.started_wall_ns for record in records if record.started_wall_ns]
    ends = [
        record.started_wall_ns + int((record.runtime_s or 0) * 1e9)
        for record in records
        if record.started_wall_ns
    ]
    state = _state([record.state for record in records])
    return TrackedRun(
        key=f"{run.run_id}/{name}",
        name=name,
        run_id=run.run_id,
        workflow=run.plan.workflow,
        state=state,
        parameters={name: value for task in tasks for name, value in task.sweep},
        metrics=metrics,
        texts=texts,
        labels={**run.labels, **_common_labels(tasks)},
        started_ns=min(begun, default=run.started_wall_ns),
        ended_ns=None if state == "running" else max(ends, default=run.started_wall_ns),
    )


def _common_labels(tasks: Sequence[PlannedTask]) -> dict[str, str]:
    """Return the labels of tasks which no other of them has with another value."""
    found: dict[str, set[str]] = {}
    for task in tasks:
        for name, value in task.labels:
            found.setdefault(name, set()).add(value)
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _state(states: Sequence[TaskState]) -> str:
    if not TERMINAL.issuperset(states):
        return "running"
    return "completed" if all(state is TaskState.COMPLETED for state in states) else "failed"


def _numbers(value: Any) -> list[float]:
    """Return the numbers of a value, or of a list of them; none for anything else."""
    listed = value if isinstance(value, list) else [value]
    if not all(
        isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in listed
    ):
        return []
    return [float(one) for one in listed]
