"""Phase: nodes and GPUs of every concrete task, and the ports it will lease there.

Reads what each task asks for; the placement itself is in `place.py`, the check that services leave room in
`capacity.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from protocol.messages.rank_spec import PortBlock
from sflow_ctl.format import schema
from sflow_ctl.plan.model import Placement
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_flag, as_int, at
from sflow_ctl.planner.phases.backends import PlannedBackends
from sflow_ctl.planner.phases.capacity import Demand, check_capacity, gpus_taken
from sflow_ctl.planner.phases.expand import Expanded, Graph, Replica
from sflow_ctl.planner.phases.place import Alternative, BackendNodes, PlacementRequest, alternative, place_all
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.ports import plan_ports
from sflow_ctl.planner.tasks.scopes import TaskScopes
from sflow_ctl.planner.tasks.scripts import Scripts


class PlacedTask(Struct, frozen=True):
    """One copy of a task, with its placement."""

    expanded: Expanded
    replica: Replica
    backend: schema.Backend
    placement: Placement
    alternative: Alternative
    ports: tuple[PortBlock, ...] = ()

    @property
    def task(self) -> schema.Task:
        """The task as written."""
        return self.expanded.task

    @property
    def node_count(self) -> int:
        """The number of nodes it runs on."""
        placement = self.placement
        return placement.node_count if placement.is_flexible else len(placement.nodes)


def place_tasks(
    source: PlanInput, backends: PlannedBackends, scope: Scope, graph: Graph, findings: Findings
) -> tuple[PlacedTask, ...]:
    """Place all tasks, in file and replica order. Problems are findings."""
    scripts = Scripts(source.tasks, graph.replicas_of)
    scopes = TaskScopes(source, scope, scripts, {}, findings)
    copies = [(one, replica) for one in graph.tasks for replica in one.replicas]
    by_backend: dict[str, list[tuple[Expanded, Replica]]] = {}
    for one, replica in copies:
        by_backend.setdefault(backends.of(one.task).name, []).append((one, replica))
    placements: dict[str, tuple[Placement, Alternative]] = {}
    for name, members in by_backend.items():
        nodes = backends.nodes_of[name]
        available = BackendNodes(
            nodes[0].index, tuple(node.gpus for node in nodes), not source.rules.queues_for_room
        )
        placements |= _place_members(available, members, scopes, findings)
    findings.stop_if_any()
    placed = [
        PlacedTask(one, replica, backends.of(one.task), *placements[replica.name]) for one, replica in copies
    ]
    if source.rules.queues_for_room:
        _check_room(source, backends, placed, findings)
        findings.stop_if_any()
    with_ports = tuple(_with_ports(one, scopes, findings) for one in placed)
    findings.stop_if_any()
    return with_ports


def _place_members(
    available: BackendNodes,
    members: Sequence[tuple[Expanded, Replica]],
    scopes: TaskScopes,
    findings: Findings,
) -> dict[str, tuple[Placement, Alternative]]:
    """Place the tasks of one backend; nothing unless all of their requests are valid."""
    requests = []
    for one, replica in members:
        with findings.collecting("tasks", one.task.name, "resources", subject=f'task "{one.task.name}"'):
            requests.append(_request(one, replica, scopes.of(one.task, replica).value))
    if len(requests) < len(members):
        return {}
    result = {}
    placements = place_all(available, requests)
    for (one, replica), request, placed in zip(members, requests, placements, strict=True):
        if isinstance(placed, UnplannableError):
            findings.add_problem(placed, "tasks", one.task.name)
        else:
            result[replica.name] = placed, alternative(available, request, placed)
    return result


def _request(one: Expanded, replica: Replica, value: Callable[[Any], Any]) -> PlacementRequest:
    """Return what one copy asks for. Raises: UnplannableError, NumberError, ExpressionError."""
    task = one.task
    resources = task.resources
    is_apart = bool(task.finally_)
    if resources is None:
        return PlacementRequest(
            task=replica.name,
            replica_index=replica.index,
            is_sequential=one.is_sequential,
            node_count=1 if is_apart else None,
            is_apart=is_apart,
        )
    nodes = resources.nodes or schema.Nodes()
    subject = f'task "{task.name}"'
    if nodes.indices is not None and not nodes.indices:
        what = f"{subject}: resources.nodes.indices is empty"
        path = ("resources", "nodes", "indices")
        raise UnplannableError("wrong-value", what, "name at least one node, or leave it out", path)

    def read(path: tuple[str | int, ...], written: Any, *least: int) -> int:
        return number(subject, ("resources", *path), as_int, value(written), *least)

    exclude = value(nodes.exclude)
    excluded = [] if exclude is None else exclude if isinstance(exclude, list) else [exclude]
    return PlacementRequest(
        task=replica.name,
        replica_index=replica.index,
        is_sequential=one.is_sequential,
        indices=None
        if nodes.indices is None
        else tuple(read(("nodes", "indices"), index) for index in nodes.indices),
        node_count=_node_count(resources, is_apart, read),
        exclude=tuple(read(("nodes", "exclude"), index) for index in excluded),
        # None, and not 0, means a task without GPUs.
        gpus=None if resources.gpus is None else read(("gpus", "count"), resources.gpus.count, 0) or None,
        is_shared=resources.gpus is not None
        and at(("resources", "gpus", "shared"), as_flag, value(resources.gpus.shared)),
        is_fixed=bool(task.leased_ports) and resources.gpus is None and not is_apart,
        is_apart=is_apart,
    )


def _node_count(resources: schema.Resources, is_apart: bool, read: Callable[..., int]) -> int | None:
    """Return the number of nodes asked for. A task at the end of a run needs one node, any of those left."""
    nodes = resources.nodes or schema.Nodes()
    if nodes.count is not None:
        return read(("nodes", "count"), nodes.count, 1)
    return 1 if is_apart and nodes.indices is None and resources.gpus is None else None


def _check_room(
    source: PlanInput, backends: PlannedBackends, placed: Sequence[PlacedTask], findings: Findings
) -> None:
    by_base: dict[str, list[PlacedTask]] = {}
    for one in placed:
        by_base.setdefault(one.task.name, []).append(one)
    # Tasks that run after everything has been stopped have room; those that run beside the services need it.
    tasks = [task for task in source.tasks if task.finally_ not in (True, "after_stop")]
    services = [task.name for task in tasks if task.is_service]
    demands = [_demand(task, by_base[task.name]) for task in tasks if task.name in by_base]
    depends_on = {
        task.name: services if task.finally_ else [d.task for d in task.dependencies if d.task in by_base]
        for task in tasks
    }
    for name, problem in check_capacity(demands, depends_on, backends.nodes_of, source.context.max_running):
        findings.add_problem(problem, "tasks", name)


def _demand(task: schema.Task, members: Sequence[PlacedTask]) -> Demand:
    return Demand(
        task=task.name,
        backend=members[0].backend.name,
        is_service=task.is_service,
        replicas=len(members),
        gpus=max(gpus_taken(one.placement) for one in members),
    )


def _with_ports(one: PlacedTask, scopes: TaskScopes, findings: Findings) -> PlacedTask:
    if not one.task.leased_ports:
        return one
    value = scopes.of(one.task, one.replica).value
    ports = plan_ports(one.task, value, findings)
    return msgspec.structs.replace(one, ports=ports)


def port_counts(placed: Sequence[PlacedTask]) -> Mapping[str, dict[str, int]]:
    """Return, for concrete tasks with ports, how many ports each name has."""
    return {one.replica.name: {port.name: port.count for port in one.ports} for one in placed if one.ports}
