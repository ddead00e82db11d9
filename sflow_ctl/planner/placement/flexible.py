"""Places a request when its task is ready: the nodes that may be chosen from then, and those after a node is lost.

Called by `place.py` and `requests.py`.
"""

from typing import NamedTuple

from protocol.text.counted import counted
from sflow_ctl.plan.model import Placement
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.placement.nodes_asked import (
    candidates,
    check_node_count,
    chosen_nodes,
    refuse_uneven,
    round_robin,
    share,
    whole_nodes,
)
from sflow_ctl.planner.placement.pinned import check_pinned_count, in_range, too_few
from sflow_ctl.planner.placement.requested import BackendNodes, PlacementRequest
from sflow_ctl.planner.placement.static import place_shared

INDICES = "resources.nodes.indices names its nodes"


GPU_INDICES = "resources.gpus.indices names its GPUs"


def flexible_or_problem(available: BackendNodes, request: PlacementRequest) -> Placement | UnplannableError:
    """Return the candidates for a request, or the error why it can never fit."""
    try:
        is_sharing = request.is_shared and request.gpus is not None
        return place_shared(available, request) if is_sharing else flexible(available, request)
    except UnplannableError as problem:
        return problem


def flexible(available: BackendNodes, request: PlacementRequest) -> Placement:
    """Return candidates for the scheduler to choose from when the task is ready.

    Raises: UnplannableError for a request that can never fit.
    """
    if request.is_fixed:
        return _flexible(available, request)  # each copy gets nodes of its own
    shape = request.shape
    if shape not in available.answers:
        available.answers[shape] = _flexible(available, request)
    answer: Placement = available.answers[shape]
    return answer


def _flexible(available: BackendNodes, request: PlacementRequest) -> Placement:
    chosen = chosen_nodes(available, request)
    left = chosen if chosen is not None else candidates(available, request)
    wanted = len(left) if chosen is not None and request.node_count is None else request.node_count
    if wanted is not None:
        check_node_count(request, wanted, left)
    if request.gpu_indices is not None:
        return _pinned_when_free(available, request, left, wanted)
    if request.gpus is None:
        if wanted is None or (chosen is not None and request.node_count is None):
            return Placement(nodes=tuple(available.first + node for node in left))
        if request.is_fixed:
            return Placement(
                nodes=tuple(available.first + node for node in round_robin(request, wanted, left))
            )
        able = tuple(available.first + n for n in left)
        spares = available.spares_with(0) if chosen is None else ()
        return Placement(nodes=(*able, *spares), is_flexible=True, node_count=wanted)
    capacities = [available.capacities[node] for node in left]
    known = [capacity for capacity in capacities if capacity]
    if wanted is not None:
        largest = sorted(known, reverse=True)[:wanted]
        if available.divides_evenly:
            refuse_uneven(request, request.gpus, wanted)
        is_known = len(known) == len(capacities)
        per_node = share(available, request, request.gpus, largest) if is_known else request.gpus // wanted
    elif request.gpus <= max(known, default=request.gpus):
        wanted, per_node = 1, request.gpus
    else:
        per_node = min(known)
        wanted = whole_nodes(request, request.gpus, per_node, left)
    able = tuple(
        available.first + node for node in left if (available.capacities[node] or per_node) >= per_node
    )
    if len(able) < wanted:
        asked = counted(per_node, "GPU")
        what = f'task "{request.task}" asks for {asked} on each of {wanted} nodes, only {len(able)} of them have that many'
        raise UnplannableError("gpus-do-not-fit", what, path=("resources", "gpus", "count"))
    spares = available.spares_with(per_node) if chosen is None else ()
    return Placement(
        nodes=(*able, *spares),
        is_flexible=True,
        node_count=wanted,
        gpus_per_node=per_node,
        pack=request.pack,
        near=request.near,
    )


def _pinned_when_free(
    available: BackendNodes, request: PlacementRequest, left: list[int], wanted: int | None
) -> Placement:
    """Return the place of a task that names its GPUs, and waits for them. Raises: UnplannableError."""
    assert request.gpu_indices is not None
    each = len(request.gpu_indices)
    count = wanted if wanted is not None else (request.gpus or each) // each
    able = [node for node in left if in_range(available.capacities[node], request.gpu_indices)]
    check_pinned_count(request, count)
    if len(able) < count:
        raise too_few(available, request, count, able, [])
    nodes = tuple(available.first + node for node in able[:count])
    return Placement(nodes=nodes, gpus=request.gpu_indices, gpus_per_node=each, is_shared=request.is_shared)


class Alternative(NamedTuple):
    """The fields of a planned task about leaving its place. Meanings: `PlannedTask`."""

    elsewhere: Placement | None = None
    pinned: str = ""


def alternative(available: BackendNodes, request: PlacementRequest, placement: Placement) -> Alternative:
    """Return where a request may be served instead of at its fixed placement. Raises: UnplannableError."""
    if placement.is_flexible:
        return Alternative()
    if request.gpu_indices is not None:
        return Alternative(pinned=GPU_INDICES)
    if request.indices is not None:
        return Alternative(pinned=INDICES)
    per_node, highest = len(placement.gpus), max(placement.gpus, default=-1)
    least = highest + 1 if placement.is_shared else per_node
    key = (request.shape, len(placement.nodes), least, placement.gpus if placement.is_shared else per_node)
    if key not in available.answers:
        available.answers[key] = _elsewhere(available, request, placement, least)
    answer: Alternative = available.answers[key]
    return answer


def _elsewhere(
    available: BackendNodes, request: PlacementRequest, placement: Placement, least: int
) -> Alternative:
    able = [
        available.first + node
        for node in candidates(available, request)
        if (capacity := available.capacities[node]) is None or capacity >= least
    ]
    able += available.spares_with(least)
    takes_all = request.node_count is None and request.gpus is None
    if len(able) <= (1 if takes_all else len(placement.nodes)):
        return Alternative()
    return Alternative(
        Placement(
            nodes=tuple(able),
            gpus=placement.gpus if placement.is_shared else (),
            is_flexible=True,
            node_count=0 if takes_all else len(placement.nodes),
            gpus_per_node=len(placement.gpus),
            is_shared=placement.is_shared,
        )
    )
