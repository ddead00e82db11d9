"""Phase: nodes and GPUs of every concrete task, and the ports it will lease there.

Reads what each task asks for; the placement itself is in `place.py`, the check that services leave room in
`capacity.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from sflow_ctl.format import schema
from sflow_ctl.format.expressions.templates import EXPRESSION_START
from sflow_ctl.plan.model import Placement
from sflow_ctl.planner.deferred import TaskNamespace, leasing
from sflow_ctl.planner.fields import number
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.numbers import as_count, as_flag, as_int, as_list, at
from sflow_ctl.planner.phases.backends import PlannedBackends
from sflow_ctl.planner.phases.graph import Counted, Expanded, Graph, Replica
from sflow_ctl.planner.placement.books import Claimant
from sflow_ctl.planner.placement.capacity import Demand, check_capacity, gpus_taken
from sflow_ctl.planner.placement.flexible import Alternative, alternative
from sflow_ctl.planner.placement.order import Ancestry, placement_order
from sflow_ctl.planner.placement.place import place_all
from sflow_ctl.planner.placement.placed import NodeClaim, PlacedTask, once
from sflow_ctl.planner.placement.requested import BackendNodes, PlacementRequest
from sflow_ctl.planner.source import PlanInput, Scope
from sflow_ctl.planner.tasks.ports import plan_ports, served_port
from sflow_ctl.planner.tasks.scopes import TaskScopes
from sflow_ctl.planner.tasks.scripts import Scripts

if TYPE_CHECKING:
    from sflow_ctl.planner.placement.sizing import SizedGpus


def place_tasks(
    source: PlanInput,
    backends: PlannedBackends,
    scope: Scope,
    graph: Graph,
    findings: Findings,
    max_running: int | None,
) -> tuple[PlacedTask, ...]:
    """Place all tasks, in file and replica order. `max_running` of them run at once at most. Problems are findings."""
    scripts = Scripts(source.tasks, graph.replicas_of)
    unplaced = TaskNamespace({}, (), leasing(source.tasks, graph.replicas_of))
    scopes = TaskScopes(source, scope, scripts, unplaced, findings)
    order = placement_order(graph)
    if not source.rules.places_in_time:
        order = [(one, range(len(one.replicas))) for one in graph.tasks]
    by_backend: dict[str, list[_Members]] = {}
    for members in order:
        by_backend.setdefault(backends.of(members[0].task).name, []).append(members)
    counted = [one.task.name for one in graph.tasks if _holds(one.task) and source.rules.places_in_time]
    ancestry = Ancestry(graph, counted)
    placements: dict[str, _Place] = {}
    for name, of_backend in by_backend.items():
        nodes = backends.nodes_of[name]
        capacities = tuple(node.gpus for node in nodes)
        spares = tuple(node.gpus for node in backends.spares_of[name])
        available = BackendNodes(nodes[0].index, capacities, source.context.compat, spares)
        backend = backends.of(of_backend[0][0].task)
        placements |= _place_members(available, backend, of_backend, scopes, ancestry, findings)
    findings.stop_if_any()
    placed = [task for one in graph.tasks for task in _placed(one, backends.of(one.task), placements)]
    if source.rules.queues_for_room:
        _check_room(source, backends, placed, findings, max_running)
    findings.stop_if_any()
    with_ports = tuple(done for one in placed for done in _with_ports(one, scopes, findings))
    findings.stop_if_any()
    return with_ports


_Members = tuple[Expanded, range]
"""Copies of a task that are placed one after the other."""
_Place = tuple[Placement, Alternative, NodeClaim]


def _placed(one: Expanded, backend: schema.Backend, placements: Mapping[str, _Place]) -> Iterator[PlacedTask]:
    """Yield the copies of a task; as one, if they all have the same place, or only the first has asked for one."""
    count = len(one.replicas)
    names = one.names if count <= 1 or one.replicas[1].name in placements else one.names[:1]
    places = [placements[name] for name in names]
    if count > 1 and isinstance(one.replicas, Counted) and _is_one(places):
        yield PlacedTask(one, one.replicas[0], backend, *places[0], count=count)
        return
    for replica in one.replicas:
        placement, other, claim = placements.get(replica.name, places[0])
        yield PlacedTask(one, replica, backend, once(placement), other, claim)


def _is_one(places: Sequence[_Place]) -> bool:
    """Return whether all places are the same one, as those that are chosen when tasks are ready are."""
    placement, other, claim = places[0]
    return all(one[0] is placement and one[1] == other and one[2] == claim for one in places)


def _place_members(
    available: BackendNodes,
    backend: schema.Backend,
    members: Sequence[_Members],
    scopes: TaskScopes,
    ancestry: Ancestry,
    findings: Findings,
) -> dict[str, _Place]:
    """Place the tasks of one backend, in their order; nothing unless all of their requests are valid.

    Of a task whose copies all get the same place the first one's is returned.
    """
    requests: list[PlacementRequest] = []
    asking = _asking(members)
    of_copies: dict[tuple[str, int], PlacementRequest] = {}
    for one, replica in asking:
        with findings.collecting("tasks", one.task.name, "resources", subject=f'task "{one.task.name}"'):
            task = one.task_of(replica)
            resources = id(task.resources)  # cells of a sweep may have others
            request = of_copies.get((task.name, resources))
            if request is None:
                sized = None
                if (gpus := _gpus_of(task)) is not None and gpus.count == "auto":
                    from sflow_ctl.planner.placement.sizing import size_copy  # few files have some

                    sized = size_copy(task, replica, scopes, backend, findings)
                request = _request(one, replica, scopes.of(task, replica).value, sized)
                if EXPRESSION_START not in repr(task.resources):
                    of_copies[task.name, resources] = request
            else:
                request = replace(request, task=replica.name, replica_index=replica.index)
            requests.append(replace(request, claimant=_claimant(one, replica, ancestry)))
    if len(requests) < len(asking):
        return {}
    result = {}
    placements = place_all(available, requests)
    is_late = any(isinstance(placed, Placement) and placed.is_flexible for placed in placements)
    has_late_claims = is_late and any(request.claims_nodes for request in requests)
    for (one, replica), request, placed in zip(asking, requests, placements, strict=True):
        if isinstance(placed, UnplannableError):
            findings.add_problem(placed, "tasks", one.task.name)
        else:
            claim = _late_claim(one.task_of(replica), request, findings) if has_late_claims else NodeClaim()
            if request.gpu_bytes:
                placed = replace(placed, gpu_bytes=request.gpu_bytes)
            result[replica.name] = placed, alternative(available, request, placed), claim
    for what in available.notes:
        findings.note("claimed-nodes", what)
    return result


def _asking(members: Sequence[_Members]) -> list[tuple[Expanded, Replica]]:
    """Leave out copies of tasks without needs: where no node is claimed, all of them get the same place."""
    is_any_claimed = any(_claims_nodes(one.task) for one, _ in members)
    asking = []
    for one, copies in members:
        if is_any_claimed or any(map(_has_needs, _kinds(one))):
            asking += [(one, one.replicas[index]) for index in copies]
        elif copies.start == 0:
            asking.append((one, one.replicas[0]))
    return asking


def _kinds(one: Expanded) -> Iterable[schema.Task]:
    """Return the task as written, and where cells of a sweep change it also as they have it."""
    has_variants = any(cell.overrides for cell in one.cells.cells) if one.cells is not None else False
    return map(one.task_of, one.replicas) if has_variants else (one.task,)


def _has_needs(task: schema.Task) -> bool:
    return task.resources is not None and bool(task.resources.nodes or task.resources.gpus)


def _claims_nodes(task: schema.Task) -> bool:
    resources = task.resources
    return resources is not None and resources.nodes is not None and resources.nodes.release_after is not None


def _late_claim(task: schema.Task, request: PlacementRequest, findings: Findings) -> NodeClaim:
    """Return what the scheduler must know of claims, where it chooses places."""
    heeds = request.has_nodes or request.gpus is not None or request.gpu_indices is not None
    if not heeds and not request.is_apart:
        what = f'task "{request.task}" asks for neither nodes nor GPUs: nodes that others claim are not kept from it'
        findings.note("claimed-nodes", what)
    nodes = task.resources.nodes if task.resources is not None else None
    return NodeClaim(None if nodes is None else nodes.release_after, heeds)


def _holds(task: schema.Task) -> bool:
    """Return whether a task takes something that tasks after it may get."""
    resources = task.resources
    return resources is not None and (
        resources.gpus is not None
        or (resources.nodes is not None and resources.nodes.release_after is not None)
    )


def _claimant(one: Expanded, replica: Replica, ancestry: Ancestry) -> Claimant:
    task = one.task_of(replica)
    resources = task.resources or schema.Resources()
    return Claimant(
        task=replica.name,
        bit=ancestry.bit(task.name),
        before=ancestry.before(task.name),
        chain=replica.index if one.is_sequential else None,
        frees_gpus=resources.gpus is not None and _frees(task, resources.gpus.release_after),
        frees_nodes=resources.nodes is not None and _frees(task, resources.nodes.release_after),
    )


def _frees(task: schema.Task, release_after: str | None) -> bool:
    """Return whether tasks after this one may have what it takes, while it may still run with `task_ready`."""
    if release_after == "task_ready":
        return True
    may_stay = task.is_service or bool(task.probes_of("readiness"))
    return release_after != "workflow_completion" and not may_stay


def _request(
    one: Expanded, replica: Replica, value: Callable[[Any], Any], sized: "SizedGpus | None"
) -> PlacementRequest:
    """Return what one copy asks for. Raises: UnplannableError, NumberError, ExpressionError."""
    task = one.task_of(replica)
    resources = task.resources
    is_apart = bool(task.finally_)
    pack, near = _choice(task, "pack"), _choice(task, "near")
    if resources is None:
        return PlacementRequest(
            task=replica.name,
            replica_index=replica.index,
            is_sequential=one.is_sequential,
            node_count=1 if is_apart else None,
            is_apart=is_apart,
        )
    nodes = resources.nodes or schema.Nodes()
    gpus = resources.gpus
    subject = f'task "{task.name}"'

    def read(path: tuple[str | int, ...], written: Any, *least: int) -> int:
        return number(subject, ("resources", *path), as_count, value(written), *least)

    numbers = Numbers(subject, value)
    indices = numbers.listed(("nodes", "indices"), nodes.indices)
    gpu_indices = None if gpus is None else numbers.listed(("gpus", "indices"), gpus.indices, 0)
    # None, and not 0, means a task without GPUs.
    written = None if gpus is None else gpus.count if sized is None else sized.number
    count = None if written is None else read(("gpus", "count"), written, 0) or None
    return PlacementRequest(
        task=replica.name,
        replica_index=replica.index,
        is_sequential=one.is_sequential,
        has_nodes=resources.nodes is not None,
        indices=indices,
        node_count=_node_count(resources, is_apart, read),
        exclude=numbers.listed(("nodes", "exclude"), nodes.exclude) or (),
        gpus=count,
        gpu_indices=gpu_indices,
        gpu_bytes=0 if sized is None else sized.gpu_bytes,
        claims_nodes=nodes.release_after is not None,
        pack=pack,
        near=near,
        is_of_cell=replica.cell is not None and (gpus is not None or nodes.count is not None),
        is_shared=gpus is not None and at(("resources", "gpus", "shared"), as_flag, value(gpus.shared)),
        is_fixed=bool(task.leased_ports) and gpus is None and not is_apart,
        is_apart=is_apart,
    )


def _choice(task: schema.Task, name: Literal["pack", "near"]) -> Any:
    """Return a word of the task's `placement`. Raises: UnplannableError for a task that has no GPUs to choose."""
    if task.placement is None or (word := getattr(task.placement, name)) == "none":
        return "none"
    gpus, path = _gpus_of(task), ("placement", name)
    if gpus is None:
        what = f'task "{task.name}": placement.{name} says which GPUs it should have, and it asks for none'
        raise UnplannableError("no-gpus-to-choose", what, "add resources.gpus, or remove placement", path)
    if gpus.indices is not None or gpus.shared:
        that = "resources.gpus.indices names its GPUs" if gpus.indices is not None else "it shares GPUs"
        what = f'task "{task.name}": placement.{name} has no effect: {that}'
        raise UnplannableError("no-gpus-to-choose", what, "remove one of them", path)
    return word


class Numbers(Struct, frozen=True):
    """Reads lists of numbers of one task's resources."""

    subject: str
    value: Callable[[Any], Any]

    def listed(self, path: tuple[str, ...], written: Any, least: int | None = None) -> tuple[int, ...] | None:
        """Return a list of numbers, or what an expression gives as one; None if nothing is written.

        Raises: UnplannableError, NumberError, ExpressionError.
        """
        if written is None:
            return None
        full = ("resources", *path)
        given = self.value(written)
        if isinstance(given, str) and isinstance(written, str):
            given = as_list(given)
        members = given if isinstance(given, list) else [given]
        limits = () if least is None else (least,)
        found = tuple(
            number(self.subject, (*full, index), as_int, one, *limits) for index, one in enumerate(members)
        )
        if not found and path[-1] == "indices":
            what = f"{self.subject}: {'.'.join(full)} is empty"
            raise UnplannableError("wrong-value", what, "name at least one, or leave it out", full)
        if path == ("gpus", "indices") and len(set(found)) < len(found):
            what = f"{self.subject}: {'.'.join(full)} names a GPU twice: {list(found)}"
            raise UnplannableError("wrong-value", what, "name each GPU once", full)
        return found


def _node_count(resources: schema.Resources, is_apart: bool, read: Callable[..., int]) -> int | None:
    """Return the number of nodes asked for. A task at the end of a run needs one node, any of those left."""
    nodes = resources.nodes or schema.Nodes()
    if nodes.count is not None:
        return read(("nodes", "count"), nodes.count, 1)
    return 1 if is_apart and nodes.indices is None and resources.gpus is None else None


def _check_room(
    source: PlanInput,
    backends: PlannedBackends,
    placed: Sequence[PlacedTask],
    findings: Findings,
    max_running: int | None,
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
    for name, problem in check_capacity(demands, depends_on, backends.nodes_of, max_running):
        findings.add_problem(problem, "tasks", name)


def _demand(task: schema.Task, members: Sequence[PlacedTask]) -> Demand:
    cells = members[0].expanded.cells
    copies = sum(one.count for one in members)
    if cells is not None:  # a service is stopped when its cell is done
        sizes = [end - start for start, end in pairwise(members[0].expanded.offsets)]
        copies = sum(sorted(sizes, reverse=True)[: cells.planned.max_parallel or 1])
    return Demand(
        task=task.name,
        backend=members[0].backend.name,
        is_service=task.is_service,
        keeps=keeps_gpus(task),
        replicas=copies,
        # Tasks with a place have room there; that a service has ended its use of GPUs is in their plan.
        gpus=0
        if lends_gpus(task)
        else max(gpus_taken(one.placement) if one.placement.is_flexible else 0 for one in members),
    )


def _with_ports(one: PlacedTask, scopes: TaskScopes, findings: Findings) -> Iterator[PlacedTask]:
    """Yield a placed task with its ports, which each copy has of its own."""
    if not one.task.ports:
        yield one
        return
    for each in one.each():
        yield _copy_with_ports(each, scopes, findings)


def _copy_with_ports(one: PlacedTask, scopes: TaskScopes, findings: Findings) -> PlacedTask:
    value = scopes.of(one.task, one.replica).value
    with findings.collecting("tasks", one.task.name, "ports", subject=f'task "{one.task.name}"'):
        one = replace(one, served_port=served_port(one.task, value))
    ports = plan_ports(one.task, value, findings)
    return replace(one, ports=ports)


def _gpus_of(task: schema.Task) -> schema.Gpus | None:
    return task.resources.gpus if task.resources is not None else None


def lends_gpus(task: schema.Task) -> bool:
    """Return whether others may use the GPUs of a task once it is ready."""
    gpus = _gpus_of(task)
    return gpus is not None and gpus.release_after == "task_ready"


def keeps_gpus(task: schema.Task) -> bool:
    """Return whether the GPUs of a task stay its own when it has ended."""
    gpus = _gpus_of(task)
    return gpus is not None and gpus.release_after == "workflow_completion"


def port_counts(placed: Sequence[PlacedTask]) -> Mapping[str, dict[str, int]]:
    """Return, for concrete tasks with ports, how many ports each name has."""
    return {one.replica.name: {port.name: port.count for port in one.ports} for one in placed if one.ports}
