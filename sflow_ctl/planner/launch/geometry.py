"""Computes how many processes of a task run on each of its nodes.

The format's process geometry (6.4), as srun lays them out.
"""

from protocol.text.counted import counted
from sflow_ctl.format import schema
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_count, at

MAX_RANKS = 100_000
STEP_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_STEP_NUM_NODES",
    "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_PROCID",
    "SLURM_LOCALID", "SLURM_NODEID", "SLURMD_NODENAME",
)  # fmt: skip
"""Variables with the geometry of its task that a rank gets where srun, or Slurm's backend, starts it (17.2)."""


def ranks_per_node(operator: schema.Operator | None, nodes: int) -> tuple[int, ...]:
    """Return the number of processes on each of a task's nodes, in order; nodes that are not needed are left out.

    Blocks as even as possible: the first nodes have one more.

    Raises: UnplannableError, NumberError.
    """
    ntasks, per_node = (_count(operator, field) for field in ("ntasks", "ntasks_per_node"))
    if operator is not None and operator.nodes:
        nodes = min(nodes, at(("operator", "nodes"), as_count, operator.nodes, 1))
    total = ntasks if ntasks is not None else nodes * (per_node or 1)
    if total > MAX_RANKS:
        what = f"{total} processes of one task are more than {MAX_RANKS}"
        raise UnplannableError("too-many-ranks", what, path=("operator",))
    if per_node is not None and total > nodes * per_node:
        what = f"ntasks {total} do not fit on {counted(nodes, 'node')} with ntasks_per_node {per_node}"
        raise UnplannableError("ranks-do-not-fit", what, f"at most {nodes * per_node}", ("operator",))
    used = min(nodes, total)
    return tuple(total // used + (index < total % used) for index in range(used))


def _count(operator: schema.Operator | None, field: str) -> int | None:
    written = None if operator is None else getattr(operator, field)
    return None if written is None else at(("operator", field), as_count, written, 1)
