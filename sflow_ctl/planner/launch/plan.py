"""Plans how one concrete task is launched: its command line, its processes on each node, and what they share.

The command line is in `command.py`, the number of processes in `geometry.py`, torchrun and mpirun in
`launchers.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from protocol.messages.rank_spec import Bootstrap, Container, LaunchKind
from protocol.text.counted import counted
from sflow_ctl.format import schema
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.plan.parts.launcher import AssignedArgument, Launcher
from sflow_ctl.planner.findings import Findings, UnplannableError
from sflow_ctl.planner.hidden_values import SCRIPT_VARIABLE, without_secrets
from sflow_ctl.planner.launch.arguments import replaced_arguments
from sflow_ctl.planner.launch.command import Command, command, merged_operator
from sflow_ctl.planner.launch.containers import operator_of_backend
from sflow_ctl.planner.launch.geometry import ranks_per_node
from sflow_ctl.planner.launch.launchers import once_per_node, plan_launcher
from sflow_ctl.planner.launch.srun import Step, chooses_nodes
from sflow_ctl.planner.launch.ssh import SCRIPT
from sflow_ctl.planner.numbers import as_flag, as_seconds, at
from sflow_ctl.planner.phases.artifacts import PlannedArtifacts
from sflow_ctl.planner.phases.backends import PlannedBackends
from sflow_ctl.planner.phases.nodes import job_of
from sflow_ctl.planner.placement.placed import PlacedTask
from sflow_ctl.planner.source import PlanInput

if TYPE_CHECKING:
    from sflow_ctl.planner.context import PlanContext
    from sflow_ctl.planner.launch.plugins import PluginRendering

MAX_ARGUMENT_BYTES = (128 << 10) - 1 - 64
"""The limit of one argument, or one NAME=VALUE, less what an agent writes before the script of a job step.

Source: execve(2), MAX_ARG_STRLEN, less its NUL.
"""
MAX_TOTAL_BYTES = 6 << 20
"""The limit of all arguments and variables together, whatever the stack's limit is. With the usual stack of 8 MiB it is 2 MiB.

Source: execve(2), "Limits on size of arguments and environment"; Linux's _STK_LIM.
"""
MASTER_PORT = "SFLOW_MASTER_PORT"
"""A task of one process leases a rendezvous port only if its script names this variable: leasing costs a
message.
"""
_SHARED_DIRECTORIES = (
    "SFLOW_WORKSPACE_DIR", "SFLOW_OUTPUT_DIR", "SFLOW_WORKFLOW_OUTPUT_DIR", "SFLOW_TASK_OUTPUT_DIR",
)  # fmt: skip
"""Variables with directories that a container sees at the same path as its node."""


class LaunchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a planned task about how its processes are started. Meanings: `PlannedTask`."""

    operator: str
    operator_kind: str
    launch_kind: LaunchKind
    argv: tuple[str, ...]
    chooses_step_nodes: bool
    assigned_arguments: tuple[AssignedArgument, ...]
    env: dict[str, str]
    cwd: str | None
    container: Container | None
    bootstrap: Bootstrap | None
    has_step_variables: bool
    ranks_per_node: tuple[int, ...]
    launcher: Launcher | None
    kill_on_bad_exit: bool
    wait_s: float | None
    has_master_port: bool


class LaunchSetting(Struct, frozen=True):
    """The facts that all tasks are launched with."""

    source: PlanInput
    operators: Mapping[str, schema.Operator]
    backends: PlannedBackends
    mounts: tuple[str, ...]
    """Directories of artifacts that containers mount."""
    is_heterogeneous: bool
    """The run is in a heterogeneous job."""

    @classmethod
    def of(cls, source: PlanInput, backends: PlannedBackends, artifacts: PlannedArtifacts) -> "LaunchSetting":
        """Collect the setting from earlier phases."""
        return cls(
            source,
            {operator.name: operator for operator in source.document.operators},
            backends,
            artifacts.mounts,
            any(node.het_group is not None for node in source.context.job_nodes or ()),
        )


def plan_launch(
    setting: LaunchSetting,
    placed: PlacedTask,
    value: Callable[[Any], Any],
    nodes: Sequence[PlannedNode],
    env: Mapping[str, str],
    script: str,
) -> LaunchPlan:
    """Plan how a copy of a task is started. `nodes` are empty while its placement is flexible.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    task = placed.task
    operator = merged_operator(task, setting.operators, value)
    directories = [*setting.mounts, *(env[name] for name in _SHARED_DIRECTORIES)]
    context = setting.source.context
    is_on_docker = placed.backend.type == "docker"
    if operator is None and is_on_docker:
        operator = operator_of_backend(placed.backend, value)
    bootstrap, env, inside = _environment(setting, placed, value, operator, env)
    how = _how(setting, placed, value, script, inside) or command(
        task,
        operator,
        placed.backend,
        script,
        env,
        directories,
        _step(setting, placed, nodes, directories),
        context.container_engine,
        replaced_arguments(context.extra_args if is_on_docker else (), context.docker_args),
        is_strict=context.is_strict,
        inside=inside,
        plugins=partial(plugin_rendering, context, placed, nodes, env),
    )
    is_step_like = how.operator_kind == "srun" and how.launch_kind == "process"
    is_on_slurm = placed.backend.type == "slurm"
    is_contained = is_on_docker and how.container is not None
    is_plain = operator is None and how.launch_kind == "process" and not placed.is_elsewhere
    has_geometry = is_step_like or is_contained or is_plain
    is_gang = has_geometry and (
        is_on_slurm or is_contained or not setting.source.rules.local_tasks_have_one_process
    )
    ranks = ranks_per_node(operator, placed.node_count) if is_gang else (1,)
    launcher = plan_launcher(task, value, placed.placement, how, script)
    if launcher is not None:
        ranks = once_per_node(task, launcher, placed.node_count, ranks)
    _check_required(placed, operator, how, ranks, launcher)
    of_gang = operator if is_gang else None
    argv, hidden = without_secrets(how.argv, script, how.operator_kind)
    _refuse_too_large(task, argv, {**env, **how.env, **hidden})
    return LaunchPlan(
        operator=how.name,
        operator_kind=how.operator_kind,
        launch_kind=how.launch_kind,
        argv=argv,
        chooses_step_nodes=operator is not None and how.launch_kind == "step" and chooses_nodes(operator),
        assigned_arguments=how.assigned_arguments,
        env={**env, **how.env, **hidden},
        cwd=how.cwd,
        container=how.container,
        bootstrap=bootstrap
        if bootstrap is None or how.launch_kind == "process"
        else msgspec.structs.replace(bootstrap, is_inside=True),
        has_step_variables=is_step_like or (how.launch_kind == "ssh" and is_on_slurm),
        ranks_per_node=ranks,
        launcher=launcher,
        kill_on_bad_exit=_kills_on_bad_exit(launcher, of_gang),
        wait_s=at(("operator", "wait"), as_seconds, of_gang.wait)
        if of_gang is not None and of_gang.wait
        else None,
        has_master_port=_has_master_port(how, ranks, launcher, script),
    )


def _how(
    setting: LaunchSetting,
    placed: PlacedTask,
    value: Callable[[Any], Any],
    script: str,
    inside: Callable[[str], str] | None,
) -> Command | None:
    """Return how the work of a task is watched that is done elsewhere; None for others."""
    if not placed.is_elsewhere:
        return None
    from sflow_ctl.planner.launch.jobs import job_command  # few tasks are

    find = setting.source.context.find_plugin
    return job_command(placed, value, inside(script) if inside else script, find)


def plugin_rendering(
    context: "PlanContext", placed: PlacedTask, nodes: Sequence[PlannedNode], env: Mapping[str, str]
) -> "PluginRendering":
    """Return what plug-ins need to know about a replica; `nodes` are empty while its placement is flexible."""
    from sflow_ctl.planner.launch.plugins import rendering_of  # few tasks have any

    return rendering_of(context, placed, nodes, env)


def _check_required(
    placed: PlacedTask,
    operator: schema.Operator | None,
    how: Command,
    ranks: Sequence[int],
    launcher: Launcher | None,
) -> None:
    """Refuse a task that must be distributed, and is not. Raises: UnplannableError, NumberError."""
    if placed.task.requires is None:
        return
    started = ranks_per_node(operator, placed.node_count) if how.launch_kind == "step" else ranks
    if sum(started) * (1 if launcher is None else launcher.processes) > 1:
        return
    what = f'task "{placed.task.name}" requires several processes, and one would start'
    hint = "give it more GPUs or nodes with a launcher, or an srun operator with ntasks_per_node"
    raise UnplannableError("not-distributed", what, hint, ("requires",))


def _kills_on_bad_exit(launcher: Launcher | None, operator: schema.Operator | None) -> bool:
    """Return whether one failed process ends the others; those of a launcher would wait for it until their own timeout."""
    if launcher is not None or operator is None:
        return launcher is not None
    return at(("operator", "kill_on_bad_exit"), as_flag, operator.kill_on_bad_exit or False)


def _environment(
    setting: LaunchSetting,
    placed: PlacedTask,
    value: Callable[[Any], Any],
    operator: schema.Operator | None,
    env: Mapping[str, str],
) -> tuple[Bootstrap | None, Mapping[str, str], Callable[[str], str] | None]:
    """Return what sets up the task's environment, its variables with those that this needs, and what a script calls it with.

    Raises: UnplannableError, NumberError, ExpressionError.
    """
    document = setting.source.document
    if placed.task.python is not None:
        from sflow_ctl.planner.launch.python.python_tasks import python_variables  # few tasks are functions

        env = {**env, **python_variables(placed.task)}
    if placed.task.packages or document.workflow.packages:
        from sflow_ctl.planner.handover.packages import package_variables, packages_of  # few files have some

        context = setting.source.context
        packages = packages_of(placed.task, document.workflow, context, value)
        env = {**env, **package_variables(packages, context, env)}
    if placed.task.environment is None and document.workflow.environment is None:
        return None, env, None
    from sflow_ctl.planner.launch.environments import calling, plan_environment  # many files have none

    bootstrap, more = plan_environment(document, placed, value, operator)
    return (None, env, None) if bootstrap is None else (bootstrap, {**env, **more}, calling)


def _refuse_too_large(task: schema.Task, argv: Sequence[str], env: Mapping[str, str]) -> None:
    """Refuse a script or a variable that is too large to start a process with. Raises: UnplannableError."""
    characters = sum(map(len, argv)) + sum(map(len, env)) + sum(map(len, env.values())) + len(env)
    if 4 * characters <= MAX_ARGUMENT_BYTES:
        return  # nearly all tasks take this branch; the widest character has 4 bytes
    longest = max(range(len(task.script)), key=lambda index: len(task.script[index]), default=0)
    for word in argv:
        if (size := _size(word)) > MAX_ARGUMENT_BYTES:
            raise _too_large(task, "its script", size, ("script", longest))
    for name, value in env.items():
        if (size := _size(value) + len(name) + 1) > MAX_ARGUMENT_BYTES:
            if name in (SCRIPT, SCRIPT_VARIABLE):
                raise _too_large(task, "its script", size, ("script", longest))
            raise _too_large(task, f"${name}", size, ())
    if characters > MAX_TOTAL_BYTES:
        raise _too_large(task, "its script and environment together", characters, (), MAX_TOTAL_BYTES, "all")


def _too_large(
    task: schema.Task,
    subject: str,
    size: int,
    path: tuple[str | int, ...],
    limit: int = MAX_ARGUMENT_BYTES,
    of: str = "one piece",
) -> UnplannableError:
    what = f'task "{task.name}": {subject} has {size} bytes; Linux passes at most {limit} in {of}'
    hint = "put the text into a file: `files` of the task, or an artifact with content"
    return UnplannableError("script-too-large", what, hint, path)


def _size(text: str) -> int:
    """Return the bytes of a text; its characters where even the widest ones would fit."""
    return len(text) if len(text) * 4 <= MAX_ARGUMENT_BYTES else len(text.encode(errors="surrogateescape"))


def _has_master_port(how: Command, ranks: Sequence[int], launcher: Launcher | None, script: str) -> bool:
    """Return whether the first node leases a port at which the task's processes meet."""
    if launcher is not None and launcher.kind == "torchrun":
        return True
    return sum(ranks) > 1 or how.launch_kind == "step" or (how.launch_kind != "ssh" and MASTER_PORT in script)


def _step(
    setting: LaunchSetting, placed: PlacedTask, nodes: Sequence[PlannedNode], directories: Sequence[str]
) -> Step | None:
    """Return the job step that the task would need; None away from Slurm."""
    context = setting.source.context
    if placed.backend.type != "slurm" or context.nodes_override is not None:
        return None
    het_groups: tuple[str, ...] = ()
    if setting.is_heterogeneous:
        groups = {setting.backends.nodes[index].het_group or 0 for index in placed.placement.nodes}
        het_groups = tuple(map(str, sorted(groups)))
    resources = placed.task.resources
    return Step(
        task=placed.replica.name,
        job_id=job_of(setting.backends.nodes_of[placed.backend.name], context),
        nodes=tuple(node.name for node in nodes),
        node_count=placed.node_count,
        het_groups=het_groups,
        mounts=tuple(f"{path}:{path}:rw" for path in directories),
        has_gpus=resources is not None and resources.gpus is not None,
    )


def warn_of_idle_gpus(placed: PlacedTask, launch: LaunchPlan, findings: Findings) -> None:
    """Warn where GPUs are reserved on nodes on which no process of the task starts."""
    used, count = len(launch.ranks_per_node), placed.node_count
    has_gpus = placed.placement.gpus or placed.placement.gpus_per_node
    if launch.launch_kind == "step" or used >= count or not has_gpus:
        return
    task = placed.task
    what = (
        f'task "{task.name}" reserves GPUs on {counted(count, "node")} and starts processes on {used} of them'
    )
    hint = (
        "the backend's own operator, an srun operator or a launcher starts one on each node; "
        "or ask for the GPUs of one node"
    )
    findings.warn("idle-gpus", what, findings.loaded.where("tasks", task.name, "resources"), hint)


def refuse_elsewhere(task: schema.Task, launch: LaunchPlan) -> None:
    """Refuse fields that only the agent of a node can honour. Raises: UnplannableError."""
    if launch.launch_kind != "ssh":
        return
    for name, what in (
        ("ports", "leased"),
        ("files", "written"),
        ("args_json", "written"),
        ("checkpoint", "looked for"),
    ):
        if getattr(task, name):
            text = f'task "{task.name}": its {name} would be {what} by the agent of a node, and ssh runs it elsewhere'
            raise UnplannableError("needs-agent", text, f"drop {name}, or the ssh operator", (name,))
