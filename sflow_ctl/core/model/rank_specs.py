"""Builds the orders that start the ranks of an attempt, from its filled-in plan. Called by `dispatch` and `reconciliation`."""

from protocol.ids import RankId
from protocol.messages.handover import ATTEMPT_MARK, GIVEN_VALUES
from protocol.messages.rank_spec import RankSpec, Success, TaskFile
from sflow_ctl.core.model.ranks import rank_environments
from sflow_ctl.core.model.readiness import probes_of_rank
from sflow_ctl.core.model.task import Task
from sflow_ctl.plan.assignment import (
    assigned_argv,
    container_on,
    gpu_environment,
    node_variables,
    probes_on,
)
from sflow_ctl.plan.log_paths import earlier_log_path, log_path, rank_log_path
from sflow_ctl.plan.model import Plan, PlannedTask


def rank_specs(task: Task, plan: Plan, stream: bool) -> list[tuple[int, RankSpec]]:
    """Return (node, order) for each rank of the current attempt. `stream` asks for the ranks' output."""
    attempt = task.attempt
    assert attempt.placement is not None
    assert attempt.filled is not None
    planned, name = attempt.filled, task.plan.name
    env = _environment(task, planned)
    nodes = [plan.nodes[index] for index in attempt.placement.nodes]
    argv = planned.argv
    if attempt.placement != task.plan.placement:  # chosen at the start, or another one than planned
        argv = assigned_argv(argv, planned.assigned_arguments, nodes)
        env.update(node_variables(nodes))
        env.update(gpu_environment(attempt.placement.gpus))
    own = rank_environments(planned, nodes, attempt.ports, nodes[0].job_id or plan.job_id)
    is_gang = len(own) > 1
    first_ranks: dict[int, int] = {}
    for rank, node in enumerate(attempt.node_of_rank):
        first_ranks.setdefault(node, rank)
    specs = []
    for rank, extra in enumerate(own):
        node = attempt.node_of_rank[rank]
        is_first_on_node = rank == first_ranks[node]
        specs.append(
            (
                node,
                RankSpec(
                    rank=RankId(task.attempt_id, rank),
                    argv=argv,
                    launch_kind=planned.launch_kind,
                    env={**env, **extra},
                    cwd=planned.cwd,
                    log=rank_log_path(name, rank) if is_gang else log_path(name),
                    earlier_log=_earlier_log(task, rank if is_gang else None),
                    stopping=task.plan.stopping,
                    hang=task.plan.hang,
                    probes=()
                    if not (planned.probes or attempt.probes_on)
                    else probes_on(
                        probes_of_rank(
                            attempt.probes_on.get(node, planned.probes),
                            is_first=rank == 0,
                            is_first_on_node=is_first_on_node,
                            world_size=len(own),
                        ),
                        plan.nodes[node],
                    ),
                    stream=stream or is_gang,
                    gpus=attempt.gpus,
                    container=container_on(planned.container, plan.nodes[node]),
                    bootstrap=planned.bootstrap,
                    required_paths=planned.required_paths,
                    files=_files(task, rank, is_first_on_node=is_first_on_node),
                    success=success_of_rank(planned.success, rank),
                    success_exit_codes=planned.success_exit_codes,
                    labels="none" if is_gang else planned.log_labels,
                    is_log_direct=planned.is_log_direct,
                ),
            )
        )
    return specs


def _environment(task: Task, planned: PlannedTask) -> dict[str, str]:
    """Return the variables that all ranks of the current attempt have in common."""
    env = {**planned.environment, "SFLOW_ATTEMPT": str(task.attempt.number), **task.run_env}
    if planned.found:
        env["SFLOW_OUTPUTS_FILE"] = f"{env['SFLOW_TASK_OUTPUT_DIR']}/{GIVEN_VALUES}"
    if planned.checkpoint is not None:
        from sflow_ctl.plan.parts.checkpoint_view import checkpoint_variables  # few tasks have any

        env |= checkpoint_variables(planned.checkpoint, task.attempt.checkpoint, env)
    return env


def _files(task: Task, rank: int, *, is_first_on_node: bool) -> tuple[TaskFile, ...]:
    """Return the files that are written before a rank starts; that of the first rank dates the attempt's outputs."""
    files = task.attempt.files if is_first_on_node else ()
    if not task.plan.found or rank:
        return files
    content = f"{task.attempt.number}\n"
    return (*files, TaskFile(path=ATTEMPT_MARK, content=content, is_in_task_directory=True))


def _earlier_log(task: Task, rank: int | None) -> str | None:
    number = task.attempt.number
    return earlier_log_path(task.plan.name, number - 1, rank) if number > 1 else None


def success_of_rank(success: Success | None, rank: int) -> Success | None:
    """Return the conditions that a rank is checked against: all for the first, `forbid` for the others."""
    if success is None or rank == 0:
        return success
    return Success(forbid=success.forbid) if success.forbid else None
