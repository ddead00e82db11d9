"""Reads the results that earlier controllers of a run have left. Called by `runtime/run/resume.py`, which judges them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.results import STDOUT
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.results.recorded import has_masked, values_of
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.held_exits import HeldSuccess, held_successes
from sflow_ctl.runtime.run.output_collector import collect_outputs

if TYPE_CHECKING:
    from sflow_ctl.runtime.run.resume import PriorRun


class ResultsThere(Struct, frozen=True):
    """The results that earlier controllers have left."""

    held: dict[str, HeldSuccess]
    """Tasks that had done their work, though their end was not recorded."""
    completed: dict[str, Plan]
    """Each with the plan that it completed under."""
    incomplete: dict[str, str]
    """What is missing of the result of a completed task."""
    outputs: dict[str, dict[str, Any] | None]


def results_there(
    run: "PriorRun", plan: Plan, records: dict[str, TaskRecord], *, is_dry: bool
) -> ResultsThere:
    """Read the results; those of tasks whose exit did not count yet are collected now, unless nothing may be written."""
    held = held_successes(run.directory, {task.name: task for task in plan.tasks}, records)
    if not is_dry:
        collect_outputs(
            run.directory, [(one, held[one.name].attempt) for one in plan.tasks if one.name in held]
        )
    there = ResultsThere(held, {}, {}, {})
    for task in plan.tasks:
        record = records.get(task.name)
        if record is None or (record.state is not TaskState.COMPLETED and task.name not in held):
            continue
        old = run.plans.of(record.incarnation or 1)
        there.completed[task.name] = plan if old is None else old
        if old is None:
            there.incomplete[task.name] = "the plan that it ran with cannot be read"
        elif task.name in held and not held[task.name].has_log:
            there.incomplete[task.name] = "its log had not arrived completely when its controller ended"
        elif task.has_values and not task.is_service:
            values = there.outputs[task.name] = recorded_values(run.directory, task)
            if values is None and not (is_dry and task.name in held):
                there.incomplete[task.name] = "its outputs.json cannot be read"
            elif has_masked(values, plan.secrets) and _reads_files(task) and _uses_outputs(plan):
                why = "its outputs have the value of a secret, which is not recorded"
                there.incomplete[task.name] = why
    return there


def _reads_files(task: PlannedTask) -> bool:
    """Return whether values are from files, which are not masked as logs are."""
    return any(output.source != STDOUT for output in task.outputs)


def _uses_outputs(plan: Plan) -> bool:
    """Return whether an expression of a task is on outputs of others."""
    return any("outputs" in one.placeholder for task in plan.tasks for one in task.deferred)


def recorded_values(directory: Path, task: PlannedTask) -> dict[str, Any] | None:
    """Return the values of a task's outputs as its `outputs.json` has them; None if it cannot be read."""
    try:
        document = msgspec.json.decode(read_regular(directory / task.name / "outputs.json"))
    except (OSError, *UNREADABLE):
        return None
    return values_of(document, task.outputs)
