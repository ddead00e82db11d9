"""The command line of a real job step, which an `srun` operator needs for what only Slurm offers (`mpi`, containers).

Options are in the format's own order. Other tasks of a Slurm backend are started by an agent:
`launch/command.py` decides.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from sflow_ctl.format import schema
from sflow_ctl.plan.parts.launcher import AssignedArgument, AssignedValue
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.launch.arguments import split_arguments
from sflow_ctl.planner.numbers import as_flag, at
from sflow_ctl.slurm.nodelist import NodeListError, expand_nodelist

_MOUNTS = "--container-mounts"
_GPU_OPTIONS = ("--gres", "--gpu", "-G", "--tres-per-task")
_SHOWN_UNTIL_ASSIGNED = "(chosen at the start)"
"""Shown in a printed plan in place of an argument that is not known yet."""
_OWN_GPUS = (
    'if [ "$SLURM_STEP_GPUS" ]; then IFS=, read -ra g <<< "$CUDA_VISIBLE_DEVICES"; s=; '
    'for i in ${SFLOW_TASK_GPUS//,/ }; do [ "${g[i]}" ] || { s=; break; }; s+=,${g[i]}; done; '
    '[ -z "$s" ] || export CUDA_VISIBLE_DEVICES=${s#,}; unset g s i; fi; '
)
"""Slurm sets CUDA_VISIBLE_DEVICES of a step to all GPUs of the job, whatever the step's environment says. This selects the
task's GPUs again, by their names on each node. It is on the script's first line, so that bash counts lines as the file does.
"""

_PLACE = (
    "export SFLOW_RANK=$SLURM_PROCID SFLOW_LOCAL_RANK=$SLURM_LOCALID SFLOW_NODE_RANK=$SLURM_NODEID "
    "SFLOW_WORLD_SIZE=$SLURM_STEP_NUM_TASKS SFLOW_TASK_PROCESS_ID=$SLURM_PROCID "
    "SFLOW_TASK_LOCAL_PROCESS_ID=$SLURM_LOCALID SFLOW_TASK_NODE_INDEX=$SLURM_NODEID "
    "SFLOW_TASK_NUM_PROCESSES=$SLURM_STEP_NUM_TASKS SFLOW_TASK_NODE_NAME=$SLURMD_NODENAME "
    "SFLOW_BACKEND_STEP_ID=$SLURM_STEP_ID; "
)
"""Only Slurm knows which process of a step this one is. On the script's first line, as the above."""
_CHOOSES_NODES = ("-N", "-w", "-x", "-r", "-F", "--nod", "--exc", "--rel")
_SETS_PROCESSES = ("-n", "--ntasks", "--nt")


class Step(Struct, frozen=True, kw_only=True):
    """The facts of a job step that its operator does not have: its job, its nodes, its container's mounts."""

    task: str
    job_id: str
    nodes: tuple[str, ...]
    """Empty while the task's placement is flexible."""
    node_count: int
    het_groups: tuple[str, ...] = ()
    """Components of a heterogeneous job that the nodes, or candidates, belong to; empty in a plain job."""
    mounts: tuple[str, ...] = ()
    """Automatic mounts of its container."""
    has_gpus: bool = False
    """The task has GPUs, so a step that does not ask Slurm for GPUs must use those."""

    @property
    def component_is_deferred(self) -> bool:
        """True while the one node is not chosen, and hence neither the component of a heterogeneous job."""
        return bool(self.het_groups) and not self.nodes and self.node_count == 1

    @property
    def spans_components(self) -> bool:
        """True where the nodes may belong to several components, of which a step can use only one."""
        return len(self.het_groups) > 1 and not self.component_is_deferred


def srun_command(
    operator: schema.Operator, step: Step, script: str
) -> tuple[tuple[str, ...], tuple[AssignedArgument, ...]]:
    """Return a step's command line, and which of its arguments are filled in once the task has its nodes.

    The words of `extra_args` follow the generated options, except that container mounts among them join the
    others.

    Raises: UnplannableError, NumberError.
    """
    extra, more_mounts = _without_mounts(step.task, split_arguments(operator.extra_args))
    line = _Line()
    _allocation_options(operator, step, line)
    _geometry_options(operator, step, line)
    line.option("--job-name", step.task)
    line.flag("--unbuffered", operator.unbuffered)  # it would cut lines at 1,024 bytes and at each write
    line.option("--export", operator.export if operator.export is not None else "ALL")
    line.flag("--label", operator.label, default=has_several_processes(operator, step))
    line.flag("--kill-on-bad-exit", operator.kill_on_bad_exit)
    line.flag("--overlap", operator.overlap, default=True)
    line.option("--wait", operator.wait)
    line.option("--mpi", operator.mpi)
    if uses_container(operator):
        _container_options(operator, line.argv, [*operator.container_mounts, *more_mounts, *step.mounts])
    elif more_mounts:
        line.argv += [_MOUNTS, ",".join(more_mounts)]
    chooses_gpus = operator.gres or operator.gpus or operator.gpus_per_task
    if step.has_gpus and not chooses_gpus and not any(one.startswith(_GPU_OPTIONS) for one in extra):
        script = _OWN_GPUS + script
    return (*line.argv, *extra, "bash", "-c", _PLACE + script), tuple(line.assigned)


def step_prelude(argv: Sequence[str]) -> str:
    """Return what a step's script does first, before the task's own lines: it sets variables of the process."""
    script = argv[-1]
    return next((one for one in (_PLACE + _OWN_GPUS, _PLACE) if script.startswith(one)), "")


def has_several_processes(operator: schema.Operator, step: Step) -> bool:
    """Return whether a step may have more than one process; True where Slurm decides it from GPUs or `extra_args`."""
    if operator.gpus_per_task or any(
        one.startswith(_SETS_PROCESSES) for one in split_arguments(operator.extra_args)
    ):
        return True
    if operator.ntasks not in (None, ""):
        return str(operator.ntasks) != "1"
    nodes = (
        operator.nodes
        if operator.nodes not in (None, 0, "0")
        else len(operator.nodelist or ()) or step.node_count
    )
    return str(nodes) != "1" or str(operator.ntasks_per_node or 1) != "1"


def chooses_nodes(operator: schema.Operator) -> bool:
    """Return whether an operator's options may put a step on other nodes of the job than those of its task."""
    is_sized = operator.nodes not in (None, "", 0, "0")
    return (
        bool(operator.nodelist)
        or is_sized
        or any(one.startswith(_CHOOSES_NODES) for one in split_arguments(operator.extra_args))
    )


class _Line:
    """Builds a command line."""

    def __init__(self) -> None:
        self.argv = ["srun"]
        self.assigned: list[AssignedArgument] = []

    def option(self, name: str, value: Any) -> None:
        if value is not None and value != "":
            self.argv += [name, str(value)]

    def flag(self, name: str, value: Any, default: bool = False) -> None:
        field = name.removeprefix("--").replace("-", "_")
        if at(("operator", field), as_flag, default if value is None else value):
            self.argv.append(name)

    def assigned_option(
        self,
        name: str,
        value: AssignedValue,
        planned: str = _SHOWN_UNTIL_ASSIGNED,
        at_most: int | None = None,
    ) -> None:
        """Add an option that is filled in when the task is given other nodes than `planned` is about."""
        self.argv += [name, planned]
        position = len(self.argv) - 1
        self.assigned.append(AssignedArgument(position=position, value=value, at_most=at_most))


def _allocation_options(operator: schema.Operator, step: Step, line: _Line) -> None:
    line.option("--jobid", operator.job_id if operator.job_id not in (None, "", "0") else step.job_id)
    if step.component_is_deferred:
        line.assigned_option("--het-group", "het_group")
    elif step.het_groups and len(step.nodes) == 1:
        line.assigned_option("--het-group", "het_group", step.het_groups[0])
    else:
        line.option("--het-group", step.het_groups[0] if step.het_groups else None)
    for name in ("partition", "account", "qos", "reservation", "time", "constraint"):
        line.option(f"--{name}", getattr(operator, name))
    line.flag("--exclusive", operator.exclusive)


def _geometry_options(operator: schema.Operator, step: Step, line: _Line) -> None:
    line.option("--chdir", operator.chdir)
    nodes = tuple(_names(operator.nodelist)) if operator.nodelist else step.nodes
    count = operator.nodes if operator.nodes not in (None, 0, "0") else len(nodes) or step.node_count
    used = _nodes_with_processes(operator, count)
    if used is not None:
        nodes = nodes[:used]
    line.option("--nodes", count if used is None else used)
    if operator.nodelist:
        line.option("--nodelist", ",".join(nodes))
    elif nodes:
        line.assigned_option("--nodelist", "node_names", ",".join(nodes), at_most=used)
    else:
        line.assigned_option("--nodelist", "node_names", at_most=used)
    line.option("--ntasks", operator.ntasks)
    line.option("--ntasks-per-node", operator.ntasks_per_node)
    line.option("--cpus-per-task", operator.cpus_per_task)
    for name in ("gpus", "gpus_per_task", "gres", "mem", "mem_per_cpu"):
        line.option(f"--{name.replace('_', '-')}", getattr(operator, name))


def _nodes_with_processes(operator: schema.Operator, count: Any) -> int | None:
    """Return the number of nodes of a step that has fewer processes than nodes, else None.

    Slurm 24.11 refuses such a step; older versions leave nodes out, the last ones first.
    """
    processes, nodes = str(operator.ntasks), str(count)
    if processes.isdecimal() and nodes.isdecimal() and 0 < int(processes) < int(nodes):
        return int(processes)
    return None


def _names(nodelist: Sequence[str]) -> list[str]:
    """Return the single names in a list of nodes as Slurm writes it; as it is if Slurm must judge it."""
    try:
        return expand_nodelist(",".join(nodelist))
    except NodeListError:
        return list(nodelist)


def uses_container(operator: schema.Operator) -> bool:
    """Return whether the step runs in a container; also true if only `extra_args` name its image."""
    return bool(
        operator.container_image
        or operator.container_name
        or any(
            argument.split("=", 1)[0] == "--container-image"
            for argument in split_arguments(operator.extra_args)
        )
    )


def _container_options(operator: schema.Operator, argv: list[str], mounts: list[str]) -> None:
    if operator.container_image:
        argv += ["--container-image", operator.container_image]
    home = _flag(operator, "container_mount_home", False)
    argv.append("--container-mount-home" if home else "--no-container-mount-home")
    if operator.container_name:
        argv += ["--container-name", operator.container_name]
    if _flag(operator, "container_writable", True):
        argv.append("--container-writable")
    if mounts:
        argv += [_MOUNTS, ",".join(dict.fromkeys(mounts))]
    if operator.container_workdir:
        argv += ["--container-workdir", operator.container_workdir]
    if _flag(operator, "container_remap_root", False):
        argv.append("--container-remap-root")


def _without_mounts(task: str, extra_args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the container mounts from other `extra_args`.

    Raises: UnplannableError for an option without a value.
    """
    rest: list[str] = []
    mounts: list[str] = []
    arguments = iter(extra_args)
    for argument in arguments:
        if argument == _MOUNTS:
            value = next(arguments, None)
            if value is None:
                what = f'task "{task}": {_MOUNTS} in extra_args has no value'
                raise UnplannableError("wrong-operator", what, "SOURCE:TARGET", ("operator",))
            mounts += value.split(",")
        elif argument.startswith(f"{_MOUNTS}="):
            mounts += argument.removeprefix(f"{_MOUNTS}=").split(",")
        else:
            rest.append(argument)
    return rest, mounts


def _flag(operator: schema.Operator, field: str, default: bool) -> bool:
    """Return a flag of the operator. Raises: NumberError."""
    written = getattr(operator, field)
    return default if written is None else at(("operator", field), as_flag, written)
