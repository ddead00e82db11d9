"""Where tasks run."""

from typing import Annotated, Any, Literal

from sflow_ctl.format.schema.values import ONE, Flag, IntExpr, Part, Time


class DockerHost(Part, frozen=True, kw_only=True):
    """A machine of a docker pool. Exactly one of `docker_host` and `context` is given."""

    name: str
    """Name of the node."""
    docker_host: str | None = None
    """Address for `docker --host`, for example `ssh://gpu1`."""
    context: str | None = None
    """Name for `docker --context`."""
    ip_address: str | None = None
    """Address of the machine, for other tasks."""
    gpus_per_node: IntExpr | None = None
    """GPUs of this machine. Default: the backend's."""
    mounts: list[str] = []
    """Further mounts of containers on this machine."""
    extra_args: list[str] = []
    """Further options of `docker run` on this machine."""


class Mail(Part, frozen=True, kw_only=True):
    """Mail that Slurm sends about a job."""

    user: str
    """Address, or a user's name."""
    type: Annotated[list[str], ONE] = []
    """What for: `begin`, `end`, `fail`, `requeue`, `all`, `time_limit`, `time_limit_90`, ... Default: `end` and `fail`."""


class Backend(Part, frozen=True, kw_only=True):
    """A group of nodes. The `type` decides which of the other fields are allowed."""

    name: str
    """Name that tasks use in `backend:`, and expressions in `${{ backends.NAME.nodes }}`."""
    type: Literal["local", "slurm", "docker", "slurm_job", "plugin", "kubernetes"]
    """`local`: this machine; `slurm`: the nodes of a Slurm job; `docker`: containers on this machine or on `hosts`;
    `slurm_job`: each task is a Slurm job of its own, which this machine submits and watches; `plugin`: the same by an installed
    package; `kubernetes`: read, but not run by sflow-ctl."""
    default: bool = False
    """Use this backend for tasks that name none. Default: the first backend of the file is used."""
    nodes: IntExpr | None = None
    """Number of nodes. Local and docker backends simulate more than one with several agents. Default: 1 (local, docker);
    required (slurm)."""
    gpus_per_node: IntExpr | None = None
    """GPUs of each node; 0 for nodes without GPUs. Default: those of the machine (local, docker); required (slurm)."""
    gpu_memory: str | None = None
    """Memory of each GPU for tasks with `gpus: {count: auto}`, for example `80G`. Default: that of this machine's GPUs. The
    nodes' agents check it before the first task."""
    spares: IntExpr | None = None
    """Number of `nodes` that are held back: no task starts there until another node is lost, in whose place the spare node then
    comes. Default: none."""
    include_nodes: list[str] = []
    """Only these hosts, each entry a name or a list with commas or blanks (`--nodelist` of the Slurm job)."""
    exclude_nodes: list[str] = []
    """Not these hosts, each entry a name or a list with commas or blanks (`--exclude` of the Slurm job)."""
    account: str | None = None
    """Slurm account of the job. Default: the setting `account`."""
    partition: str | None = None
    """Slurm partition of the job. Default: the setting `partition`."""
    qos: str | None = None
    """Quality of service of the Slurm job. Default: the setting `qos`."""
    constraint: str | None = None
    """Features that the nodes of the Slurm job must have, for example `"a100&ib"`."""
    mem: IntExpr | None = None
    """Memory of each node of the Slurm job, for example `64G`. Default: of a script by `batch` all of it, else the site's."""
    cpus_per_task: IntExpr | None = None
    """CPUs of each node of the Slurm job. Default: the site's, usually all of a node that no other job shares."""
    reservation: str | None = None
    """Reservation that the Slurm job uses. Default: the setting `reservation`."""
    exclude: Annotated[list[str], ONE] = []
    """As `exclude_nodes`, by Slurm's name for it."""
    dependency: str | None = None
    """Jobs that the Slurm job waits for, in Slurm's words, for example `afterok:1234`. Options of the command line such as
    `batch --after-ok` replace it."""
    mail: str | Mail | None = None
    """Who gets mail about the Slurm job: an address, or a mapping that also says what for."""
    time: Time | None = None
    """Time limit of the Slurm job, for example `01:30:00`. Required for slurm backends."""
    job_name: str | None = None
    """Name of the Slurm job. Default: the workflow's name."""
    extra_args: list[str] = []
    """More options for the command that asks for the job (`salloc`, `sbatch`), for example `--qos=high`; of a docker backend for
    `docker run`."""
    image: str | None = None
    """Image of the tasks of a docker backend that name no operator. Required there."""
    runtime: str | None = None
    """Program that starts the containers of a docker backend: `docker` (default) or `podman`."""
    hosts: list[DockerHost] | None = None
    """Machines of a docker backend, each a node. Their containers are started from this machine. Default: this machine."""
    mounts: list[str] = []
    """Mounts of a docker backend's containers, `SOURCE:TARGET[:OPTIONS]`."""
    workdir: str | None = None
    """Working directory in a docker backend's containers. Default: the image's."""
    wait_for_gpus: IntExpr | None = None
    """How long a run waits until no other process uses this machine's GPUs: seconds, or 0 without limit; it ends with an
    error then. Default: it does not wait, and warns."""
    plugin: str | None = None
    """Name of the plug-in of a backend of type `plugin`, as its package registers it. Required there."""
    options: dict[str, Any] = {}
    """Values for that plug-in, which says what it takes."""
    every: Time | None = None
    """Time between two questions about the jobs of a `slurm_job` or `plugin` backend. Default: 10 seconds."""
    offload_task_logs: Flag | None = None
    """Accepted for files of sflow; tasks here always write their logs beside the task."""


_COMMON = frozenset(
    {"default", "nodes", "gpus_per_node", "gpu_memory", "include_nodes", "exclude_nodes", "offload_task_logs"}
)
BACKEND_FIELDS: dict[str, frozenset[str]] = {
    "local": _COMMON | {"spares"},
    "slurm": _COMMON
    | {
        "spares",
        "account",
        "partition",
        "time",
        "job_name",
        "extra_args",
        "qos",
        "constraint",
        "mem",
        "cpus_per_task",
    }
    | {"reservation", "exclude", "dependency", "mail"},
    "slurm_job": (_COMMON - {"gpu_memory"})
    | {"account", "partition", "time", "job_name", "extra_args", "qos", "constraint", "mem", "cpus_per_task"}
    | {"reservation", "exclude", "dependency", "mail", "every"},
    "plugin": frozenset({"default", "nodes", "gpus_per_node", "job_name", "plugin", "options", "every"}),
    "docker": _COMMON | {"image", "runtime", "hosts", "mounts", "workdir", "extra_args", "wait_for_gpus"},
}
"""Fields that each type of backend takes, beside `name` and `type`; those of `kubernetes` are not read."""
JOB_BACKENDS = frozenset({"slurm_job", "plugin"})
"""Types whose tasks are jobs of their own."""
