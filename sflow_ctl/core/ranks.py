"""The ranks of an attempt: which node each is on, and what it finds in its environment."""

from collections.abc import Mapping, Sequence

from sflow_ctl.planner.plan import PlannedNode, PlannedTask

MASTER = "master"
"""The port that the ranks of a gang meet at, on its first node."""


def node_positions(ranks_per_node: Sequence[int]) -> list[int]:
    """For each rank, which of the task's nodes it is on: blocks, in order."""
    return [position for position, count in enumerate(ranks_per_node) for _ in range(count)]


def rank_environments(
    task: PlannedTask,
    nodes: Sequence[PlannedNode],
    ports: Mapping[int, Mapping[str, Sequence[int]]],
    job_id: str | None,
) -> list[dict[str, str]]:
    """What each rank has beside the environment of its task. `nodes` are the task's, in order; `ports` is by node.

    `SLURM_...` as srun sets it, relative to the task (the format, 17.2), where the plan says so.
    """
    counts = task.ranks_per_node
    world = sum(counts)
    used = nodes[: len(counts)]
    common = {
        "SFLOW_WORLD_SIZE": str(world),
        "SFLOW_MASTER_ADDR": used[0].address,
    }
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
        own = {"SFLOW_RANK": rank, "SFLOW_LOCAL_RANK": local, "SFLOW_NODE_RANK": position}
        if task.has_step_variables:
            own |= {"SLURM_PROCID": rank, "SLURM_LOCALID": local, "SLURM_NODEID": position}
        env = {**common, **{name: str(value) for name, value in own.items()}}
        here = ports.get(used[position].index, {})
        for name in names:
            env[f"SFLOW_PORT_{name.upper()}"] = str(here[name][0])
            env[f"SFLOW_PORTS_{name.upper()}"] = ",".join(map(str, here[name]))
        if task.has_step_variables:
            env["SLURMD_NODENAME"] = used[position].name
        result.append(env)
    return result


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
    """Slurm's spelling: `2(x3),1`."""
    groups: list[tuple[int, int]] = []
    for count in counts:
        if groups and groups[-1][0] == count:
            groups[-1] = (count, groups[-1][1] + 1)
        else:
            groups.append((count, 1))
    return ",".join(str(count) if times == 1 else f"{count}(x{times})" for count, times in groups)
