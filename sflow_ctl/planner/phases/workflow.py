"""Phase: the workflow's own fields: its limits, its end, its success conditions, its failure signatures."""

from msgspec import Struct

from protocol.diagnosis.signatures import Signature
from protocol.messages.rank_spec import Stopping, Success
from sflow_ctl.format.expressions.templates import as_text
from sflow_ctl.planner.findings import Findings
from sflow_ctl.planner.numbers import as_count, as_flag, as_seconds
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.stopping import workflow_stopping
from sflow_ctl.planner.tasks.success import plan_success


class WorkflowPolicy(Struct, frozen=True):
    """Rules for the run, and defaults for its tasks."""

    stopping: Stopping
    """How tasks without fields of their own are stopped."""
    timeout_s: float | None
    stop_timeout_s: float | None
    keep_alive: bool
    success: Success | None
    signatures: tuple[Signature, ...]
    max_running: int | None = None
    """How many tasks may run at once; None for no limit."""
    stop_before_end_s: float | None = None


def plan_workflow(source: PlanInput, scope: Scope, findings: Findings) -> WorkflowPolicy:
    """Resolve the fields of the workflow. Problems are findings, and leave a field at its default."""
    workflow, rules = source.document.workflow, source.rules
    stopping, timeout_s, stop_timeout_s, keep_alive = Stopping(), None, None, False
    with findings.collecting("workflow", "stop"):
        stopping = workflow_stopping(workflow, scope.value)
    if workflow.stop_timeout is not None:
        with findings.collecting("workflow", "stop_timeout", subject="workflow.stop_timeout"):
            stop_timeout_s = as_seconds(scope.value(workflow.stop_timeout))
    stop_before_end_s = None
    if workflow.stop_before_end is not None:
        with findings.collecting("workflow", "stop_before_end", subject="workflow.stop_before_end"):
            stop_before_end_s = as_seconds(scope.value(workflow.stop_before_end))
    if workflow.timeout is not None and rules.has_time_limits:
        with findings.collecting("workflow", "timeout", subject="workflow.timeout"):
            timeout_s = as_seconds(scope.value(workflow.timeout)) or None  # 0 means no limit, as in Slurm
    with findings.collecting("workflow", "keep_alive", subject="workflow.keep_alive"):
        keep_alive = as_flag(scope.value(workflow.keep_alive))
    success = None
    if workflow.success is not None and rules.has_success:
        with findings.collecting("workflow", "success", subject="workflow.success"):
            success = plan_success(
                workflow.success,
                source.context.run_directory,
                lambda text, _: as_text(scope.value(text)),
                scope.value,
                (),
            )
    signatures: tuple[Signature, ...] = ()
    if source.document.signatures:
        from sflow_ctl.planner.tasks.signatures import plan_signatures  # few workflows have some

        signatures = plan_signatures(source.document.signatures, scope.names, findings)
    max_running = _max_running(source, scope, findings)
    return WorkflowPolicy(
        stopping, timeout_s, stop_timeout_s, keep_alive, success, signatures, max_running, stop_before_end_s
    )


def _max_running(source: PlanInput, scope: Scope, findings: Findings) -> int | None:
    """Return the limit of the command line, else of the workflow, else of the settings."""
    written, context = source.document.workflow.max_running, source.context
    if written is not None:
        with findings.collecting("workflow", "max_running", subject="workflow.max_running"):
            count = as_count(scope.value(written), 1)
            return count if context.max_running is None else context.max_running
    return context.usual_max_running if context.max_running is None else context.max_running
