"""The ranks of an attempt: the node of each, and its environment."""

from collections.abc import Mapping, Sequence

from protocol.messages.rank_spec import LaunchKind
from sflow_ctl.plan.model import PlannedNode, PlannedTask

MASTER = "master"
"""The rendezvous port of a gang's ranks, on its first node."""


_SINGLE = {
    "SFLOW_WORLD_SIZE": "1",
    "SFLOW_RANK": "0",
    "SFLOW_LOCAL_RANK": "0",
    "SFLOW_NODE_RANK": "0",
    "SFLOW_TASK_PROCESS_ID": "0",
    "SFLOW_TASK_LOCAL_PROCESS_ID": "0",
    "SFLOW_TASK_NODE_INDEX": "0",
    "SFLOW_TASK_NUM_PROCESSES": "1",
}
"""Positions of a rank that is its task's only one."""


def node_positions(ranks_per_node: Sequence[int]) -> list[int]:
    """Return, for each rank, the index of its node among the task's: blocks, in order."""
    return [position for position, count in enumerate(ranks_per_node) for _ in range(count)]


def rank_environments(
    task: PlannedTask,
    nodes: Sequence[PlannedNode],
    ports: Mapping[int, Mapping[str, Sequence[int]]],
    job_id: str | None,
) -> list[dict[str, str]]:
    """Return the variables of each rank besides those of its task.

    `nodes` are the task's, in order; `ports` is by node. `SLURM_...` as srun sets it, relative to the task
    (the format, 17.2), where the plan requires it.
    """
    counts = task.ranks_per_node
    if (
        len(counts) == 1
        and counts[0] == 1
        and not (ports or task.has_step_variables or task.launcher or task.ports)
    ):
        return [_of_single(nodes[0], task.launch_kind)]
    world = sum(counts)
    used = nodes[: len(counts)]
    is_step = task.launch_kind == "step"  # Slurm starts the processes: the step's script sets their positions
    common = {} if _lacks_address(used[0]) else {"SFLOW_MASTER_ADDR": used[0].address}
    if not is_step:
        common["SFLOW_WORLD_SIZE"] = str(world)
    master = ports.get(used[0].index, {}).get(MASTER)
    if master is not None:
        common["SFLOW_MASTER_PORT"] = str(master[0])
    names = [block.name for block in task.ports]
    if task.has_step_variables:
        common |= _step_environment(counts, used, world, job_id)
    result = []
    first = dict.fromkeys(range(len(counts)), 0)
    for rank, position in enumerate(node_positions(counts)):
        local = first[position]
        first[position] += 1
        own = {} if is_step else _position(rank, local, position, world)
        if task.has_step_variables:
            own |= {"SLURM_PROCID": rank, "SLURM_LOCALID": local, "SLURM_NODEID": position}
        env = {**common, **{name: str(value) for name, value in own.items()}}
        if not is_step:
            if not _lacks_address(used[position]):
                env["SFLOW_NODE_IP"] = used[position].address
            env["SFLOW_TASK_NODE_NAME"] = used[position].name
        if task.launcher is not None:
            env |= _launcher_environment(task, position, common)
        here = ports.get(used[position].index, {})
        for name in names:
            env[f"SFLOW_PORT_{name.upper()}"] = str(here[name][0])
            env[f"SFLOW_PORTS_{name.upper()}"] = ",".join(map(str, here[name]))
        if task.has_step_variables:
            env["SLURMD_NODENAME"] = used[position].name
        result.append(env)
    return result


def _of_single(node: PlannedNode, launch_kind: LaunchKind) -> dict[str, str]:
    """Return the variables of a rank that is its task's only one and has no ports: most are."""
    address = {} if _lacks_address(node) else {"SFLOW_MASTER_ADDR": node.address}
    if launch_kind == "step":
        return address
    if address:
        address["SFLOW_NODE_IP"] = node.address
    return {**_SINGLE, **address, "SFLOW_TASK_NODE_NAME": node.name}


def _lacks_address(node: PlannedNode) -> bool:
    """Return whether the address of a docker backend's host is unknown."""
    return node.engine_host is not None and not node.is_reachable


def _position(rank: int, local: int, node: int, world: int) -> dict[str, int]:
    """Return the position of a process under our names and those of sflow."""
    return {
        "SFLOW_RANK": rank,
        "SFLOW_LOCAL_RANK": local,
        "SFLOW_NODE_RANK": node,
        "SFLOW_TASK_PROCESS_ID": rank,
        "SFLOW_TASK_LOCAL_PROCESS_ID": local,
        "SFLOW_TASK_NODE_INDEX": node,
        "SFLOW_TASK_NUM_PROCESSES": world,
    }


def _launcher_environment(task: PlannedTask, node_rank: int, common: Mapping[str, str]) -> dict[str, str]:
    """Return variables in place of a launcher's options, which the task's own variables override.

    Sources: torch/distributed/run.py and argparse_util.py, PyTorch 2 (`PET_` and an option's name is its
    default; the static rendezvous is the default one); mpiexec(1), MPICH 4 (HYDRA_); mpirun(1), Open MPI 4
    (OMPI_MCA_) and 5 (PRTE_MCA_).
    """
    assert task.launcher is not None
    processes = str(task.launcher.processes)
    match task.launcher.kind:
        case "torchrun":
            address = common["SFLOW_MASTER_ADDR"]
            env = {
                "PET_NNODES": str(len(task.ranks_per_node)),
                "PET_NODE_RANK": str(node_rank),
                "PET_NPROC_PER_NODE": processes,
                "PET_MASTER_ADDR": f"[{address}]" if ":" in address else address,
                "PET_MASTER_PORT": common["SFLOW_MASTER_PORT"],
            }
        case "mpirun":  # on this node, and not through the Slurm job that its environment names
            env = {
                "SFLOW_NPROC": processes,
                "HYDRA_LAUNCHER": "fork",
                "HYDRA_RMK": "user",
                "OMPI_MCA_plm": "isolated",
                "OMPI_MCA_ras": "^slurm",
                "OMPI_MCA_rmaps_base_oversubscribe": "1",
                "PRTE_MCA_plm": "ssh",
                "PRTE_MCA_ras": "^slurm",
                "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            }
    return {name: value for name, value in env.items() if name not in task.env}


def _step_environment(
    counts: Sequence[int], nodes: Sequence[PlannedNode], world: int, job_id: str | None
) -> dict[str, str]:
    names = ",".join(node.name for node in nodes)
    env = {
        "SLURM_NTASKS": str(world),
        "SLURM_NPROCS": str(world),
        "SLURM_NNODES": str(len(nodes)),
        "SLURM_STEP_NUM_NODES": str(len(nodes)),
        "SLURM_STEP_NODELIST": names,
        "SLURM_STEP_NUM_TASKS": str(world),
        "SLURM_STEP_TASKS_PER_NODE": tasks_per_node(counts),
        "SLURM_TASKS_PER_NODE": tasks_per_node(counts),
    }
    if job_id is not None:
        env |= {"SLURM_JOB_ID": job_id, "SLURM_JOBID": job_id}
    return env


def tasks_per_node(counts: Sequence[int]) -> str:
    """Return Slurm's spelling: `2(x3),1`."""
    groups: list[tuple[int, int]] = []
    for count in counts:
        if groups and groups[-1][0] == count:
            groups[-1] = (count, groups[-1][1] + 1)
        else:
            groups.append((count, 1))
    return ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in groups)
