"""Reads the results that earlier controllers of a run have left. Called by `runtime/run/resume.py`, which judges them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from protocol.messages.handover import ATTEMPT_MARK, FoundOutput
from sflow_ctl.core.states import TaskState
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.results import STDOUT
from sflow_ctl.report.run_view import TaskRecord
from sflow_ctl.results.recorded import found_in, has_masked, values_of
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.held_exits import HeldSuccess, held_successes
from sflow_ctl.runtime.resuming.overrides import read_overrides, stale_by_overrides, with_overrides
from sflow_ctl.runtime.run.output_collector import collect_outputs

if TYPE_CHECKING:
    from sflow_ctl.runtime.resuming.overrides import Override
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
    found: dict[str, tuple[FoundOutput, ...]]
    """What agents have found of them."""
    stale: dict[str, str]
    """Tasks whose results were made of outputs that a person has set since, with the reason."""
    unfound: set[str]
    """Tasks that had done their work, and whose outputs no agent has found yet."""


def results_there(
    run: "PriorRun", plan: Plan, records: dict[str, TaskRecord], *, is_dry: bool
) -> ResultsThere:
    """Read the results; those of tasks whose exit did not count yet are collected now, unless nothing may be written."""
    held = held_successes(run.directory, {task.name: task for task in plan.tasks}, records)
    if not is_dry:
        collect_outputs(
            run.directory,
            [(one, held[one.name].attempt) for one in plan.tasks if one.name in held and not one.found],
        )
    overrides = read_overrides(run.directory)
    stale = stale_by_overrides(plan, records, overrides)
    of_blocks = {task.name: task.block.outputs for task in plan.tasks if task.block is not None}
    there = ResultsThere(held, {}, {}, of_blocks, {}, stale, set())
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
        elif (
            task.found and task.name in held and not _are_found(run.directory, task, held[task.name].attempt)
        ):
            there.unfound.add(task.name)
        elif task.has_values and not task.is_service:
            given = overrides.of(task.name, record.attempts)
            there.found[task.name], values = _with_set_values(run.directory, task, given)
            there.outputs[task.name] = values
            if values is None and not (is_dry and task.name in held):
                there.incomplete[task.name] = "its outputs.json cannot be read"
            elif gone := _gone(run.directory, task, there.found[task.name]):
                there.incomplete[task.name] = gone
            elif has_masked(values, plan.secrets) and _reads_files(task) and _uses_outputs(plan):
                why = "its outputs have the value of a secret, which is not recorded"
                there.incomplete[task.name] = why
    for name in stale.keys() & there.completed.keys():
        there.incomplete.setdefault(name, stale[name])
    return there


def _with_set_values(
    directory: Path, task: PlannedTask, given: "dict[str, Override]"
) -> tuple[tuple[FoundOutput, ...], dict[str, Any] | None]:
    """Return the outputs of a task as they are recorded, with those that were set; None for values that cannot be read."""
    found, values = _recorded_found(directory, task), recorded_values(directory, task)
    return (found, None) if values is None else with_overrides(found, values, given)


def _recorded_found(directory: Path, task: PlannedTask) -> tuple[FoundOutput, ...]:
    if not task.found:
        return ()
    return found_in(_document(directory, task)) or ()


def _are_found(directory: Path, task: PlannedTask, attempt: int) -> bool:
    """Return whether the outputs of this attempt are recorded."""
    document = _document(directory, task)
    is_of_attempt = isinstance(document, dict) and document.get("attempt") == attempt
    return is_of_attempt and len(found_in(document) or ()) == len(task.found)


def _gone(directory: Path, task: PlannedTask, found: tuple[FoundOutput, ...]) -> str:
    """Say which file of an output is not there any more, if this host sees the task's directory; empty if none."""
    is_here = (directory / task.name / ATTEMPT_MARK).exists() or _is_reused(directory, task)
    if not found or not is_here:
        return ""
    for one in found:
        for file in one.files:
            try:
                size = Path(file.path).stat().st_size
            except OSError:
                return f"its output {one.name} is gone: {file.path}"
            if size != file.bytes:
                return f"its output {one.name} has changed: {file.path}"
    return ""


def _is_reused(directory: Path, task: PlannedTask) -> bool:
    """Return whether the outputs are those of another run, which nothing has copied."""
    document = _document(directory, task)
    return isinstance(document, dict) and "reused_from" in document


def _document(directory: Path, task: PlannedTask) -> Any:
    try:
        return msgspec.json.decode(read_regular(directory / task.name / "outputs.json"))
    except (OSError, *UNREADABLE):
        return None


def _reads_files(task: PlannedTask) -> bool:
    """Return whether values are from files, which are not masked as logs are."""
    return any(output.source != STDOUT for output in task.outputs)


def _uses_outputs(plan: Plan) -> bool:
    """Return whether an expression of a task is on outputs of others."""
    return any("outputs" in one.placeholder for task in plan.tasks for one in task.deferred)


def recorded_values(directory: Path, task: PlannedTask) -> dict[str, Any] | None:
    """Return the values of a task's outputs as its `outputs.json` has them; None if it cannot be read."""
    return values_of(_document(directory, task), task.outputs)
