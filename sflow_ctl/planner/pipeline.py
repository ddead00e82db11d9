"""Runs the phases of planning in order, from a checked document to a plan.

Pure and deterministic. Each phase takes the frozen results of earlier ones and adds findings; between phases
planning stops if there are any. `run`, `batch`, `plan` and `visualize` call `build_plan`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from protocol.errors import Finding, PlanError
from sflow_ctl.format.loader import LoadedDocument
from sflow_ctl.format.written import plain
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.plan.monitors import PlannedMonitor
from sflow_ctl.plan.parts.notices import PlannedNotice
from sflow_ctl.plan.results import PlannedInput
from sflow_ctl.plan.secrets import SECRETS
from sflow_ctl.planner.checks import check_document
from sflow_ctl.planner.context import PlanContext
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.hidden_values import warn_of_secrets
from sflow_ctl.planner.ignoring import without_backends
from sflow_ctl.planner.phases.artifacts import PlannedArtifacts, inline_files, plan_artifacts
from sflow_ctl.planner.phases.backends import PlannedBackends, plan_backends
from sflow_ctl.planner.phases.expand import expand_tasks
from sflow_ctl.planner.phases.graph import Graph
from sflow_ctl.planner.phases.log_labels import with_log_labels
from sflow_ctl.planner.phases.tasks import PlannedTasks, plan_tasks
from sflow_ctl.planner.phases.variables import resolve_global, resolve_late, resolve_workflow
from sflow_ctl.planner.phases.workflow import WorkflowPolicy, plan_workflow
from sflow_ctl.planner.placement.requests import place_tasks
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.uploads import plan_run_uploads, warn_of_shared_keys

if TYPE_CHECKING:
    from sflow_ctl.plan.fetches import Package

__all__ = ["PlanContext", "build_plan", "findings_after"]


def build_plan(loaded: LoadedDocument, context: PlanContext) -> Plan:
    """Plan a document. Raises: PlanError with everything that is wrong."""
    try:
        return _plan(loaded, context)
    except PlanError as error:
        from sflow_ctl.planner.every_finding import further_findings  # only for wrong documents

        more = further_findings(loaded, error.findings, lambda rest: _plan(rest, context))
        raise PlanError((*error.findings, *more)) from error


def findings_after(loaded: LoadedDocument, first: Sequence[Finding], context: PlanContext) -> list[Finding]:
    """Return what planning finds wrong with a document that is wrong already, besides the findings that are known."""
    from sflow_ctl.planner.every_finding import further_findings

    return further_findings(loaded, first, lambda rest: _plan(rest, context))


def _plan(loaded: LoadedDocument, context: PlanContext) -> Plan:
    """Raises: PlanError with every finding of the first phase that has any."""
    findings = Findings(loaded, warnings=list(loaded.warnings), policies=context.policies)
    document = without_backends(loaded.document, context.ignored_backends, findings)
    findings.stop_if_any()
    source = PlanInput(document, context)

    check_document(source, findings)
    _check_inputs(source, findings)
    outer = resolve_global(source, findings)
    backends = plan_backends(source, outer.values, findings)
    findings.stop_if_any()
    outer = resolve_late(source, outer, {"backends": backends.view}, findings)
    artifacts = plan_artifacts(source, backends, outer.values, findings)
    outer = resolve_late(source, outer, {"backends": backends.view, "artifacts": artifacts.view}, findings)
    scope = resolve_workflow(source, outer, backends.view, artifacts.view, findings)
    SECRETS.learn_from(scope.values)
    files = inline_files(source, artifacts, scope, findings)
    findings.stop_if_any()
    graph = expand_tasks(source, scope, findings)
    policy = plan_workflow(source, scope, findings)
    placed = place_tasks(source, backends, scope, graph, findings, policy.max_running)
    uploads = plan_run_uploads(source, scope, findings)
    tasks = with_log_labels(
        plan_tasks(source, backends, artifacts, scope, graph, placed, policy, uploads.storage, findings)
    )
    monitors: tuple[PlannedMonitor, ...] = ()
    if source.asks_for_monitors:
        from sflow_ctl.planner.monitors import plan_monitors  # most documents have none

        monitors = plan_monitors(source, scope, backends.nodes, tasks.tasks, findings)
    tasks, notices = _with_notices(source, scope, tasks, findings)
    outputs = _outputs(source, scope, graph, findings)
    findings.stop_if_any()

    _check_keys(source, tasks, findings)
    if any(task.probes for task in kinds_of(tasks.tasks)):
        from sflow_ctl.planner.judging.fixed_ports import warn_of_fixed_ports

        warn_of_fixed_ports(tasks.tasks, findings)
    _warn_of_options(source, tasks, findings)
    _warn_if_only_services(source, policy, tasks, findings)
    warn_of_secrets(tasks.tasks, source.document.secrets, findings)
    if uploads.storage:
        warn_of_shared_keys(tasks.tasks, uploads.storage, findings)
    plan = _assembled(source, backends, artifacts, scope, files, policy, tasks, findings)
    plan = _with_repeats(plan, source, scope, graph, findings)
    if uploads.storage:
        plan = msgspec.structs.replace(plan, storage=uploads.storage, upload_all=uploads.upload_all)
    if any(task.windows for task in source.tasks):
        from sflow_ctl.planner.monitors import plan_windows

        plan = msgspec.structs.replace(plan, windows=plan_windows(source, scope, findings))
        findings.stop_if_any()
    more = {
        "monitors": monitors,
        "notices": notices,
        "outputs": outputs,
        "packages": _packages(source, scope),
    }
    return msgspec.structs.replace(plan, **more) if any(more.values()) else plan


def _check_keys(source: PlanInput, tasks: PlannedTasks, findings: Findings) -> None:
    """Note keys that are not unique. Raises: PlanError."""
    if any(task.key for task in source.tasks):
        from sflow_ctl.planner.handover.keys import check_keys  # most documents have none

        check_keys(list(tasks.tasks), findings)
        findings.stop_if_any()


def _warn_of_options(source: PlanInput, tasks: PlannedTasks, findings: Findings) -> None:
    """Warn of options that programs of tasks do not take."""
    if any(".py" in line for task in source.tasks for line in task.script):
        from sflow_ctl.planner.judging.script_options import (  # many workflows run no Python program
            warn_of_unknown_options,
        )

        context = source.context
        warn_of_unknown_options(tasks.tasks, context.workspace_dir, context.read_text, findings)


def _check_inputs(source: PlanInput, findings: Findings) -> None:
    """Note the inputs of the workflow that have no value. Raises: PlanError."""
    if source.document.workflow.inputs:
        from sflow_ctl.planner.handover.workflow_values import check_workflow_inputs  # few workflows have any

        check_workflow_inputs(source, findings)


def _packages(source: PlanInput, scope: Scope) -> "tuple[Package, ...]":
    """Return the packages of all tasks, each once; what is wrong with one is a finding of its task already."""
    workflow = source.document.workflow
    if not (workflow.packages or any(task.packages for task in source.tasks)):
        return ()
    from sflow_ctl.planner.handover.packages import packages_of  # few files have some

    found = (one for task in source.tasks for one in packages_of(task, workflow, source.context, scope.value))
    return tuple(dict.fromkeys(found))


def _outputs(source: PlanInput, scope: Scope, graph: Graph, findings: Findings) -> tuple[PlannedInput, ...]:
    if not source.document.workflow.outputs:
        return ()
    from sflow_ctl.planner.handover.workflow_values import plan_workflow_outputs  # few workflows have any

    return plan_workflow_outputs(source, scope, graph, findings)


def _with_notices(
    source: PlanInput, scope: Scope, tasks: PlannedTasks, findings: Findings
) -> tuple[PlannedTasks, tuple[PlannedNotice, ...]]:
    """Return who is notified of what, and the tasks with what that needs to be known of them."""
    if not source.document.workflow.notify:
        return tasks, ()
    from sflow_ctl.planner.phases.notices import (  # most documents have none
        plan_notices,
        with_silence_watched,
    )

    notices = plan_notices(source, scope, tasks.tasks, findings)
    return with_silence_watched(tasks, notices), notices


def _with_repeats(plan: Plan, source: PlanInput, scope: Scope, graph: Graph, findings: Findings) -> Plan:
    """Return the plan with what few plans have: blocks, expressions for progress, sweeps."""
    if source.document.workflow.blocks:
        from sflow_ctl.planner.growing.blocks import with_blocks  # few documents have some

        plan = with_blocks(plan, source.document.workflow.blocks, scope, findings)
    if any(task.progress is not None for task in source.tasks):
        plan = msgspec.structs.replace(plan, says_progress=True)
    sweeps = {id(one.cells): one.cells.planned for one in graph.tasks if one.cells is not None}
    return msgspec.structs.replace(plan, sweeps=tuple(sweeps.values())) if sweeps else plan


def _warn_if_only_services(
    source: PlanInput, policy: WorkflowPolicy, planned: PlannedTasks, findings: Findings
) -> None:
    if policy.keep_alive or source.rules.services_may_leave:
        return
    if all(task.is_service for task in kinds_of(planned.tasks) if task.finally_when is None):
        where = findings.loaded.where("tasks", planned.tasks[0].base)
        what = (
            "every task is a service: the run ends as soon as all are ready, unless it has keep_alive: true"
        )
        findings.warn("only-services", what, where, "keep them running with keep_alive: true or --keep-alive")


def _assembled(
    source: PlanInput,
    backends: PlannedBackends,
    artifacts: PlannedArtifacts,
    scope: Scope,
    files: tuple[tuple[str, str], ...],
    policy: WorkflowPolicy,
    tasks: PlannedTasks,
    findings: Findings,
) -> Plan:
    context = source.context
    return Plan(
        workflow=source.document.workflow.name,
        nodes=backends.nodes,
        tasks=tasks.tasks,
        timeout_s=policy.timeout_s,
        stop_timeout_s=policy.stop_timeout_s,
        stop_before_end_s=policy.stop_before_end_s,
        keep_alive=policy.keep_alive,
        services_may_leave=source.rules.services_may_leave,
        late_is_final=not source.rules.retries_late_services,
        success=policy.success,
        signatures=policy.signatures,
        max_running=policy.max_running,
        job_id=context.job_id if context.job_id != "0" else None,
        variables=plain(dict(scope.values)),
        secrets=tuple(source.document.secrets),
        artifacts=artifacts.paths,
        files=files,
        fetches=artifacts.fetches,
        directories=artifacts.directories,
        task_views=dict(tasks.views),
        warnings=tuple(findings.warnings),
        notes=(*findings.loaded.notes, *findings.notes),
    )
