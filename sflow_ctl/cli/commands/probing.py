"""`plan --probe`: starts agents on the nodes of a plan and reports what they find, as `doctor` does. Starts no task."""

import os
import sys

from sflow_ctl.cli.terminal.lines import print_coloured
from sflow_ctl.cli.terminal.paint import wants_colours
from sflow_ctl.doctor.diagnosis import Diagnosis, diagnose, text
from sflow_ctl.plan.copies.task_list import kinds_of
from sflow_ctl.plan.model import Plan
from sflow_ctl.runtime.fleet.inspection import examine
from sflow_ctl.runtime.run.options import RunOptions
from sflow_ctl.runtime.run.planning import PlannedRun


def probe_nodes(planned: PlannedRun, options: RunOptions) -> Diagnosis:
    """Return what is found on the nodes: clocks, CPUs, memory, GPUs, limits, directories. Raises: LaunchError."""
    from sflow_ctl.runtime.slurm.allocation import allocation_of, current_allocation

    fleet, allocation, slurm = options.fleet, None, None
    if fleet.nodes is None:
        allocation = current_allocation(os.environ) if fleet.job_id is None else allocation_of(fleet.job_id)
    if allocation is not None:
        from sflow_ctl.runtime.slurm.facts import slurm_facts

        slurm = slurm_facts(allocation)
    return diagnose(examine(fleet, planned.settings, allocation, slurm, _most_gpus(planned.plan)))


def print_probe(diagnosis: Diagnosis) -> None:
    """Print what was found on the nodes."""
    print_coloured(text(diagnosis, False, wants_colours(sys.stdout.isatty(), os.environ)))


def _most_gpus(plan: Plan) -> int | None:
    """Return the GPUs that a node must have for the largest task; None if no task asks for some."""
    wanted = [
        max(
            task.placement.gpus_per_node,
            len(task.placement.gpus),
            *(gpu + 1 for gpu in task.placement.gpus),
            0,
        )
        for task in kinds_of(plan.tasks)
    ]
    return max(wanted, default=0) or None
