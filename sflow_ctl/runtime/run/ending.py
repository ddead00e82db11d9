"""Decides how a run ended, once everything has stopped: Slurm's own reason, the workflow's `success`, the summary.

Called by `workflow.py` after the controller's loop; writes `summary.json` and `results.csv`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import ExitStatus
from protocol.messages.uploads import UploadOutcome
from sflow_ctl.core.commands import FinishRun
from sflow_ctl.core.states import FirstCause, Outcome, Reason
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.report.resumed import AgentRestart, Takeover
from sflow_ctl.report.run_view import RunView
from sflow_ctl.report.summary import Summary, UploadSummary, summary, summary_json
from sflow_ctl.runtime.record import layout
from sflow_ctl.runtime.record.disk import disk_reason

if TYPE_CHECKING:
    from sflow_ctl.plan.deferred import DeferredValues
    from sflow_ctl.report.resumed import ResumedSummary
    from sflow_ctl.report.telemetry.use import WindowUse
    from sflow_ctl.runtime.handover.run_outputs import RunOutput
    from sflow_ctl.runtime.record.directory import RunDirectory, RunFacts

_EXIT = {
    Outcome.COMPLETED: ExitStatus.OK,
    Outcome.FAILED: ExitStatus.RUN_FAILED,
    Outcome.TIMEOUT: ExitStatus.TIME_LIMIT,
    Outcome.INTERRUPTED: ExitStatus.INTERRUPTED,
    Outcome.TERMINATED: ExitStatus.TERMINATED,
    Outcome.INFRASTRUCTURE: ExitStatus.INFRASTRUCTURE,
}
_MAY_BE_SLURMS = ("signal", "node_lost", "time_limit")
"""Reasons that Slurm causes when it ends a job: it signals this process, the agents and the tasks in any order."""


class RunEnd(Struct, frozen=True):
    """How a run ended, for the console."""

    status: ExitStatus
    state: RunView
    summary: Summary
    directory: Path
    outputs: dict[str, dict[str, Any]]
    """Values of the tasks' outputs, by task."""


def conclude(
    finish: FinishRun,
    *,
    directory: "RunDirectory",
    facts: "RunFacts",
    state: RunView,
    outputs: dict[str, dict[str, Any]],
    output_problems: dict[str, list[str]],
    refused: dict[str, int],
    job_ids: Sequence[str],
    resumed: "ResumedSummary | None" = None,
    record_error: OSError | None = None,
    takeovers: Sequence[Takeover] = (),
    agent_restarts: Sequence[AgentRestart] = (),
    windows: "Mapping[str, Sequence[WindowUse]] | None" = None,
    values: "DeferredValues | None" = None,
) -> RunEnd:
    """Settle the outcome of a run that has stopped, and write its summary and results.

    `refused` counts messages that were refused or dropped, by kind; `job_ids` are the Slurm jobs, none outside of one.
    `record_error` is what kept the journal from being written, if anything did: a run that did not complete then has status 3.
    `values` evaluates the outputs of the run.
    """
    plan = state.plan
    for job_id in job_ids:
        nodes = [node.name for node in plan.nodes if node.job_id == job_id]
        told = with_slurm_reason(finish, job_id, nodes)
        if told is not finish:
            finish = told
            break
    finish = _with_workflow_success(finish, plan, directory.path)
    of_run: tuple[RunOutput, ...] = ()
    if plan.outputs and values is not None:
        from sflow_ctl.runtime.handover.run_outputs import resolve_outputs, with_outputs  # few runs have any

        of_run = resolve_outputs(plan.outputs, values)
        finish = with_outputs(finish, of_run)
    status = _exit_status(finish)
    whole = summary(
        state,
        finish.outcome,
        finish.cause,
        run_id=facts.run_id,
        exit_status=int(status),
        started_wall_ns=facts.started_wall_ns,
        ended_wall_ns=time.time_ns(),
        survivors=finish.survivors,
        refused=refused,
        output_problems=output_problems,
        resumed=resumed,
        takeovers=takeovers,
        agent_restarts=agent_restarts,
        windows=windows or {},
        outputs={one.name: one.value for one in of_run},
    )
    end = RunEnd(status, state, whole, directory.path, outputs)
    if record_error is not None and finish.outcome is not Outcome.COMPLETED:
        end = _without_record(end, record_error)
    try:
        if any(task.has_values for task in kinds_of(plan.tasks)):
            from sflow_ctl.results.table import results, results_csv

            table = results_csv(*results(plan, state, outputs))
            directory.write(layout.RESULTS, table.encode())
            if plan.sweeps:
                from sflow_ctl.results.cells import cell_results

                header, rows = cell_results(plan, state, outputs)
                directory.write(layout.CELLS, results_csv(header, rows).encode())
        if of_run:
            from sflow_ctl.runtime.handover.run_outputs import write_outputs

            write_outputs(directory, facts.run_id, of_run)
        directory.write(layout.SUMMARY, summary_json(end.summary))
    except OSError as error:  # the console still gets everything
        return end if end.status is ExitStatus.INFRASTRUCTURE else _without_record(end, error)
    return end


def with_archive(end: RunEnd, outcome: UploadOutcome, directory: "RunDirectory") -> RunEnd:
    """Return the end of a run whose directory was uploaded, or not; it is in the summary then.

    A failure of an upload that must succeed makes a run fail that had completed.
    """
    whole, status = end.summary, end.status
    problem = next((one.text for one in outcome.problems if one.is_failure), "")
    if problem and whole.outcome is Outcome.COMPLETED:
        cause = FirstCause(text=f"upload_all failed: {problem}", reason=Reason("upload", problem))
        status = _EXIT[Outcome.FAILED]
        whole = replace(whole, outcome=Outcome.FAILED, cause=cause, exit_status=int(status))
    whole = replace(whole, upload_all=UploadSummary.of(outcome))
    end = replace(end, status=status, summary=whole)
    try:
        directory.write(layout.SUMMARY, summary_json(whole))
    except OSError as error:
        return end if status is ExitStatus.INFRASTRUCTURE else _without_record(end, error)
    return end


def _exit_status(finish: FinishRun) -> ExitStatus:
    text = finish.cause.text if finish.cause is not None else ""
    if finish.outcome is Outcome.TERMINATED and text == "stopped by SIGHUP":
        return ExitStatus.HANGUP
    return _EXIT[finish.outcome]


def _without_record(end: RunEnd, error: OSError) -> RunEnd:
    """Return the end of a run whose record cannot be written: status 3, and that as the cause if there is no other."""
    reason = disk_reason(error, end.directory)
    cause = end.summary.cause or FirstCause(text=reason.text, reason=reason)
    if end.summary.cause is not None:
        cause = msgspec.structs.replace(cause, text=f"{cause.text}; and {reason.word}: {reason.text}")
    status = ExitStatus.INFRASTRUCTURE
    outcome = Outcome.INFRASTRUCTURE if end.summary.outcome is Outcome.COMPLETED else end.summary.outcome
    whole = msgspec.structs.replace(end.summary, outcome=outcome, cause=cause, exit_status=int(status))
    return replace(end, status=status, summary=whole)


def with_slurm_reason(finish: FinishRun, job_id: str, nodes: Sequence[str]) -> FinishRun:
    """Replace a signal, a lost node or a time limit by Slurm's own reason, if Slurm ended the job. `nodes` are the job's."""
    cause = finish.cause
    if cause is None or (
        finish.outcome is not Outcome.TERMINATED
        and not finish.is_ended_by_slurm
        and (cause.reason is None or cause.reason.word not in _MAY_BE_SLURMS)
    ):
        return finish
    from sflow_ctl.runtime.slurm.job_reason import why_it_ends

    reason = why_it_ends(job_id, nodes)
    is_time_limit = cause.reason is not None and cause.reason.word == "time_limit"
    if reason is None or (is_time_limit and reason.word == "time_limit"):
        return finish
    outcome = Outcome.TIMEOUT if reason.word == "time_limit" else Outcome.TERMINATED
    how = cause.text if is_time_limit else "stopped by SIGTERM"
    cause = FirstCause(text=f"{how} ({reason.text})", reason=reason)
    return FinishRun(outcome=outcome, cause=cause, survivors=finish.survivors)


def _with_workflow_success(finish: FinishRun, plan: Plan, directory: Path) -> FinishRun:
    """Fail a run whose tasks all completed if the workflow's own `success` conditions do not hold."""
    if finish.outcome is not Outcome.COMPLETED or plan.success is None:
        return finish
    from sflow_ctl.runtime.run.success import what_is_missing

    reason = what_is_missing(plan, directory)
    if reason is None:
        return finish
    cause = FirstCause(
        text=f"the workflow did not fulfil its success conditions: {reason.text}", reason=reason
    )
    return FinishRun(outcome=Outcome.FAILED, cause=cause, survivors=finish.survivors)
