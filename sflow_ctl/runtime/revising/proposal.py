"""Plans a workflow for a live run, and compares it with the plan that is in force: what `apply` and `scale` show and ask for."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from protocol.errors import Finding, PlanError, RunDirectoryError
from sflow_ctl.core.requests import Apply
from sflow_ctl.core.states import LIVE, TERMINAL, TaskState
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.revisions.comparing import PlanChange, TasksNow, compare
from sflow_ctl.plan.revisions.describing import is_same, staying, workflow_changes
from sflow_ctl.plan.revisions.growing import grown_like
from sflow_ctl.plan.revisions.refusals import refusals
from sflow_ctl.planner.context import JobNode
from sflow_ctl.planner.pipeline import build_plan
from sflow_ctl.report.run_view import RunView
from sflow_ctl.runtime.artifacts.contents import with_contents
from sflow_ctl.runtime.files.settings_files import JOB_FIELDS
from sflow_ctl.runtime.operating.client import operator_key
from sflow_ctl.runtime.record.plan_file import as_recorded
from sflow_ctl.runtime.record.reader import RunReader
from sflow_ctl.runtime.record.sources import source_files
from sflow_ctl.runtime.revising.files import PlanHead, UnusablePlanError, codes_of_secrets, leave_plan
from sflow_ctl.runtime.revising.new_secrets import with_new_secrets
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import (
    NodeSource,
    ReadRun,
    plan_context,
    read_run,
    selected,
    with_simulated_gpus,
)
from sflow_ctl.runtime.run.preflight import check_programs, fetch_missing_artifacts
from sflow_ctl.runtime.run.remembered import recall, remember

if TYPE_CHECKING:
    from collections.abc import Callable

    from sflow_ctl.runtime.artifacts.fetching import FetchDisplay


class Proposal(Struct, frozen=True):
    """Another plan for a live run, and what it would change."""

    reader: RunReader
    read: ReadRun
    options: RunOptions
    plan: Plan
    base: Plan
    """The plan that is in force, as a run directory has it."""
    recorded: Plan
    """The other plan, as a run directory would have it."""
    changes: Mapping[str, PlanChange]

    @property
    def is_same(self) -> bool:
        """Return whether it would change nothing."""
        return is_same(self.base, self.recorded, self.changes)

    @property
    def of_run(self) -> list[str]:
        """Return what it changes for the run as a whole."""
        return workflow_changes(self.base, self.recorded)

    @property
    def staying(self) -> list[str]:
        """Return what the file has changed, and a live run keeps as it is."""
        return staying(self.base, self.recorded)


def proposal(reader: RunReader, options: RunOptions) -> Proposal:
    """Plan a workflow for a live run, with the options that the run began with, unless others are given.

    Raises: SpecError, PlanError with everything that is wrong, and what a live run cannot take on.
    """
    directory = reader.directory.absolute()
    reader.refresh()
    whole = recall(options, reader.facts.options, directory)
    read = read_run(whole)
    plan = _planned(reader, read, whole)
    check_programs(plan)
    plan = with_contents(plan)
    recorded, base = as_recorded(plan), as_recorded(reader.plan)  # what was no secret before may be one now
    findings = [
        Finding("not-while-it-runs", one.what, _where(read, one.field), one.hint)
        for one in refusals(base, recorded)
    ]
    if findings:
        raise PlanError(findings)
    changes = compare(base, recorded, tasks_now(reader.state))
    return Proposal(reader, read, whole, plan, base, recorded, changes)


def _planned(reader: RunReader, read: ReadRun, options: RunOptions) -> Plan:
    """Plan a workflow for the nodes of a live run. Raises: PlanError; UsageError."""
    directory = reader.directory.absolute()
    context = plan_context(read, options, NodeSource(), reader.facts.run_id, directory, is_dry=False)
    slurm = [node for node in reader.plan.nodes if node.job_id is not None]
    if slurm:
        backends = {node.backend for node in slurm}
        local = next((node for node in reader.plan.nodes if node.job_id is None), None)
        context = replace(
            context,
            job_nodes=tuple(
                JobNode(
                    name=node.name,
                    address=node.address,
                    het_group=node.het_group,
                    job_id=node.job_id,
                    backend=node.backend if len(backends) > 1 else None,
                )
                for node in slurm
            ),
            job_id=reader.plan.job_id or slurm[0].job_id or "0",
            given=frozenset(JOB_FIELDS),
            here=context.here if local is None else (local.name, local.address),
        )
    plan = with_simulated_gpus(selected(build_plan(read.loaded, context), options), options)
    plan = grown_like(plan, reader.plan)
    if any(task.outputs for task in kinds_of(plan.tasks)):
        from sflow_ctl.results.checks import wrong_outputs

        if findings := wrong_outputs(plan, read.loaded.where):
            raise PlanError(findings)
    return with_new_secrets(plan, reader.plan)


def _where(read: ReadRun, field: tuple[str, ...]) -> str | None:
    """Return the place of a field of the workflow, as far as the file has it."""
    if not field:
        return None
    if len(field) == 1 or field[0] == "workflow":
        return ".".join(field)
    return read.loaded.where(*field)


def tasks_now(state: RunView) -> TasksNow:
    """Return what decides beside the plans."""
    planned = {task.name: task for task in state.plan.tasks}
    unready = {
        record.name
        for record in state.tasks.values()
        if record.state in LIVE - {TaskState.READY, TaskState.STOPPING}
        and record.name in planned
        and planned[record.name].has_readiness
    }
    stopped = {
        record.name
        for record in state.tasks.values()
        if record.state in TERMINAL and record.reason is not None and record.reason.word == "stopped"
    }
    served = {
        record.name
        for record in state.tasks.values()
        if record.state is TaskState.COMPLETED and record.name in planned and planned[record.name].is_service
    }
    return TasksNow(unready, stopped, served - stopped)


def leave(found: Proposal, open_display: "Callable[[], FetchDisplay]") -> Apply:
    """Fetch what the plan needs, and leave it in the run directory; return the request to apply it.

    Raises: ArtifactError; RunDirectoryError.
    """
    reader = found.reader
    fetch_missing_artifacts(found.plan, open_display)
    key = operator_key(reader)
    source = found.options.workflow
    head = PlanHead(
        plan="",
        workflow=found.read.loaded.recorded_yaml(),
        # The run's own copy has the number of replicas in it: a file that is applied later says its own.
        options=remember(found.options, reader.directory.absolute())
        if source.are_files_given
        else reader.facts.options,
        sources=source_files(source.files, found.read.loaded.included_files)
        if source.are_files_given
        else reader.facts.sources,
        labels=reader.facts.labels,
        argv=tuple(sys.argv),
        secrets={} if key is None else codes_of_secrets(key.secret),
    )
    try:
        name = leave_plan(reader.directory, found.base.revision, found.plan, head)
    except OSError as error:
        what = f"the plan cannot be left in {reader.directory / '.sflow'}: {error.strerror or error}"
        raise RunDirectoryError.of("request-not-written", what) from error
    except UnusablePlanError as error:
        raise RunDirectoryError.of("secret-in-plan", str(error), hint=_RESUME) from error
    return Apply(source=name, base=found.base.revision)


_RESUME = "stop the run, and continue it with run --resume and this file"
