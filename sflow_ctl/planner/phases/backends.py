"""Phase: the backend of each task, and the nodes of the backends that tasks use.

A backend that a task defines or changes for itself counts as one more backend. The number and names of nodes
are in `nodes.py`. `batch` calls `choose_backends` alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from protocol.errors import Finding
from sflow_ctl.format import schema
from sflow_ctl.format.checking import check
from sflow_ctl.plan.assignment import node_view
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.phases.late_variables import refuse_late, split_late
from sflow_ctl.planner.phases.nodes import JobNodes, backend_nodes
from sflow_ctl.planner.source import PlanInput, domains_of, namespace

DEFAULT_BACKEND = schema.Backend(name="local", type="local", default=True)


class BackendChoice(Struct, frozen=True):
    """All backends of a document, declared ones first, and the one of each task as written."""

    all: tuple[schema.Backend, ...]
    of_task: Mapping[str, schema.Backend]

    @property
    def used(self) -> dict[str, schema.Backend]:
        """Backends with tasks, by name, in the order of the tasks."""
        return {backend.name: backend for backend in self.of_task.values()}


class PlannedBackends(Struct, frozen=True):
    """The nodes of a plan. Node numbers run over all backends in use, in file order."""

    choice: BackendChoice
    nodes_of: Mapping[str, tuple[PlannedNode, ...]]
    """Maps backends that tasks use to their nodes, without spare ones."""
    spares_of: Mapping[str, tuple[PlannedNode, ...]]
    """Maps them to their spare nodes, which follow the others."""
    nodes: tuple[PlannedNode, ...]
    """Return all nodes, by number."""
    view: Mapping[str, Any]
    """Return `backends` for expressions."""

    def of(self, task: schema.Task) -> schema.Backend:
        """Return the backend of a task as written."""
        return self.choice.of_task[task.name]


def choose_backends(document: schema.Document, findings: Findings) -> BackendChoice:
    """Find the backend of each task; equal mappings of several tasks are one backend. Problems are findings."""
    declared = tuple(document.backends) or (DEFAULT_BACKEND,)
    by_name = {backend.name: backend for backend in declared}
    default = next((backend for backend in declared if backend.default), declared[0])
    own: dict[str, schema.Backend] = {}
    of_task: dict[str, schema.Backend] = {}
    for task in document.workflow.tasks:
        with findings.collecting("tasks", task.name, "backend", subject=f'task "{task.name}"'):
            if isinstance(task.backend, dict):
                of_task[task.name] = _own_backend(task, task.backend, by_name, default, own)
            else:
                of_task[task.name] = default if task.backend is None else by_name[task.backend]
    return BackendChoice((*declared, *own.values()), of_task)


def plan_backends(source: PlanInput, values: Mapping[str, Any], findings: Findings) -> PlannedBackends:
    """Number the nodes of the backends that tasks use. Problems are findings."""
    choice = choose_backends(source.document, findings)
    _refuse_unsupported(source, choice, findings)
    refuse_late("backends", source.document.backends, split_late(source.document.variables)[1], findings)
    _require_job_fields(source, findings)
    _check_elsewhere(source, choice, findings)
    findings.stop_if_any()
    used = choice.used
    names = namespace(values, domains_of(source.document))
    job = JobNodes(source.context.job_nodes, [one for one in used.values() if one.type == "slurm"], names)
    nodes_of: dict[str, tuple[PlannedNode, ...]] = {}
    spares_of: dict[str, tuple[PlannedNode, ...]] = {}
    numbered: list[PlannedNode] = []
    view: dict[str, Any] = {}
    for backend in choice.all:
        with findings.collecting("backends", backend.name, subject=f'backend "{backend.name}"'):
            is_used = backend.name in used
            nodes = backend_nodes(backend, names, len(numbered), is_used, source.context, job)
            working = tuple(node for node in nodes if not node.is_spare)
            view[backend.name] = _view(backend, working)
            if is_used:
                nodes_of[backend.name] = working
                spares_of[backend.name] = tuple(nodes[len(working) :])
                numbered += nodes
        is_here = backend.type == "local" or (backend.type == "docker" and not backend.hosts)
        if is_used and is_here and (backend.include_nodes or backend.exclude_nodes or backend.exclude):
            where = findings.loaded.where("backends", backend.name)
            what = f'backend "{backend.name}" is this machine: include_nodes and exclude_nodes have no effect'
            findings.warn("no-effect", what, where)
    for name, what in job.differing:
        findings.warn("other-node-count", what, findings.loaded.where("backends", name, "nodes"))
    return PlannedBackends(choice, nodes_of, spares_of, tuple(numbered), view)


def _view(backend: schema.Backend, nodes: Sequence[PlannedNode]) -> dict[str, Any]:
    return {"name": backend.name, "nodes": [node_view(node, node.backend_index) for node in nodes]}


def _refuse_unsupported(source: PlanInput, choice: BackendChoice, findings: Findings) -> None:
    """Refuse backends that are not run here, each with one finding."""
    if source.context.shows_unsupported:
        return
    others = [backend.name for backend in choice.all if backend.type != "kubernetes"]
    for backend in choice.used.values():
        where = findings.loaded.where("backends", backend.name)
        if backend.type == "kubernetes":
            what = f'backend "{backend.name}" is of type kubernetes, which sflow-ctl does not run'
            hint = "it runs on this machine and on Slurm, and does not support the Kubernetes backend"
            hint += f": use backend {' or '.join(others)} instead" if others else ""
            findings.add("backend-unsupported", what, where, hint)


def _check_elsewhere(source: PlanInput, choice: BackendChoice, findings: Findings) -> None:
    """Refuse fields of tasks whose work is done elsewhere that mean nothing there, each with one finding."""
    for task in source.document.workflow.tasks:
        backend = choice.of_task.get(task.name)  # none if that is a finding already
        if backend is None or (task.external is None and backend.type not in schema.JOB_BACKENDS):
            continue
        from sflow_ctl.planner.judging.elsewhere import check_elsewhere  # few tasks are

        with findings.collecting("tasks", task.name, subject=f'task "{task.name}"'):
            check_elsewhere(task, backend)


def _require_job_fields(source: PlanInput, findings: Findings) -> None:
    for backend in source.document.backends:
        for name in ("account", "partition"):
            is_missing = getattr(backend, name) is None and name not in source.context.given
            if backend.type == "slurm" and is_missing:
                what = f'"{name}" is missing: a slurm backend needs it'
                where = findings.loaded.where("backends", backend.name)
                hint = f'add "{name}:" here, under settings: or to a site file'
                findings.add("missing-key", what, where, hint)


def _own_backend(
    task: schema.Task,
    written: Mapping[str, Any],
    by_name: Mapping[str, schema.Backend],
    default: schema.Backend,
    own: dict[str, schema.Backend],
) -> schema.Backend:
    """Return the backend of a task's mapping: a changed copy of a declared one, or a new one, added to `own`.

    Raises: UnplannableError.
    """
    overrides = {key: value for key, value in written.items() if value is not None}
    base = by_name.get(overrides.get("name", default.name))
    if base is not None and set(overrides) <= {"name"}:
        return base
    body: dict[str, Any] = {**_given(base), **overrides} if base is not None else dict(overrides)
    body["default"] = False
    body["name"] = base.name if base is not None else str(overrides.get("name"))
    problems: list[Finding] = []
    made = check(schema.Backend, body, (), lambda _: None, problems)
    for problem in problems:
        what = f'task "{task.name}": its own backend: {problem.what}'
        raise UnplannableError(problem.code, what, problem.hint, ("backend",))
    assert made is not None
    equal = next((other for other in own.values() if _is_same(other, made)), None)
    if equal is None:
        name = f"{made.name}:{task.name}" if made.name in by_name else made.name
        equal = own[task.name] = msgspec.structs.replace(made, name=name)
    return equal


def _given(backend: schema.Backend) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(backend).items() if value is not None}


def _is_same(own: schema.Backend, made: schema.Backend) -> bool:
    return msgspec.structs.replace(own, name=own.name.partition(":")[0]) == made
