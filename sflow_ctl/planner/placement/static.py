"""Places a request at once: nodes and GPU numbers that are known before anything starts. Called by `place.py`."""

from sflow_ctl.plan.model import Placement
from sflow_ctl.planner.placement.nodes_asked import (
    candidates,
    check_node_count,
    chosen_nodes,
    named_nodes,
    share,
    unclaimed,
    whole_nodes,
)
from sflow_ctl.planner.placement.pinned import pinned_nodes
from sflow_ctl.planner.placement.requested import BackendNodes, NoRoomError, PlacementRequest


def place_static(available: BackendNodes, request: PlacementRequest) -> Placement:
    """Raises: UnplannableError, NoRoomError."""
    if request.gpu_indices is not None:
        nodes = pinned_nodes(available, request, named_nodes(available, request))
        gpus = request.gpu_indices
    elif request.is_shared and request.gpus is not None:
        return place_shared(available, request)
    else:
        nodes = _assign_nodes(available, request)
        gpus = _assign_gpus(available, request, nodes) if request.gpus is not None else ()
    if request.claims_nodes:
        available.claims.claim(nodes, request.claimant)
    return Placement(
        nodes=tuple(available.first + node for node in nodes),
        gpus=gpus,
        gpus_per_node=len(gpus),
        is_shared=request.is_shared and request.gpu_indices is not None,
    )


def _assign_nodes(available: BackendNodes, request: PlacementRequest) -> list[int]:
    named = named_nodes(available, request)
    if named is not None:
        return named
    left = unclaimed(available, request, candidates(available, request))
    if request.gpus is not None:
        return _nodes_for_gpus(available, request, left, request.gpus)
    return left


def _nodes_for_gpus(
    available: BackendNodes, request: PlacementRequest, left: list[int], count: int
) -> list[int]:
    def start(node: int, wanted: int) -> int | None:
        capacity = available.capacities[node]
        return available.book.start(node, wanted, capacity, request.claimant) if capacity else None

    kind = (request.exclude, count, *request.claimant.kind)
    is_known = left is available.lists.get(request.exclude)
    # What is full for one of a kind stays full for all: a task that gets another's GPUs keeps from others what that did.
    for position in range(available.full_before.get(kind, 0) if is_known else 0, len(left)):
        if start(left[position], count) is not None:
            if is_known:
                available.full_before[kind] = position
            return [left[position]]
    cap = min((capacity for capacity in available.capacities if capacity), default=None)
    if cap is None:
        return left
    if count <= cap and available.is_strict:
        return left  # sflow splits it over all nodes
    if count <= cap:
        raise NoRoomError  # a task that fits on one node must not be split
    wanted = whole_nodes(request, count, cap, left)
    starts = {node: found for node in left if (found := start(node, cap)) is not None}
    for lowest in sorted(set(starts.values())):
        same = [node for node, found in starts.items() if found == lowest]
        if len(same) >= wanted:
            return same[:wanted]
    raise NoRoomError


def _assign_gpus(available: BackendNodes, request: PlacementRequest, nodes: list[int]) -> tuple[int, ...]:
    count = request.gpus or 0
    capacities = [available.capacities[node] for node in nodes]
    known = [capacity for capacity in capacities if capacity is not None]
    if len(known) < len(capacities):
        start = request.replica_index * count
        return tuple(range(start, start + count))
    per_node = share(available, request, count, known)
    starts = {
        available.book.start(node, per_node, capacity, request.claimant)
        for node, capacity in zip(nodes, known, strict=True)
    }
    first = starts.pop()
    if starts or first is None:
        raise NoRoomError
    gpus = tuple(range(first, first + per_node))
    available.book.reserve(nodes, gpus, request.claimant)
    return gpus


def place_shared(available: BackendNodes, request: PlacementRequest) -> Placement:
    """Place a sharing task on the GPUs that the fewest sharing tasks have. Raises: UnplannableError."""
    assert request.gpus is not None
    chosen = chosen_nodes(available, request)
    left = chosen if chosen is not None else candidates(available, request)
    wanted = len(left) if chosen is not None and request.node_count is None else request.node_count
    if wanted is None:
        cap = min((capacity for capacity in available.capacities if capacity), default=request.gpus)
        wanted = 1 if request.gpus <= cap else whole_nodes(request, request.gpus, cap, left)
    check_node_count(request, wanted, left)
    nodes = sorted(left, key=lambda node: (sum(available.loads[node].values()), node))[:wanted]
    known = [capacity for node in nodes if (capacity := available.capacities[node]) is not None]
    per_node = (
        share(available, request, request.gpus, known) if len(known) == wanted else -(-request.gpus // wanted)
    )
    indices = range(min(known, default=per_node))
    least = sorted(indices, key=lambda gpu: (sum(available.loads[node].get(gpu, 0) for node in nodes), gpu))
    gpus = tuple(sorted(least[:per_node]))
    for node in nodes:
        for gpu in gpus:
            available.loads[node][gpu] = available.loads[node].get(gpu, 0) + 1
    placed = tuple(sorted(available.first + node for node in nodes))
    return Placement(nodes=placed, gpus=gpus, gpus_per_node=per_node, is_shared=True)
