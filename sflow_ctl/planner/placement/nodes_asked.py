"""Which nodes a request names, counts or leaves open, and how many GPUs it takes on each. Called by all ways of placing."""

from collections.abc import Sequence

from protocol.text.counted import counted
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.placement.requested import BackendNodes, NoRoomError, PlacementRequest


def refuse_without_gpus(available: BackendNodes, request: PlacementRequest) -> None:
    """Refuse a request for GPUs where no node has any. Raises: UnplannableError."""
    if request.gpus and all(capacity == 0 for capacity in available.capacities):
        asked = counted(request.gpus, "GPU")
        what = f'task "{request.task}" asks for {asked}, and the nodes of its backend have none (non-positive capacity 0)'
        hint = "correct gpus_per_node of the backend, or remove resources.gpus"
        raise UnplannableError("gpus-do-not-fit", what, hint, ("resources", "gpus", "count"))


def candidates(available: BackendNodes, request: PlacementRequest) -> list[int]:
    """Return the backend's nodes without excluded ones, not to be changed. Raises: UnplannableError."""
    if request.exclude in available.lists:
        refuse_without_gpus(available, request)
        return available.lists[request.exclude]
    total = len(available.capacities)
    excluded = set()
    for index in request.exclude:
        if not -total <= index < total:
            what = f'task "{request.task}": nodes.exclude {index} is out of range, the backend has {counted(total, "node")}'
            hint = f"{-total} to {total - 1}"
            raise UnplannableError("node-out-of-range", what, hint, ("resources", "nodes", "exclude"))
        excluded.add(index % total)
    refuse_without_gpus(available, request)
    left = [index for index in range(total) if index not in excluded]
    if not left:
        what = f'task "{request.task}": nodes.exclude removed all nodes'
        raise UnplannableError("no-nodes-left", what, path=("resources", "nodes", "exclude"))
    available.lists[request.exclude] = left
    return left


def chosen_nodes(available: BackendNodes, request: PlacementRequest) -> list[int] | None:
    """Return the nodes that the request names, or None; with a count those to count in. Raises: UnplannableError."""
    if request.indices is None:
        return None
    left = candidates(available, request)
    path = ("resources", "nodes", "indices")
    total = len(left)
    for index in request.indices:
        if not -total <= index < total:
            among = counted(total, "node")
            what = f'task "{request.task}": nodes.indices has the out-of-range index {index}, it chooses from {among}'
            raise UnplannableError("node-out-of-range", what, f"{-total} to {total - 1}", path)
    chosen = [left[index] for index in request.indices]
    if len(set(chosen)) < len(chosen):
        what = f'task "{request.task}": nodes.indices {list(request.indices)} names a node twice'
        raise UnplannableError("node-twice", what, "name each node once", path)
    if request.node_count is not None and available.rules == "0.2":
        what = f'task "{request.task}": cannot set both nodes.indices and nodes.count'
        raise UnplannableError("nodes-twice", what, path=("resources", "nodes"))
    return chosen


def named_nodes(available: BackendNodes, request: PlacementRequest) -> list[int] | None:
    """Return the nodes that the request names or counts, None where it does neither. Raises: as `place_static`."""
    chosen = chosen_nodes(available, request)
    if request.node_count is None:
        if chosen is not None:
            _refuse_claimed(available, request, chosen)
        return chosen
    left = chosen if chosen is not None else candidates(available, request)
    check_node_count(request, request.node_count, left)
    if request.is_fixed and not available.is_strict:
        return round_robin(request, request.node_count, left)
    if request.claims_nodes or _is_any_claimed(available, request, left):
        free = _first_unclaimed(available, request, left, request.node_count)
        if len(free) < request.node_count:
            raise _claimed(available, request, left)
        return free
    start = 0 if request.is_sequential else request.replica_index * request.node_count
    if start + request.node_count > len(left):
        raise NoRoomError
    return left[start : start + request.node_count]


def _refuse_claimed(available: BackendNodes, request: PlacementRequest, nodes: Sequence[int]) -> None:
    if request.has_nodes and not all(available.claims.is_free(node, request.claimant) for node in nodes):
        raise _claimed(available, request, nodes)


def _is_any_claimed(available: BackendNodes, request: PlacementRequest, left: Sequence[int]) -> bool:
    """Return whether one of these nodes is claimed, and not freed before the request's task starts."""
    claims, claimant = available.claims, request.claimant
    if not claims.owners:
        return False
    if available.full_before.get(("claims", request.exclude, claimant.kind)):
        return True
    wanted = set(left)
    return any(node in wanted and not claims.is_free(node, claimant) for node in claims.owners)


def _first_unclaimed(
    available: BackendNodes, request: PlacementRequest, left: Sequence[int], count: int
) -> list[int]:
    """Return the first nodes that no claim keeps from a task; fewer if there are not so many.

    What is kept from one of a kind stays kept from all: a task that claims a node after another one keeps it from those that
    the other did.
    """
    is_known = left is available.lists.get(request.exclude)
    key = ("claims", request.exclude, request.claimant.kind)
    start = available.full_before.get(key, 0) if is_known else 0
    found: list[int] = []
    for position in range(start, len(left)):
        if available.claims.is_free(left[position], request.claimant):
            found.append(left[position])
            if len(found) == count:
                break
        elif not found:
            start = position + 1
    if is_known:
        available.full_before[key] = start
    return found


def _claimed(available: BackendNodes, request: PlacementRequest, nodes: Sequence[int]) -> UnplannableError:
    owners = ", ".join(available.claims.owners_of(nodes, request.claimant))
    what = (
        f'task "{request.task}": nodes that it asks for do not remain available, they are claimed by {owners}'
    )
    hint = "let it depend on them, or leave out their nodes.release_after"
    return UnplannableError("nodes-claimed", what, hint, ("resources", "nodes"))


def unclaimed(available: BackendNodes, request: PlacementRequest, left: list[int]) -> list[int]:
    """Return the nodes that others have not claimed; all of them under the rules of sflow, or where none is left."""
    if available.is_strict or request.has_nodes or not available.claims.owners:
        return left
    free = [node for node in left if available.claims.is_free(node, request.claimant)]
    if not free:
        raise _claimed(available, request, left)
    if len(free) < len(left):
        owners = ", ".join(available.claims.owners_of(left, request.claimant))
        what = (
            f'task "{request.task}" gets {len(free)} of {len(left)} nodes: the others are claimed by {owners}'
        )
        available.notes.append(what)
    return free


def round_robin(request: PlacementRequest, count: int, left: Sequence[int]) -> list[int]:
    """Return nodes in turn for a task that takes no GPUs, so more such tasks than nodes still have room."""
    start = 0 if request.is_sequential else request.replica_index * count
    return [left[(start + offset) % len(left)] for offset in range(count)]


def check_node_count(request: PlacementRequest, count: int, left: list[int]) -> None:
    """Check that there are as many nodes as a request asks for. Raises: UnplannableError."""
    if count > len(left):
        what = f'task "{request.task}" needs {counted(count, "node")}, but there {"is" if len(left) == 1 else "are"} {len(left)}'
        raise UnplannableError(
            "nodes-do-not-fit", what, "ask for fewer nodes", ("resources", "nodes", "count")
        )


def whole_nodes(request: PlacementRequest, count: int, cap: int, left: list[int]) -> int:
    """Return how many whole nodes of `cap` GPUs a count above `cap` takes. Raises: UnplannableError."""
    path = ("resources", "gpus", "count")
    if count % cap:
        what = (
            f'task "{request.task}" asks for {count} GPUs; a count above one node\'s {cap} must be a multiple of per-node '
            f"GPU capacity"
        )
        fewer, more = count // cap * cap, (count // cap + 1) * cap
        hint = f"use {fewer} or {more}" if more <= len(left) * cap else f"use at most {len(left) * cap}"
        raise UnplannableError("gpus-do-not-fit", what, hint, path)
    if count // cap > len(left):
        what = (
            f'task "{request.task}" asks for {counted(count, "GPU")}: it needs {counted(count // cap, "node")} with '
            f"{counted(cap, 'GPU')} each; the backend has {len(left)}"
        )
        raise UnplannableError("gpus-do-not-fit", what, f"use at most {len(left) * cap}", path)
    return count // cap


def share(available: BackendNodes, request: PlacementRequest, count: int, capacities: list[int]) -> int:
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
    if available.divides_evenly:
        refuse_uneven(request, count, len(capacities))
        if count // len(capacities) > min(capacities):
            each = counted(count // len(capacities), "GPU")
            fewest = f"one of them has only {min(capacities)}"
            what = f'task "{request.task}" asks for {each} on each of {len(capacities)} nodes; {fewest}'
            raise UnplannableError("gpus-do-not-fit", what, path=("resources", "gpus", "count"))
    return min(min(capacities), -(-count // len(capacities)))


def refuse_uneven(request: PlacementRequest, count: int, nodes: int) -> None:
    """Refuse a number of GPUs that gives nodes different numbers. Raises: UnplannableError."""
    if count % nodes:
        what = f'task "{request.task}" asks for {counted(count, "GPU")} on {nodes} nodes; it must be a multiple of the node count'
        hint = f"use {-(-count // nodes) * nodes} for {-(-count // nodes)} on each"
        raise UnplannableError("gpus-do-not-fit", what, hint, ("resources", "gpus", "count"))
