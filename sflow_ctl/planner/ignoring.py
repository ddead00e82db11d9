"""Leaves out the tasks of backends that a plan is asked to ignore, and what depends on them. Called by the pipeline."""

from collections.abc import Set

import msgspec

from sflow_ctl.format import schema
from sflow_ctl.format.checking import guess_hint
from sflow_ctl.planner.findings import Findings


def without_backends(document: schema.Document, ignored: Set[str], findings: Findings) -> schema.Document:
    """Return the document without the tasks of the ignored backends. Problems are findings."""
    if not ignored:
        return document
    names = [backend.name for backend in document.backends]
    for name in sorted(ignored - set(names)):
        hint = guess_hint(name, names, f"backends here: {', '.join(names) or 'none'}")
        findings.add("unknown-backend", f'backend "{name}" is not defined', f"--ignore-backend {name}", hint)
    default = next((one.name for one in document.backends if one.default), names[0] if names else "local")
    tasks = document.workflow.tasks
    gone = {task.name for task in tasks if _backend_of(task, default) in ignored}
    if gone == {task.name for task in tasks}:
        what = "no task is left: all use backends that are ignored"
        findings.add("nothing-to-run", what, f"--ignore-backend {', '.join(sorted(ignored))}")
    kept = [_without(task, gone) for task in tasks if task.name not in gone]
    if gone:
        what = f"left out with their backends: {', '.join(task.name for task in tasks if task.name in gone)}"
        findings.warn("ignored-backend", what, None)
    workflow = msgspec.structs.replace(document.workflow, tasks=kept)
    left = [backend for backend in document.backends if backend.name not in ignored]
    return msgspec.structs.replace(document, workflow=workflow, backends=left)


def _backend_of(task: schema.Task, default: str) -> str:
    given = task.backend.get("name") if isinstance(task.backend, dict) else task.backend
    return str(given) if given is not None else default


def _without(task: schema.Task, gone: Set[str]) -> schema.Task:
    kept = [one for one in task.depends_on if (one if isinstance(one, str) else one.task) not in gone]
    return msgspec.structs.replace(task, depends_on=kept)
