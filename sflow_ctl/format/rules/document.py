"""Rules of the format that types cannot express: references, exclusive fields, names.

`check_rules` runs all of them on a document whose types are right; the loader calls it. One module per subject.
"""

from collections.abc import Callable

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.rules.definitions import artifact_findings, variable_findings
from sflow_ctl.format.rules.files import file_findings, output_findings, port_findings
from sflow_ctl.format.rules.operators import all_operator_findings, backend_findings
from sflow_ctl.format.rules.probes import probe_findings
from sflow_ctl.format.rules.tasks import (
    argument_findings,
    hang_findings,
    name_findings,
    policy_findings,
    reference_findings,
    resource_findings,
    retry_findings,
)
from sflow_ctl.format.rules.uploads import result_findings, storage_findings, upload_findings


def check_rules(document: schema.Document, where: Callable[..., str]) -> list[Finding]:
    """Return everything that is wrong with a document, in the order of its sections."""
    findings = [
        *name_findings(document, where),
        *variable_findings(document, where),
        *artifact_findings(document, where),
        *backend_findings(document, where),
        *all_operator_findings(document, where),
        *storage_findings(document, where),
    ]
    findings += _rare_findings(document, where)
    known = {task.name for task in document.workflow.tasks}
    finals = {task.name for task in document.workflow.tasks if task.finally_}
    for task in document.workflow.tasks:
        findings += [
            *reference_findings(document, task, known, where),
            *resource_findings(task, where),
            *(argument_findings(task, where) if task.args or task.args_json else ()),
            *upload_findings(document, task, where),
            *result_findings(task, where),
            *policy_findings(task, finals, where),
            *hang_findings(task, where),
            *output_findings(task, where),
            *port_findings(task, where),
            *file_findings(task, where),
            *retry_findings(document, task, where),
            *probe_findings(task, known, where),
        ]
    return findings


def _rare_findings(document: schema.Document, where: Callable[..., str]) -> list[Finding]:
    """Return what is wrong with parts that most documents do not have: their rules are imported when one has them."""
    findings: list[Finding] = []
    if document.workflow.monitor is not None or any(task.monitor for task in document.workflow.tasks):
        from sflow_ctl.format.rules.monitors import monitor_findings

        findings += monitor_findings(document, where)
    if any(task.windows for task in document.workflow.tasks):
        from sflow_ctl.format.rules.monitors import window_findings

        findings += window_findings(document, where)
    if (
        document.environments
        or document.workflow.environment
        or any(task.environment for task in document.workflow.tasks)
    ):
        from sflow_ctl.format.rules.environments import environment_findings

        findings += environment_findings(document, where)
    if document.sweep is not None or any(task.sweep is not None for task in document.workflow.tasks):
        from sflow_ctl.format.rules.sweeps import sweep_findings

        findings += sweep_findings(document, where)
    if any(task.foreach or task.block or task.loop or _has_pairs(task) for task in document.workflow.tasks):
        from sflow_ctl.format.rules.growing import growing_findings

        findings += growing_findings(document, where)
    if any(task.checkpoint for task in document.workflow.tasks):
        from sflow_ctl.format.rules.handover.checkpoints import checkpoint_findings

        for task in document.workflow.tasks:
            findings += checkpoint_findings(task, where)
    if any(task.inputs or any(one.is_found for one in task.outputs) for task in document.workflow.tasks):
        from sflow_ctl.format.rules.handover.inputs import input_findings
        from sflow_ctl.format.rules.handover.outputs import found_output_findings

        for task in document.workflow.tasks:
            findings += [*found_output_findings(task, where), *input_findings(task, where)]
    if document.workflow.inputs or document.workflow.outputs:
        from sflow_ctl.format.rules.handover.workflow_values import workflow_value_findings  # few have any

        findings += workflow_value_findings(document.workflow, where)
    return findings


def _has_pairs(task: schema.Task) -> bool:
    """Return whether a task says which copies of another one it is about."""
    written = (one.items for one in task.depends_on if not isinstance(one, str))
    return "same" in (*written, *(one.items for one in task.inputs.values()))
