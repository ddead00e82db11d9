"""Places tasks that name their GPUs by number. Called by `static.py` and `flexible.py`."""

from collections.abc import Sequence

from protocol.text.counted import counted
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.placement.nodes_asked import candidates, unclaimed
from sflow_ctl.planner.placement.requested import BackendNodes, NoRoomError, PlacementRequest

_PATH = ("resources", "gpus", "indices")


def pinned_nodes(available: BackendNodes, request: PlacementRequest, named: list[int] | None) -> list[int]:
    """Return the nodes of a task that names its GPUs, and reserve those. Raises: UnplannableError, NoRoomError."""
    gpus = request.gpu_indices
    assert gpus is not None
    claimant, book = request.claimant, available.book

    def is_free(node: int) -> bool:
        return request.is_shared or book.are_free(node, gpus, claimant)

    if named is not None:
        check_pinned_count(request, len(named))
        for node in named:
            if not in_range(available.capacities[node], gpus):
                raise too_few(available, request, len(named), [], [])
        if not all(map(is_free, named)):
            raise _no_room(available, request, len(named), [], named)
        nodes = named
    else:
        left = unclaimed(available, request, candidates(available, request))
        wanted = (request.gpus or len(gpus)) // len(gpus)
        able = [node for node in left if in_range(available.capacities[node], gpus)]
        free = [node for node in able if is_free(node)]
        check_pinned_count(request, wanted)
        if len(able) < wanted:
            raise too_few(available, request, wanted, able, [])
        if len(free) < wanted:
            raise _no_room(available, request, wanted, free, able)
        nodes = free[:wanted]
    if not request.is_shared:
        book.reserve(nodes, gpus, claimant)
    return nodes


def in_range(capacity: int | None, gpus: Sequence[int]) -> bool:
    """Return whether a node has these GPUs, as far as is known."""
    return capacity is None or max(gpus) < capacity


def check_pinned_count(request: PlacementRequest, nodes: int) -> None:
    """Check that the number of GPUs is that of the named ones on all nodes. Raises: UnplannableError."""
    assert request.gpu_indices is not None
    each = len(request.gpu_indices)
    if request.gpus is None or request.gpus == each * max(nodes, 1):
        return
    what = (
        f'task "{request.task}" asks for {counted(request.gpus, "GPU")} and names {counted(each, "GPU")} on each of '
        f"{counted(nodes, 'node')}"
    )
    hint = f"use a multiple of {each}, or leave count out"
    raise UnplannableError("gpus-do-not-fit", what, hint, ("resources", "gpus", "count"))


def too_few(
    available: BackendNodes, request: PlacementRequest, wanted: int, able: Sequence[int], busy: Sequence[int]
) -> UnplannableError:
    """Return the error of a request for which not enough nodes have the named GPUs, or have them free."""
    assert request.gpu_indices is not None
    named = ", ".join(map(str, request.gpu_indices))
    why = "" if busy else "; on the others a number is out of range"
    held = "; ".join(", ".join(available.book.holders(node, request.claimant)) for node in busy)
    if held:
        why = f"; they are already reserved: {held}"
    what = (
        f'task "{request.task}" needs {counted(wanted, "node")} with GPUs {named} (with those slots free), and '
        f"{len(able)} of {len(available.capacities)} have them{why}"
    )
    return UnplannableError(
        "gpus-do-not-fit", what, "name other GPUs, or let it depend on their owners", _PATH
    )


def _no_room(
    available: BackendNodes, request: PlacementRequest, wanted: int, free: Sequence[int], able: Sequence[int]
) -> Exception:
    """Return that a task must wait for its GPUs, or the error where tasks do not wait."""
    if not available.is_strict:
        return NoRoomError()
    return too_few(available, request, wanted, free, [node for node in able if node not in free])
