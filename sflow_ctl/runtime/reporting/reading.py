"""Reads what a report needs of a run directory, of any run, live or ended. Called by `report`.

What cannot be read is a problem in the report, not an error.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from sflow_ctl.plan.model import PlannedTask
from sflow_ctl.report.run_report.comparing import RunComparison
from sflow_ctl.report.run_report.courses import Courses
from sflow_ctl.report.run_report.differences import comparison
from sflow_ctl.report.run_report.model import RunReport
from sflow_ctl.results.exported import ExportedRun
from sflow_ctl.results.recorded import block_values, values_of
from sflow_ctl.runtime.files.task_results import OF_TASK
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.durable import UNREADABLE, read_regular
from sflow_ctl.runtime.record.reader import Liveness, RunReader
from sflow_ctl.runtime.reporting.gathering import gathered
from sflow_ctl.runtime.reporting.secrecy import mask_of, without_forms
from sflow_ctl.runtime.resuming.overrides import set_values

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_WORDS = {Liveness.RUNNING: "running", Liveness.UNKNOWN: "silent", Liveness.DEAD: "died"}


def report_of(reader: RunReader, shown: str) -> RunReport:
    """Return the report of a run as its files are now; `shown` is what to type to name it. Raises: RunDirectoryError."""
    status = reader.status()  # before the journal: it is complete if the run had ended
    summary = reader.summary() if status.liveness is Liveness.ENDED else None
    courses, began = Courses(), reader.facts.started_wall_ns
    for change in reader.refresh():
        began = min(began, change.wall_ns)
        courses.note(change.transition, change.wall_ns)
    if summary is None and status.liveness is Liveness.DEAD:
        reader.lose_live_tasks()
        courses.lose(max(courses.last_ns, began, reader.last_sign_ns()))
    outputs = task_values(reader)
    return gathered(
        reader.directory,
        reader.facts,
        reader.state,
        summary,
        courses,
        began,
        outputs,
        liveness=_WORDS.get(status.liveness, "running"),
        liveness_text=status.text,
        takeovers=len(reader.takeovers),
        shown=shown,
        problems=reader.journal.problems(),
    )


def comparison_of(left: RunReader, right: RunReader, shown: Callable[[Path], str]) -> RunComparison:
    """Return what differs between two runs; `shown` names a directory as it is typed. Raises: RunDirectoryError."""
    reports = [report_of(one, shown(one.directory)) for one in (left, right)]
    masks = [mask_of(one.plan) for one in (left, right)]
    return comparison(
        reports[0],
        reports[1],
        (left.plan, right.plan),
        (workflow_text(left), workflow_text(right)),
        lambda text: without_forms(masks[1].text(masks[0].text(text))),
    )


def exported_run(reader: RunReader) -> ExportedRun:
    """Return what is exported of a run, as its files are now. Raises: RunDirectoryError."""
    status = reader.status()
    reader.refresh()
    if status.liveness is Liveness.DEAD:
        reader.lose_live_tasks()
    facts = reader.facts
    return ExportedRun(
        facts.run_id,
        reader.plan,
        reader.state,
        task_values(reader),
        facts.labels,
        facts.started_wall_ns,
        str(reader.directory.absolute()),
    )


def task_values(reader: RunReader) -> dict[str, dict[str, Any]]:
    """Return the values of all tasks that have some."""
    given = set_values(reader)
    return {
        task.name: values
        for task in reader.plan.tasks
        if (task.has_values or block_values(task))
        and (values := values_of_task(reader.directory, task, given.get(task.name, _NOTHING))) is not None
    }


def values_of_task(
    directory: Path, task: PlannedTask, given: Mapping[str, Any] = _NOTHING
) -> dict[str, Any] | None:
    """Return the values of a task as its files have them, with those that were set since, or those of its block."""
    if (of_block := block_values(task)) is not None:
        return of_block or None
    values = values_of(_document(directory / task.name / "outputs.json"), task.outputs) or {}
    result = _document(directory / task.name / OF_TASK)
    if isinstance(result, dict) and isinstance(result.get("values"), dict):
        values = {**result["values"], **values}
    return {**values, **given} or None


def _document(path: Path) -> Any:
    try:
        return msgspec.json.decode(read_regular(path))
    except (OSError, *UNREADABLE):
        return None


def workflow_text(reader: RunReader) -> list[str]:
    """Return the lines of the workflow that a run has recorded; none if they cannot be read."""
    try:
        text = read_regular(reader.directory / layout.WORKFLOW).decode(errors="replace")
    except OSError:
        return []
    return [without_forms(line) for line in text.splitlines()]
