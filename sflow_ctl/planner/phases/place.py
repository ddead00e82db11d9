"""Places concrete tasks: which nodes and GPU indices each gets.

Chapter 8 of the format, and an extension of it. The static plan equals that of sflow 0.2, node for node and
index for index. If it has no room for all tasks, placements become flexible: tasks queue, and the scheduler
picks their nodes when they are ready. Only tasks that can never fit are refused, with the arithmetic. Called
by `requests.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from protocol.text.counted import counted
from sflow_ctl.plan.model import Placement
from sflow_ctl.planner.findings import UnplannableError

INDICES = "resources.nodes.indices names its nodes"


class PlacementRequest(Struct, frozen=True, kw_only=True):
    """The nodes and GPUs that one concrete task asks its backend for. Node numbers count within the backend."""

    task: str
    replica_index: int = 0
    is_sequential: bool = False
    indices: tuple[int, ...] | None = None
    node_count: int | None = None
    exclude: tuple[int, ...] = ()
    gpus: int | None = None
    is_shared: bool = False
    """Use GPUs without taking them; ignored without `gpus`."""
    is_fixed: bool = False
    """The task takes no GPUs, and others use its address: its nodes must be known before anything starts."""
    is_apart: bool = False
    """The task runs when all others have ended, so it takes nothing from them."""


class NoRoomError(Exception):
    """The static plan has no room for this request, although such nodes and GPUs exist."""


class BackendNodes(Struct):
    """One backend's nodes.

    `capacities` are GPUs per node, None where unknown; `first` is its first run-wide index.
    """

    first: int
    capacities: tuple[int | None, ...]
    is_strict: bool = False
    """Allow only the static plan of sflow 0.2: a task without room is refused, not queued."""
    cursors: list[int] = []
    loads: list[dict[int, int]] = []
    """Per node, how many sharing tasks were given each GPU."""

    def __post_init__(self) -> None:
        self.cursors = [0] * len(self.capacities)
        self.loads = [{} for _ in self.capacities]


def _refuse_without_gpus(available: BackendNodes, request: PlacementRequest) -> None:
    """Refuse a request for GPUs where no node has any. Raises: UnplannableError."""
    if request.gpus and all(capacity == 0 for capacity in available.capacities):
        what = f'task "{request.task}" asks for {counted(request.gpus, "GPU")}, and the nodes of its backend have none'
        hint = "correct gpus_per_node of the backend, or remove resources.gpus"
        raise UnplannableError("gpus-do-not-fit", what, hint, ("resources", "gpus", "count"))


def place_all(
    available: BackendNodes, requests: Sequence[PlacementRequest]
) -> list[Placement | UnplannableError]:
    """Return a placement for each request of one backend, in order, or the error why it can never have one."""
    results: list[Placement | UnplannableError] = []
    is_static = True
    for request in requests:
        if request.is_apart:
            results.append(_flexible_or_problem(available, request))
            continue
        try:
            results.append(_place_static(available, request))
        except UnplannableError as problem:
            results.append(problem)
        except NoRoomError:
            if available.is_strict:
                results.append(_no_room(available, request))
                continue
            is_static = False
            break
    if is_static:
        return results
    available.loads = [{} for _ in available.capacities]
    return [_flexible_or_problem(available, request) for request in requests]


def _no_room(available: BackendNodes, request: PlacementRequest) -> UnplannableError:
    free = sum(
        capacity - used
        for capacity, used in zip(available.capacities, available.cursors, strict=True)
        if capacity
    )
    what = (
        f'task "{request.task}": only {free} GPUs remain available in the static plan of sflow 0.2, '
        "but not on the nodes where it needs them"
    )
    return UnplannableError(
        "gpus-do-not-fit", what, "leave out --compat strict: then tasks queue for free GPUs", ("resources",)
    )


def candidates(available: BackendNodes, request: PlacementRequest) -> list[int]:
    """Return the backend's nodes without excluded ones. Raises: UnplannableError."""
    total = len(available.capacities)
    for index in request.exclude:
        if not 0 <= index < total:
            what = f'task "{request.task}": nodes.exclude {index} is out of range, the backend has {counted(total, "node")}'
            raise UnplannableError(
                "node-out-of-range", what, f"0 to {total - 1}", ("resources", "nodes", "exclude")
            )
    _refuse_without_gpus(available, request)
    left = [index for index in range(total) if index not in request.exclude]
    if not left:
        what = f'task "{request.task}": nodes.exclude removed all nodes'
        raise UnplannableError("no-nodes-left", what, path=("resources", "nodes", "exclude"))
    return left


def _chosen(available: BackendNodes, request: PlacementRequest) -> list[int] | None:
    """Return the nodes that the request names, or None. Raises: UnplannableError."""
    left = candidates(available, request)
    if request.indices is not None and request.node_count is not None:
        what = f'task "{request.task}": cannot set both nodes.indices and nodes.count'
        raise UnplannableError("nodes-twice", what, path=("resources", "nodes"))
    if request.indices is None:
        return None
    for index in request.indices:
        if not 0 <= index < len(left):
            what = f'task "{request.task}": nodes.indices {index} is out of range, it chooses from {counted(len(left), "node")}'
            raise UnplannableError(
                "node-out-of-range", what, f"0 to {len(left) - 1}", ("resources", "nodes", "indices")
            )
    if len(set(request.indices)) < len(request.indices):
        what = f'task "{request.task}": nodes.indices {list(request.indices)} names a node twice'
        raise UnplannableError("node-twice", what, "name each node once", ("resources", "nodes", "indices"))
    return [left[index] for index in request.indices]


def _place_shared(available: BackendNodes, request: PlacementRequest) -> Placement:
    """Place a sharing task on the GPUs that the fewest sharing tasks have. Raises: UnplannableError."""
    assert request.gpus is not None
    chosen = _chosen(available, request)
    left = chosen if chosen is not None else candidates(available, request)
    wanted = len(left) if chosen is not None else request.node_count
    if wanted is None:
        cap = min((capacity for capacity in available.capacities if capacity), default=request.gpus)
        wanted = 1 if request.gpus <= cap else _whole_nodes(request, request.gpus, cap, left)
    _check_node_count(request, wanted, left)
    nodes = sorted(left, key=lambda node: (sum(available.loads[node].values()), node))[:wanted]
    known = [capacity for node in nodes if (capacity := available.capacities[node]) is not None]
    per_node = _share(request, request.gpus, known) if len(known) == wanted else -(-request.gpus // wanted)
    indices = range(min(known, default=per_node))
    least = sorted(indices, key=lambda gpu: (sum(available.loads[node].get(gpu, 0) for node in nodes), gpu))
    gpus = tuple(sorted(least[:per_node]))
    for node in nodes:
        for gpu in gpus:
            available.loads[node][gpu] = available.loads[node].get(gpu, 0) + 1
    placed = tuple(sorted(available.first + node for node in nodes))
    return Placement(nodes=placed, gpus=gpus, gpus_per_node=per_node, is_shared=True)


def _place_static(available: BackendNodes, request: PlacementRequest) -> Placement:
    if request.is_shared and request.gpus is not None:
        return _place_shared(available, request)
    nodes = _assign_nodes(available, request)
    gpus = _assign_gpus(available, request, nodes) if request.gpus is not None else ()
    return Placement(
        nodes=tuple(available.first + node for node in nodes), gpus=gpus, gpus_per_node=len(gpus)
    )


def _assign_nodes(available: BackendNodes, request: PlacementRequest) -> list[int]:
    chosen = _chosen(available, request)
    if chosen is not None:
        return chosen
    left = candidates(available, request)
    if request.node_count is not None:
        _check_node_count(request, request.node_count, left)
        if request.is_fixed and not available.is_strict:
            return _round_robin(request, request.node_count, left)
        start = 0 if request.is_sequential else request.replica_index * request.node_count
        if start + request.node_count > len(left):
            raise NoRoomError
        return left[start : start + request.node_count]
    if request.gpus is not None:
        return _nodes_for_gpus(available, request, left, request.gpus)
    return left


def _round_robin(request: PlacementRequest, count: int, left: Sequence[int]) -> list[int]:
    """Return nodes in turn for a task that takes no GPUs, so more such tasks than nodes still have room."""
    start = 0 if request.is_sequential else request.replica_index * count
    return [left[(start + offset) % len(left)] for offset in range(count)]


def _check_node_count(request: PlacementRequest, count: int, left: list[int]) -> None:
    if count > len(left):
        what = f'task "{request.task}" needs {counted(count, "node")}, but there {"is" if len(left) == 1 else "are"} {len(left)}'
        raise UnplannableError(
            "nodes-do-not-fit", what, "ask for fewer nodes", ("resources", "nodes", "count")
        )


def _nodes_for_gpus(
    available: BackendNodes, request: PlacementRequest, left: list[int], count: int
) -> list[int]:
    for node in left:
        capacity = available.capacities[node]
        if capacity and available.cursors[node] + count <= capacity:
            return [node]
    known = [capacity for capacity in available.capacities if capacity]
    cap = min(known, default=None)
    if cap is None:
        return left
    if count <= cap and available.is_strict:
        return left  # sflow 0.2 splits it over all nodes
    if count <= cap:
        raise NoRoomError  # a task that fits on one node must not be split
    wanted = _whole_nodes(request, count, cap, left)
    free = [n for n in left if (available.capacities[n] or 0) >= available.cursors[n] + cap]
    for cursor in sorted({available.cursors[node] for node in free}):
        same = [node for node in free if available.cursors[node] == cursor]
        if len(same) >= wanted:
            return same[:wanted]
    raise NoRoomError


def _whole_nodes(request: PlacementRequest, count: int, cap: int, left: list[int]) -> int:
    """Return how many whole nodes of `cap` GPUs a count above `cap` takes. Raises: UnplannableError."""
    path = ("resources", "gpus", "count")
    if count % cap:
        what = (
            f'task "{request.task}" asks for {count} GPUs; a count above one node\'s {cap} must be a multiple of per-node '
            f"GPU capacity"
        )
        raise UnplannableError(
            "gpus-do-not-fit", what, f"use {count // cap * cap} or {(count // cap + 1) * cap}", path
        )
    if count // cap > len(left):
        what = (
            f'task "{request.task}" asks for {counted(count, "GPU")}: it needs {counted(count // cap, "node")} with '
            f"{counted(cap, 'GPU')} each; the backend has {len(left)}"
        )
        raise UnplannableError("gpus-do-not-fit", what, f"use at most {len(left) * cap}", path)
    return count // cap


def _assign_gpus(available: BackendNodes, request: PlacementRequest, nodes: list[int]) -> tuple[int, ...]:
    count = request.gpus or 0
    capacities = [available.capacities[node] for node in nodes]
    known = [capacity for capacity in capacities if capacity is not None]
    if len(known) < len(capacities):
        start = request.replica_index * count
        return tuple(range(start, start + count))
    per_node = _share(request, count, known)
    cursors = {available.cursors[node] for node in nodes}
    if len(cursors) > 1 or any(
        available.cursors[node] + per_node > capacity for node, capacity in zip(nodes, known, strict=True)
    ):
        raise NoRoomError
    start = cursors.pop()
    for node in nodes:
        available.cursors[node] += per_node
    return tuple(range(start, start + per_node))


def _share(request: PlacementRequest, count: int, capacities: list[int]) -> int:
    """Return the GPUs on each of the chosen nodes.

    Raises: UnplannableError if these nodes have fewer in total.
    """
    total = sum(capacities)
    if count > total:
        where = "one node" if len(capacities) == 1 else f"{len(capacities)} nodes"
        phrase = (
            f"only {total} GPUs remain available there"
            if len(capacities) == 1
            else f"they have only {total} GPUs total"
        )
        what = f'task "{request.task}" asks for {counted(count, "GPU")} on {where}; {phrase}'
        raise UnplannableError(
            "gpus-do-not-fit", what, f"use at most {total}", ("resources", "gpus", "count")
        )
    return min(min(capacities), -(-count // len(capacities)))


def _flexible_or_problem(available: BackendNodes, request: PlacementRequest) -> Placement | UnplannableError:
    try:
        is_sharing = request.is_shared and request.gpus is not None
        return _place_shared(available, request) if is_sharing else _flexible(available, request)
    except UnplannableError as problem:
        return problem


def _flexible(available: BackendNodes, request: PlacementRequest) -> Placement:
    """Return candidates for the scheduler to choose from when the task is ready.

    Raises: UnplannableError for a request that can never fit.
    """
    chosen = _chosen(available, request)
    left = chosen if chosen is not None else candidates(available, request)
    wanted = len(left) if chosen is not None else request.node_count
    if wanted is not None:
        _check_node_count(request, wanted, left)
    if request.gpus is None:
        if wanted is None or chosen is not None:
            return Placement(nodes=tuple(available.first + node for node in left))
        if request.is_fixed:
            return Placement(
                nodes=tuple(available.first + node for node in _round_robin(request, wanted, left))
            )
        return Placement(nodes=tuple(available.first + n for n in left), is_flexible=True, node_count=wanted)
    capacities = [available.capacities[node] for node in left]
    known = [capacity for capacity in capacities if capacity]
    if wanted is not None:
        largest = sorted(known, reverse=True)[:wanted]
        per_node = _share(request, request.gpus, largest) if len(known) == len(capacities) else request.gpus
    elif request.gpus <= max(known, default=request.gpus):
        wanted, per_node = 1, request.gpus
    else:
        per_node = min(known)
        wanted = _whole_nodes(request, request.gpus, per_node, left)
    able = tuple(
        available.first + node for node in left if (available.capacities[node] or per_node) >= per_node
    )
    if len(able) < wanted:
        asked = counted(per_node, "GPU")
        what = f'task "{request.task}" asks for {asked} on each of {wanted} nodes, only {len(able)} of them have that many'
        raise UnplannableError("gpus-do-not-fit", what, path=("resources", "gpus", "count"))
    return Placement(nodes=able, is_flexible=True, node_count=wanted, gpus_per_node=per_node)


class Alternative(NamedTuple):
    """The fields of a planned task about leaving its place. Meanings: `PlannedTask`."""

    elsewhere: Placement | None = None
    pinned: str = ""


def alternative(available: BackendNodes, request: PlacementRequest, placement: Placement) -> Alternative:
    """Return where a request may be served instead of at its fixed placement. Raises: UnplannableError."""
    if placement.is_flexible:
        return Alternative()
    if request.indices is not None:
        return Alternative(pinned=INDICES)
    per_node, highest = len(placement.gpus), max(placement.gpus, default=-1)
    least = highest + 1 if placement.is_shared else per_node
    able = [
        available.first + node
        for node in candidates(available, request)
        if (capacity := available.capacities[node]) is None or capacity >= least
    ]
    takes_all = request.node_count is None and request.gpus is None
    if len(able) <= (1 if takes_all else len(placement.nodes)):
        return Alternative()
    return Alternative(
        Placement(
            nodes=tuple(able),
            gpus=placement.gpus if placement.is_shared else (),
            is_flexible=True,
            node_count=0 if takes_all else len(placement.nodes),
            gpus_per_node=per_node,
            is_shared=placement.is_shared,
        )
    )
