"""How a script becomes a process: operators, and which of their fields each type takes."""

from typing import Any, Literal

from sflow_ctl.format.schema.values import Flag, IntExpr, Part, Time


class Operator(Part, frozen=True, kw_only=True):
    """How a script becomes a process. The `type` decides which of the other fields are allowed."""

    name: str
    """Name that tasks use in `operator:`."""
    type: Literal[
        "bash", "srun", "docker", "docker_run", "container", "ssh", "python", "plugin", "k8s", "k8s_mpi"
    ]
    """`bash`, `python`: a process on the node; `srun`: a Slurm job step; `docker`: a container that sees only what the file
    mounts; `docker_run`: one that also sees the run's directories; `container`: a container of any engine; `ssh`: a process on
    another machine; `plugin`: as an installed package says; `k8s`, `k8s_mpi`: read, but not run by sflow-ctl."""
    extends: str | None = None
    """Name of an operator to copy fields from. Fields given here replace them, and `extra_args` are appended."""
    extra_args: list[str] = []
    """More options for the program that starts the script (`srun`, `docker run`, `ssh`, ...), after the generated ones."""
    # bash, and every type that gives its script to bash
    log_to_file: Flag | None = None
    """Accepted for files of sflow; tasks here always write their logs to a file."""
    strict: Flag | None = None
    """Start the script with `set -euo pipefail`, so that a failing line fails the task. Default: false."""
    # python
    python_exec: str | None = None
    """Python interpreter for `type: python`. Default: `python`."""
    # plugin
    plugin: str | None = None
    """Name of the plug-in for `type: plugin`, as its package registers it. Required there."""
    options: dict[str, Any] = {}
    """Values for that plug-in, which says what it takes."""
    # docker
    runtime: str | None = None
    """Program for `type: docker` and `docker_run`: `docker` (default) or `podman`."""
    auto_mount_runtime_dirs: Flag | None = None
    """Mount the run's directories and those of artifacts into the container at the same paths. Default: true for
    `docker_run`, false for `docker` and on hosts of a docker backend."""
    # container
    engine: str | None = None
    """Engine for `type: container`: `apptainer`, `enroot`, `podman` or `docker`; `auto` takes the first that the node has.
    Default: the setting `container_engine`."""
    writable: Flag | None = None
    """Make the container's root file system writable; changes are discarded at its end. Default: true."""
    mount_home: Flag | None = None
    """Mount the home directory in the container. Default: false."""
    remap_root: Flag | None = None
    """Run as root (true) or as the calling user (false) inside the container. Default: the engine's."""
    network: str | None = None
    """Network of the container: `host` (default), `none`, or a name that the engine knows."""
    # docker and container
    image: str | None = None
    """Image: a registry's name (`nvcr.io/nvidia/pytorch:25.10-py3`) or an image file (`.sif`, `.sqsh`). Required for `docker`
    and `container`."""
    workdir: str | None = None
    """Working directory in the container. Default: the image's."""
    mounts: list[str] = []
    """Mounts of the container, `SOURCE:TARGET[:OPTIONS]`."""
    pass_envs: Flag | None = None
    """Pass the task's environment into the container. Default: true."""
    # ssh
    host: str | None = None
    """Machine that `type: ssh` connects to. Required there."""
    user: str | None = None
    """User name on that machine. Default: from ssh's configuration."""
    port: IntExpr | None = None
    """Port of that machine's ssh server. Default: from ssh's configuration."""
    identity_file: str | None = None
    """Private key file for ssh. Default: from ssh's configuration."""
    # srun
    job_id: str | None = None
    """`srun --jobid`. Default: the run's own job."""
    nodes: IntExpr | None = None
    """`srun --nodes`. Default: the number of the task's nodes."""
    nodelist: list[str] | None = None
    """`srun --nodelist`. Default: the task's nodes."""
    partition: str | None = None
    """`srun --partition`."""
    account: str | None = None
    """`srun --account`."""
    qos: str | None = None
    """`srun --qos`."""
    reservation: str | None = None
    """`srun --reservation`."""
    time: Time | None = None
    """`srun --time`, the step's own time limit."""
    constraint: str | None = None
    """`srun --constraint`, node features."""
    exclusive: Flag | None = None
    """`srun --exclusive`. Default: false."""
    chdir: str | None = None
    """`srun --chdir`, the step's working directory."""
    cpus_per_task: IntExpr | None = None
    """`srun --cpus-per-task`."""
    gpus: IntExpr | None = None
    """`srun --gpus`: Slurm then chooses the step's GPUs. For `docker` and `container`: `all`, a number or a list of GPUs in
    place of the task's."""
    gpus_per_task: IntExpr | None = None
    """`srun --gpus-per-task`: Slurm then chooses the step's GPUs."""
    gres: IntExpr | None = None
    """`srun --gres`, for example `gpu:4`."""
    mem: IntExpr | None = None
    """`srun --mem`, memory per node: megabytes or with a unit, for example `64G`."""
    mem_per_cpu: IntExpr | None = None
    """`srun --mem-per-cpu`: megabytes or with a unit."""
    ntasks: IntExpr | None = None
    """Number of processes of the task on all its nodes (`srun --ntasks`). Default: one per node."""
    ntasks_per_node: IntExpr | None = None
    """Number of processes of the task on each node (`srun --ntasks-per-node`). Default: 1 unless `ntasks` is given."""
    export: str | None = None
    """`srun --export`. Default: `ALL`."""
    label: Flag | None = None
    """`srun --label`: prefix each line with the process number. Default: true for a step of several processes."""
    unbuffered: Flag | None = None
    """`srun --unbuffered`: pass output on at each write, which breaks long lines. Default: false."""
    kill_on_bad_exit: Flag | None = None
    """`srun --kill-on-bad-exit`: end the step when one of its processes fails. Default: false."""
    overlap: Flag | None = None
    """`srun --overlap`: share the job's resources with other steps. Default: true."""
    wait: IntExpr | None = None
    """`srun --wait`: seconds to wait for the other processes after the first has ended."""
    mpi: str | None = None
    """`srun --mpi`, for example `pmix`. Makes the task a real job step."""
    container_image: str | None = None
    """`srun --container-image` (Pyxis): the step runs in this image."""
    container_name: str | None = None
    """`srun --container-name` (Pyxis): a container that later steps can reuse."""
    container_workdir: str | None = None
    """`srun --container-workdir` (Pyxis). Default: the image's."""
    container_mount_home: Flag | None = None
    """`srun --container-mount-home` (Pyxis). Default: false."""
    container_writable: Flag | None = None
    """`srun --container-writable` (Pyxis). Default: true."""
    container_mounts: list[str] = []
    """`srun --container-mounts` (Pyxis), `SOURCE:TARGET[:OPTIONS]`; the run's directories are mounted as well."""
    container_remap_root: Flag | None = None
    """`srun --container-remap-root` (Pyxis): be root in the container. Default: false."""


_IN_CONTAINERS = frozenset({"image", "workdir", "mounts", "gpus", "extra_args", "pass_envs", "strict"})
_OF_DOCKER = _IN_CONTAINERS | {"runtime", "auto_mount_runtime_dirs", "log_to_file"}
_WITHOUT_SLURM: dict[str, frozenset[str]] = {
    "bash": frozenset({"strict", "log_to_file"}),
    "python": frozenset({"python_exec", "extra_args"}),
    "docker": _OF_DOCKER,
    "docker_run": _OF_DOCKER,
    "container": _IN_CONTAINERS | {"engine", "writable", "mount_home", "remap_root", "network"},
    "plugin": frozenset({"plugin", "options", "strict"}),
    "ssh": frozenset({"host", "user", "port", "identity_file", "extra_args", "strict"}),
}
OPERATOR_FIELDS: dict[str, frozenset[str]] = {
    **_WITHOUT_SLURM,
    "srun": (
        frozenset(Operator.__struct_fields__)
        - {"name", "type", "extends"}
        - frozenset().union(*_WITHOUT_SLURM.values())
        | {"gpus", "extra_args", "log_to_file"}
    ),
}
"""Fields that each type of operator takes, beside `name`, `type` and `extends`."""
CONTAINER_ENGINES = ("apptainer", "enroot", "podman", "docker")
CHOICES = {"runtime": ("docker", "podman"), "engine": ("auto", *CONTAINER_ENGINES)}
"""Allowed values of operator fields that may also be expressions."""
