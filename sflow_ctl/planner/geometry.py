"""How many processes of a task run on each of its nodes: the format's process geometry (6.4), as srun lays them out."""

from collections.abc import Callable
from typing import Any

from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import NumberError, as_int
from sflow_ctl.planner.operators import Command
from sflow_ctl.planner.plan import Launcher, Placement
from sflow_ctl.spec import schema

MAX_RANKS = 100_000
STEP_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_JOBID", "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_STEP_NUM_NODES",
    "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "SLURM_PROCID",
    "SLURM_LOCALID", "SLURM_NODEID", "SLURMD_NODENAME",
)  # fmt: skip
"""What a rank finds of its task's own geometry where srun, or Slurm's backend, is the way it is started (17.2)."""


def plan_launcher(
    task: schema.Task, value: Callable[[Any], Any], placement: Placement, how: Command
) -> Launcher | None:
    """What the task's script launches its processes by; there is one process of ours on each of its nodes then.

    Raises: UnplannableError, NumberError.
    """
    if task.launcher is None:
        return None
    launcher = schema.Launcher(type=task.launcher) if isinstance(task.launcher, str) else task.launcher
    kind = launcher.type
    if kind == "none":
        if launcher.nproc is not None:
            raise _problem(task, "launcher is none, and nproc is what a launcher starts", "drop nproc")
        return None
    if how.kind == "ssh" or how.argv[0] == "srun":
        whose = (
            "runs on another machine" if how.kind == "ssh" else "is a job step, whose processes Slurm starts"
        )
        hint = "drop launcher, or use an operator whose processes an agent starts"
        raise _problem(task, f"launcher {kind}: the task {whose}", hint)
    nodes = placement.node_count if placement.is_flexible else len(placement.nodes)
    if kind == "mpirun" and nodes > 1:
        what = f"launcher mpirun: the task has {nodes} nodes, and mpirun has no way to the others"
        hint = (
            "give it one node, or an srun operator with `mpi: pmix` (or pmi2), which is a job step of its own"
        )
        raise _problem(task, what, hint)
    processes = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    if launcher.nproc is not None:
        try:
            processes = as_int(value(launcher.nproc), 1)
        except NumberError as error:
            raise _problem(
                task, f"nproc of its launcher {error}", "it counts processes on each node"
            ) from error
    return Launcher(kind=kind, processes=processes or 1)


def _problem(task: schema.Task, what: str, hint: str) -> UnplannableError:
    return UnplannableError("launcher", f'task "{task.name}": {what}', hint, ("launcher",))


def ranks_per_node(operator: schema.Operator | None, nodes: int) -> tuple[int, ...]:
    """Processes on each of a task's nodes, in their order; fewer entries than nodes when not all are needed.

    Blocks, as even as they go: the first nodes have one more. Raises: UnplannableError, NumberError.
    """
    ntasks = None if operator is None or operator.ntasks is None else as_int(operator.ntasks, 1)
    per_node = (
        None if operator is None or operator.ntasks_per_node is None else as_int(operator.ntasks_per_node, 1)
    )
    if operator is not None and operator.nodes:
        nodes = min(nodes, as_int(operator.nodes, 1))
    total = ntasks if ntasks is not None else nodes * (per_node or 1)
    if total > MAX_RANKS:
        what = f"{total} processes of one task are more than {MAX_RANKS}"
        raise UnplannableError("too-many-ranks", what, path=("operator",))
    if per_node is not None and total > nodes * per_node:
        what = f"ntasks {total} do not fit on {nodes} nodes with ntasks_per_node {per_node}"
        raise UnplannableError("ranks-do-not-fit", what, f"at most {nodes * per_node}", ("operator",))
    used = min(nodes, total)
    return tuple(total // used + (index < total % used) for index in range(used))
