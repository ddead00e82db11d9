"""Refuses fields of tasks whose work is done elsewhere that mean nothing there. Called when their backends are known."""

from sflow_ctl.format import schema
from sflow_ctl.planner.findings import UnplannableError

_REFUSED = ("resources", "launcher", "requires", "ports", "placement", "monitor")
"""Fields that are about the node of a task's process, which is not where its work is done."""
_BY = {"slurm_job": "as a job of Slurm", "plugin": "by a plug-in", "external": "by something else"}


def check_elsewhere(task: schema.Task, backend: schema.Backend) -> None:
    """Check a task if its work is done elsewhere. Raises: UnplannableError."""
    is_job = backend.type in schema.JOB_BACKENDS
    if task.external is None and not is_job:
        return
    if task.external is not None and is_job:
        what = f'task "{task.name}" is external, and its backend "{backend.name}" runs jobs'
        hint = "give it a backend with nodes, for example of type local"
        raise UnplannableError("conflicting-keys", what, hint, ("external",))
    by = _BY[backend.type if is_job else "external"]
    for field in _REFUSED:
        if getattr(task, field):
            what = f'task "{task.name}": its work is done {by}, where `{field}` means nothing'
            hint = "drop it; nodes and gpus_per_node of the backend are those of the job"
            raise UnplannableError("no-effect-elsewhere", what, hint if is_job else "drop it", (field,))
    if task.operator is not None:
        what = f'task "{task.name}": its work is done {by}, and it has an operator'
        raise UnplannableError("conflicting-keys", what, "drop the operator", ("operator",))
