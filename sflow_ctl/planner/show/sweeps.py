"""Writes the cells of the sweeps of a plan, in their order. Called for plans that have some."""

from collections.abc import Iterator, Sequence

from protocol.text.counted import counted
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan, PlannedTask
from sflow_ctl.plan.parts.cells import PlannedSweep

MAX_CELLS = 20
"""Of a sweep with more, the first are shown."""


def sweep_lines(plan: Plan) -> Iterator[str]:
    """Yield the lines about all sweeps."""
    for sweep in plan.sweeps:
        of = f" of task {sweep.owner}" if sweep.owner else ""
        count = str(sweep.cells) if sweep.cells == sweep.total else f"{sweep.cells} of {sweep.total}"
        yield ""
        yield f"Sweep{of}: {count} cell{'' if sweep.total == 1 else 's'}{_order(sweep)}"
        if limits := _limits(sweep):
            yield f"  {limits}"
        first = _first_of_each(plan, sweep.owner)
        width = max((len(task.cell.label) for task in first if task.cell is not None), default=0)
        for task in first:
            assert task.cell is not None
            values = ", ".join(f"{name}={value}" for name, value in task.sweep)
            yield f"  {task.cell.index:>3}  {task.cell.label:<{width}}  {task.cell.id}  {values}"
        if sweep.cells > len(first):
            yield f"  ... and {sweep.cells - len(first)} more: plan --json has all"


def _order(sweep: PlannedSweep) -> str:
    if not sweep.axes:
        return ", in the order of the file"
    if len(sweep.axes) == 1:
        return f" over {sweep.axes[0]}"
    return f" over {', '.join(sweep.axes)}, of which {sweep.axes[-1]} varies fastest"


def _limits(sweep: PlannedSweep) -> str:
    limits = []
    if sweep.max_parallel is not None:
        limits.append(f"{counted(sweep.max_parallel, 'cell')} at once")
    if sweep.gpu_budget is not None:
        limits.append(f"{counted(sweep.gpu_budget, 'GPU')} at once")
    return f"at most {', '.join(limits)}" if limits else ""


def _first_of_each(plan: Plan, owner: str) -> Sequence[PlannedTask]:
    """Return one task of each of the first cells, in their order."""
    found: dict[int, PlannedTask] = {}
    for task in kinds_of(plan.tasks):
        if task.cell is not None and task.cell.owner == owner and task.cell.index < MAX_CELLS:
            found.setdefault(task.cell.index, task)
    return [found[index] for index in sorted(found)]
