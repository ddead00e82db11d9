"""Places concrete tasks: which nodes and GPU indices each gets.

Chapter 8 of the format, and an extension of it. The static plan equals that of sflow 0.3.1, node for node and
index for index; with `--compat 0.2` that of sflow 0.2. If it has no room for all tasks, placements become flexible: tasks
queue, and the scheduler picks their nodes when they are ready. Only tasks that can never fit are refused, with the arithmetic.
Named GPUs are in `pinned.py`. Called by `requests.py`.
"""

from collections.abc import Sequence

from protocol.text.counted import counted
from sflow_ctl.plan.model import Placement
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.placement.flexible import flexible_or_problem
from sflow_ctl.planner.placement.requested import BackendNodes, NoRoomError, PlacementRequest
from sflow_ctl.planner.placement.static import place_static


def place_all(
    available: BackendNodes, requests: Sequence[PlacementRequest]
) -> list[Placement | UnplannableError]:
    """Return a placement for each request of one backend, or the error why it can never have one.

    Requests come in the order in which they are placed.
    """
    results: list[Placement | UnplannableError] = []
    is_late = not available.is_strict and any(one.is_choosy or one.is_of_cell for one in requests)
    for request in () if is_late else requests:
        if request.is_apart:
            results.append(flexible_or_problem(available, request))
            continue
        try:
            results.append(place_static(available, request))
        except UnplannableError as problem:
            results.append(problem)
        except NoRoomError:
            if not available.is_strict:
                break
            results.append(_no_room(available, request))
    if not is_late and len(results) == len(requests):
        return results
    available.loads = [{} for _ in available.capacities]
    available.notes.clear()
    return [flexible_or_problem(available, request) for request in requests]


def _no_room(available: BackendNodes, request: PlacementRequest) -> UnplannableError:
    held = [
        f"node {available.first + node}: {', '.join(holders)}"
        for node in range(len(available.capacities))
        if (holders := available.book.holders(node, request.claimant))
    ]
    asked = "" if request.gpus is None else f" asks for {counted(request.gpus, 'GPU')}, which"
    what = (
        f'task "{request.task}":{asked} do not remain available in the static plan of sflow {available.rules}'
    )
    return UnplannableError(
        "gpus-do-not-fit",
        "; ".join([what, *held[:4]]),
        "leave out --compat: then tasks queue for free GPUs",
        ("resources",),
    )
