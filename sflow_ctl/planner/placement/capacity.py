"""Finds tasks that can never start because services hold GPUs, and places among `max_running`, until the run ends.

Also warns of more tasks at once than this machine is good for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec import Struct

from protocol.errors import Finding
from protocol.text.counted import counted
from sflow_ctl.plan.copies.task_list import kind_of, parts_of, startable
from sflow_ctl.plan.graph import topological_order
from sflow_ctl.plan.model import Placement, Plan, PlannedNode
from sflow_ctl.planner.findings import UnplannableError

CROWD_PER_CPU = 32
"""More tasks that start at once are too many for a machine, unless they only wait."""
_GPU_PATH = ("resources", "gpus", "count")


class Demand(Struct, frozen=True):
    """What one task as written takes while it runs: all of its replicas if it is a service, else the largest."""

    task: str
    backend: str
    is_service: bool
    keeps: bool
    """It keeps its GPUs when it has ended."""
    replicas: int
    gpus: int
    """GPUs of one replica, the largest, over all of its nodes."""

    @property
    def held(self) -> int:
        """GPUs that it holds until the run ends."""
        return self.gpus * self.replicas if self.is_service or self.keeps else 0


def gpus_taken(placement: Placement) -> int:
    """Return the GPUs of one attempt, over all of its nodes; 0 for a task that shares them."""
    if placement.is_shared:
        return 0
    if placement.is_flexible:
        return placement.node_count * placement.gpus_per_node
    return len(placement.nodes) * len(placement.gpus)


def check_capacity(
    demands: Sequence[Demand],
    depends_on: Mapping[str, Sequence[str]],
    nodes: Mapping[str, Sequence[PlannedNode]],
    max_running: int | None,
) -> list[tuple[str, UnplannableError]]:
    """Return (task, reason) for each task that services leave no room for, with the arithmetic."""
    services = [demand for demand in demands if demand.is_service]
    holders = [demand for demand in demands if demand.is_service or demand.keeps]
    if not holders:
        return []
    problems = []
    for backend, members in nodes.items():
        total = _total(members)
        here = [demand for demand in holders if demand.backend == backend and demand.held]
        if total is not None and sum(demand.held for demand in here) > total:
            what = (
                f'{_who(here)} on backend "{backend}" hold {_sum(here)} GPUs to the end of the run; '
                f"its {len(members)} nodes have only {total} GPUs total"
            )
            hint = f"use fewer {'tasks' if any(one.keeps for one in here) else 'services'}, or fewer GPUs for each"
            problems.append((here[-1].task, UnplannableError("gpus-do-not-fit", what, hint, _GPU_PATH)))
    running = sum(demand.replicas for demand in services)
    if max_running is not None and running > max_running:
        what = f"{running} services run to the end of the run, and only {max_running} tasks may run at once"
        problems.append(
            (services[-1].task, UnplannableError("too-many-services", what, "raise --max-running"))
        )
    if not problems:
        problems += _jobs(demands, holders, depends_on, nodes, max_running)
    return problems


def _jobs(
    demands: Sequence[Demand],
    holders: Sequence[Demand],
    depends_on: Mapping[str, Sequence[str]],
    nodes: Mapping[str, Sequence[PlannedNode]],
    max_running: int | None,
) -> list[tuple[str, UnplannableError]]:
    """Return the tasks that do not fit beside what the tasks that they depend on hold."""
    problems = []
    needed = _holders_needed(holders, depends_on)
    for demand in demands:
        mask = needed[demand.task]
        if demand.is_service or not mask:
            continue
        before = [holder for bit, holder in enumerate(holders) if mask >> bit & 1]
        services = [holder for holder in before if holder.is_service]
        if max_running is not None and sum(service.replicas for service in services) >= max_running:
            names = ", ".join(service.task for service in services[:8])
            what = (
                f'task "{demand.task}" runs beside the services it depends on ({names}), and only {max_running} '
                "tasks may run at once"
            )
            problems.append((demand.task, UnplannableError("too-many-services", what, "raise --max-running")))
            continue
        here = [holder for holder in before if holder.backend == demand.backend and holder.held]
        total = _total(nodes[demand.backend])
        if total is None or not here or not demand.gpus:
            continue
        left = total - sum(holder.held for holder in here)
        if demand.gpus > left:
            what = (
                f'task "{demand.task}" asks for {demand.gpus} GPUs; {_who(here)} it depends on hold {_sum(here)} of {total} '
                f"to the end of the run, only {left} GPUs remain available"
            )
            hint = f"use at most {left}, or more nodes" if left > 0 else "use more nodes, or smaller services"
            problems.append((demand.task, UnplannableError("gpus-do-not-fit", what, hint, _GPU_PATH)))
    return problems


def _holders_needed(holders: Sequence[Demand], depends_on: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return those of `holders` that each task needs, directly or not, as bits: sets would cost quadratic time."""
    own = {holder.task: 1 << bit for bit, holder in enumerate(holders)}
    result: dict[str, int] = {}
    for name in topological_order(depends_on):
        mask = 0
        for other in depends_on[name]:
            mask |= result[other] | own.get(other, 0)
        result[name] = mask
    return result


def _total(nodes: Sequence[PlannedNode]) -> int | None:
    known = [node.gpus for node in nodes if node.gpus is not None]
    return sum(known) if len(known) == len(nodes) else None


def _who(holders: Sequence[Demand]) -> str:
    """Return what the holders of GPUs are."""
    if not any(one.keeps for one in holders):
        return "the services"
    kinds = "services and tasks" if any(one.is_service for one in holders) else "tasks"
    return f"the {kinds} (release_after: workflow_completion)"


def _sum(demands: Sequence[Demand]) -> str:
    """Return the total and where it comes from: "7: 4 (prefill) + 3 × 1 (decode)"."""
    parts = [
        f"{one.replicas} × {one.gpus} ({one.task})" if one.replicas > 1 else f"{one.gpus} ({one.task})"
        for one in demands[:8]
    ]
    more = " + ..." if len(demands) > 8 else ""
    total = sum(demand.held for demand in demands)
    return (
        f"{total} = {' + '.join(parts)}{more}" if len(demands) > 1 or demands[0].replicas > 1 else str(total)
    )


def crowd_warning(plan: Plan, cpus: int) -> Finding | None:
    """Warn of tasks without limits that start at once on this machine, which has so many CPUs; None if they are few.

    They are not held back: tasks without dependencies may talk to each other, and would wait for those that have not started.
    """
    here = {node.index for node in plan.nodes if node.backend_type == "local"}
    counts: Counter[str] = Counter()
    limits: dict[str, int] = {}
    for part in parts_of(plan.tasks):
        task = kind_of(part)
        if task.needs is None and here.issuperset(task.placement.nodes):
            counts[task.base] += startable(part)
            if task.foreach is not None and task.foreach.max_parallel is not None:
                limits[task.base] = task.foreach.max_parallel
    crowd = sum(min(count, limits.get(base, count)) for base, count in counts.items())
    if plan.max_running is not None or crowd <= CROWD_PER_CPU * cpus:
        return None
    what = f"{crowd} tasks may run at once on the {counted(cpus, 'CPU')} of this machine"
    hint = "limit them with workflow.max_running, or give tasks resources: {cpus: 1}"
    return Finding("many-tasks-at-once", what, None, hint)
