"""`launcher`: a task whose script starts its processes with torchrun or mpirun, once on each of its nodes."""

from collections.abc import Callable, Sequence
from typing import Any

from protocol.text.counted import counted
from protocol.text.lazy_pattern import lazy_pattern
from sflow_ctl.format import schema
from sflow_ctl.plan.model import Placement
from sflow_ctl.plan.parts.launcher import Launcher
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.command import Command
from sflow_ctl.planner.numbers import NumberError, as_count

_STANDALONE = lazy_pattern(
    r"\btorchrun\b[^\n;&|]*\s--standalone\b|\btorch\.distributed\.run\b[^\n;&|]*\s--standalone\b"
)


def plan_launcher(
    task: schema.Task, value: Callable[[Any], Any], placement: Placement, how: Command, script: str
) -> Launcher | None:
    """Return the launcher that the task's script calls; the agents then start one process on each of its nodes.

    Raises: UnplannableError, NumberError.
    """
    if task.launcher is None:
        return None
    launcher = schema.Launcher(type=task.launcher) if isinstance(task.launcher, str) else task.launcher
    kind = launcher.type
    if kind == "none":
        if launcher.nproc is not None:
            raise _problem(
                task, "nproc counts the processes of a launcher, and the launcher is none", "drop nproc"
            )
        return None
    if how.launch_kind != "process":
        is_step = how.launch_kind == "step"
        whose = "is a job step, whose processes Slurm starts" if is_step else "runs on another machine"
        hint = "drop launcher, or use an operator whose processes an agent starts"
        raise _problem(task, f"launcher {kind}: the task {whose}", hint)
    nodes = placement.node_count if placement.is_flexible else len(placement.nodes)
    if kind == "mpirun" and nodes > 1:
        count = counted(nodes, "node")
        what = f"launcher mpirun: the task has {count}, and mpirun cannot start processes on the others"
        hint = "give it one node, or an srun operator with `mpi: pmix` (or pmi2), which runs as a job step"
        raise _problem(task, what, hint)
    if kind == "torchrun" and nodes > 1 and _STANDALONE.search(script.replace("\\\n", " ")):
        what = f"torchrun --standalone makes each node a job of its own, and the task has {counted(nodes, 'node')}"
        raise _problem(
            task, what, "remove --standalone, or give the task one node: resources: {nodes: {count: 1}}"
        )
    processes = placement.gpus_per_node if placement.is_flexible else len(placement.gpus)
    if launcher.nproc not in (None, "auto"):
        try:
            processes = as_count(value(launcher.nproc), 1)
        except NumberError as error:
            raise _problem(
                task, f"nproc of its launcher {error}", "it counts processes on each node"
            ) from error
    return Launcher(kind=kind, processes=processes or 1)


def _problem(task: schema.Task, what: str, hint: str) -> UnplannableError:
    return UnplannableError("launcher", f'task "{task.name}": {what}', hint, ("launcher",))


def once_per_node(task: schema.Task, launcher: Launcher, nodes: int, asked: Sequence[int]) -> tuple[int, ...]:
    """Return one process for each node; `asked` is what the operator asks for. Raises: UnplannableError."""
    if max(asked) > 1 or 1 < len(asked) < nodes:
        what = (
            f"{launcher.kind} is started once per node, but the operator asks for another number of processes"
        )
        hint = "drop ntasks, ntasks_per_node and nodes of the operator; nproc counts what it starts"
        raise _problem(task, what, hint)
    return (1,) * nodes
