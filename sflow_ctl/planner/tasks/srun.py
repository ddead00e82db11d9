"""The `srun` operator as a real job step: its command line, options in the format's own order.

For what only Slurm can do (`mpi`, containers, constraints); a plain task is started by an agent instead.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sflow_ctl.format import schema
from sflow_ctl.plan.model import PlannedNode
from sflow_ctl.planner.findings import UnplannableError
from sflow_ctl.planner.numbers import as_flag

_MOUNTS = "--container-mounts"
_GPU_OPTIONS = ("--gres", "--gpu", "-G", "--tres-per-task")
ASSIGNED_NODES, ASSIGNED_GROUP = "@assigned-nodes@", "@assigned-component@"
"""These stand in a command line for what is known when the task is given its nodes: `assigned` fills them in."""
_OWN_GPUS = (
    'if [ "$SLURM_STEP_GPUS" ]; then IFS=, read -ra g <<< "$CUDA_VISIBLE_DEVICES"; s=; '
    'for i in ${SFLOW_TASK_GPUS//,/ }; do [ "${g[i]}" ] || { s=; break; }; s+=,${g[i]}; done; '
    '[ -z "$s" ] || export CUDA_VISIBLE_DEVICES=${s#,}; unset g s i; fi; '
)
"""Slurm names all of the job's GPUs to each step, whatever the step's environment says: this takes the task's again, by what
they are called on each node. On the script's first line, so that bash counts lines as the file does.
"""


def srun_argv(
    operator: schema.Operator,
    *,
    task: str,
    script: str,
    job_id: str,
    nodes: Sequence[str],
    het_group: str | None = None,
    mounts: Iterable[str] = (),
    has_gpus: bool = False,
) -> tuple[str, ...]:
    """The step's command line. `nodes` are the task's, `mounts` the automatic ones of a container, `het_group` is the
    component of a heterogeneous job that has the nodes, `has_gpus` whether it has a slice of GPUs; where the operator asks
    Slurm for GPUs itself, it is Slurm that chooses.

    `extra_args` follow the generated options as they are, in order, except that container mounts among them join the
    others. Raises: UnplannableError, NumberError.
    """
    extra, more_mounts = _without_mounts(task, operator.extra_args)
    argv = ["srun"]

    def option(name: str, value: Any) -> None:
        if value is not None and value != "":
            argv.extend((name, str(value)))

    def flag(name: str, value: Any, default: bool = False) -> None:
        if as_flag(default if value is None else value):
            argv.append(name)

    option("--jobid", operator.job_id if operator.job_id not in (None, "", "0") else job_id)
    option("--het-group", het_group)
    for name in ("partition", "account", "qos", "reservation", "time", "constraint"):
        option(f"--{name}", getattr(operator, name))
    flag("--exclusive", operator.exclusive)
    option("--chdir", operator.chdir)
    chosen = operator.nodelist or list(nodes)
    option("--nodes", operator.nodes if operator.nodes not in (None, 0, "0") else len(chosen))
    option("--nodelist", ASSIGNED_NODES if ASSIGNED_NODES in chosen else ",".join(chosen))
    option("--ntasks", operator.ntasks)
    option("--ntasks-per-node", operator.ntasks_per_node)
    option("--cpus-per-task", operator.cpus_per_task)
    for name in ("gpus", "gpus_per_task", "gres", "mem", "mem_per_cpu"):
        option(f"--{name.replace('_', '-')}", getattr(operator, name))
    option("--job-name", task)
    flag("--unbuffered", operator.unbuffered, default=True)
    option("--export", operator.export if operator.export is not None else "ALL")
    flag("--label", operator.label, default=True)
    flag("--kill-on-bad-exit", operator.kill_on_bad_exit)
    flag("--overlap", operator.overlap, default=True)
    option("--wait", operator.wait)
    option("--mpi", operator.mpi)
    if uses_container(operator):
        _container_options(operator, argv, [*operator.container_mounts, *more_mounts, *mounts])
    elif more_mounts:
        argv += [_MOUNTS, ",".join(more_mounts)]
    chooses_gpus = operator.gres or operator.gpus or operator.gpus_per_task
    if has_gpus and not chooses_gpus and not any(one.startswith(_GPU_OPTIONS) for one in extra):
        script = _OWN_GPUS + script
    return (*argv, *extra, "bash", "-c", script)


def assigned(argv: tuple[str, ...], nodes: Sequence[PlannedNode]) -> tuple[str, ...]:
    """The command line of a step whose nodes were not known when it was planned."""
    filled = {ASSIGNED_NODES: ",".join(node.name for node in nodes), ASSIGNED_GROUP: str(nodes[0].het_group)}
    return tuple(filled.get(word, word) for word in argv)


def uses_container(operator: schema.Operator) -> bool:
    """True for a step in a container, also when only `extra_args` name its image."""
    return bool(
        operator.container_image
        or operator.container_name
        or any(argument.split("=", 1)[0] == "--container-image" for argument in operator.extra_args)
    )


def _container_options(operator: schema.Operator, argv: list[str], mounts: list[str]) -> None:
    if operator.container_image:
        argv += ["--container-image", operator.container_image]
    home = as_flag(False if operator.container_mount_home is None else operator.container_mount_home)
    argv.append("--container-mount-home" if home else "--no-container-mount-home")
    if operator.container_name:
        argv += ["--container-name", operator.container_name]
    if as_flag(True if operator.container_writable is None else operator.container_writable):
        argv.append("--container-writable")
    if mounts:
        argv += [_MOUNTS, ",".join(dict.fromkeys(mounts))]
    if operator.container_workdir:
        argv += ["--container-workdir", operator.container_workdir]
    if operator.container_remap_root is not None and as_flag(operator.container_remap_root):
        argv.append("--container-remap-root")


def _without_mounts(task: str, extra_args: Sequence[str]) -> tuple[list[str], list[str]]:
    """`extra_args` without their container mounts, and those. Raises: UnplannableError for an option without a value."""
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
