"""The file format, version "0.1", as types: every section and field, nothing about their meaning.

Named sections are lists here; the loader brings the mapping forms into this shape. `IntExpr` fields hold
an integer or a text that is
converted when planned; `Time` fields also take fractions and durations such as `90s`, `10m`, `01:30:00`.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta

IntExpr: TypeAlias = int | float | str
Time: TypeAlias = int | float | str
Flag: TypeAlias = bool | str
VersionText = "0.1"


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything a file can contain."""


class Variable(Part, frozen=True, kw_only=True):
    """A named value; its domain limits it and feeds sweeps."""

    name: str
    value: Any
    type: str | None = None
    domain: list[Any] | None = None
    description: str | None = None


class Artifact(Part, frozen=True, kw_only=True):
    """A named file, directory or remote thing."""

    name: str
    uri: str
    content: str | None = None
    sha256: str | None = None
    create: bool = False
    description: str | None = None


ARTIFACT_FIELDS: dict[str, tuple[str, ...]] = {"sha256": ("http", "https"), "create": ("fs",)}
"""Fields that only artifacts of some schemes have."""


class Backend(Part, frozen=True, kw_only=True):
    """Where tasks run. `local` takes the first three fields, `slurm` all."""

    name: str
    type: Literal["local", "slurm"]
    default: bool = False
    nodes: IntExpr | None = None
    gpus_per_node: IntExpr | None = None
    account: str | None = None
    partition: str | None = None
    time: Time | None = None
    job_name: str | None = None
    extra_args: list[str] = []


class Operator(Part, frozen=True, kw_only=True):
    """How a script becomes a command; which fields count depends on `type`."""

    name: str
    type: Literal["bash", "srun", "docker", "container", "ssh", "python"]
    extends: str | None = None
    extra_args: list[str] = []
    # bash, and all that give their script to bash
    strict: Flag | None = None
    # python
    python_exec: str | None = None
    # docker
    runtime: str | None = None
    # container
    engine: str | None = None
    writable: Flag | None = None
    mount_home: Flag | None = None
    remap_root: Flag | None = None
    network: str | None = None
    # docker and container
    image: str | None = None
    workdir: str | None = None
    mounts: list[str] = []
    pass_envs: Flag | None = None
    # ssh
    host: str | None = None
    user: str | None = None
    port: IntExpr | None = None
    identity_file: str | None = None
    # srun
    job_id: str | None = None
    nodes: IntExpr | None = None
    nodelist: list[str] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    time: Time | None = None
    constraint: str | None = None
    exclusive: Flag | None = None
    chdir: str | None = None
    cpus_per_task: IntExpr | None = None
    gpus: IntExpr | None = None
    gpus_per_task: IntExpr | None = None
    gres: IntExpr | None = None
    mem: IntExpr | None = None
    mem_per_cpu: IntExpr | None = None
    ntasks: IntExpr | None = None
    ntasks_per_node: IntExpr | None = None
    export: str | None = None
    label: Flag | None = None
    unbuffered: Flag | None = None
    kill_on_bad_exit: Flag | None = None
    overlap: Flag | None = None
    wait: IntExpr | None = None
    mpi: str | None = None
    container_image: str | None = None
    container_name: str | None = None
    container_workdir: str | None = None
    container_mount_home: Flag | None = None
    container_writable: Flag | None = None
    container_mounts: list[str] = []
    container_remap_root: Flag | None = None


_IN_CONTAINERS = frozenset({"image", "workdir", "mounts", "gpus", "extra_args", "pass_envs", "strict"})
_HERE: dict[str, frozenset[str]] = {
    "bash": frozenset({"strict"}),
    "python": frozenset({"python_exec", "extra_args"}),
    "docker": _IN_CONTAINERS | {"runtime"},
    "container": _IN_CONTAINERS | {"engine", "writable", "mount_home", "remap_root", "network"},
    "ssh": frozenset({"host", "user", "port", "identity_file", "extra_args", "strict"}),
}
OPERATOR_FIELDS: dict[str, frozenset[str]] = {
    **_HERE,
    "srun": (
        frozenset(Operator.__struct_fields__)
        - {"name", "type", "extends"}
        - frozenset().union(*_HERE.values())
        | {"gpus", "extra_args"}
    ),
}
"""Fields each kind of operator takes, beside `name` and `type`."""
CONTAINER_ENGINES = ("apptainer", "enroot", "podman", "docker")
CHOICES = {"runtime": ("docker", "podman"), "engine": ("auto", *CONTAINER_ENGINES)}
"""Values of operator fields that may also be computed."""


class Nodes(Part, frozen=True, kw_only=True):
    """Which nodes of the backend."""

    indices: list[IntExpr] | None = None
    count: IntExpr | None = None
    exclude: IntExpr | list[IntExpr] | None = None


class Gpus(Part, frozen=True, kw_only=True):
    """How many GPUs, over all of the task's nodes."""

    count: IntExpr
    shared: Flag = False


class Resources(Part, frozen=True, kw_only=True):
    """What a task needs."""

    nodes: Nodes | None = None
    gpus: Gpus | None = None


class Replicas(Part, frozen=True, kw_only=True):
    """Copies of a task, by count or over the domains of variables."""

    count: IntExpr | None = None
    policy: str = "parallel"
    variables: list[str] | None = None
    min_ready: IntExpr | None = None


class Retries(Part, frozen=True, kw_only=True):
    """What happens after a failure."""

    count: IntExpr
    interval: Time
    backoff: IntExpr = 1
    reasons: list[str] = []


class Restart(Part, frozen=True, kw_only=True):
    """How a service is started again in its place: the same nodes and GPUs."""

    policy: Literal["on_failure", "always"] = "on_failure"
    max: IntExpr = 3
    backoff: Time = 1
    window: Time | None = None
    dependents: Literal["keep", "restart"] = "keep"


class Stop(Part, frozen=True, kw_only=True):
    """How a task is ended: its own command, then a signal, then SIGKILL."""

    command: str | list[str] | None = None
    timeout: Time | None = None
    signal: str | int | None = None
    grace: Time | None = None


class Hang(Part, frozen=True, kw_only=True):
    """How long a task may show no life, and what looks into it before it is ended."""

    no_output_for: Time | None = None
    no_gpu_use_for: Time | None = None
    command: str | list[str] | None = None
    timeout: Time = 30
    when: Literal["until_ready", "always"] = "until_ready"


class TcpPort(Part, frozen=True, kw_only=True):
    """True while a TCP port accepts."""

    port: IntExpr
    host: str | None = None
    on_node: Literal["first", "each"] = "first"
    owner: Literal["task", "run", "any"] = "task"


class Http(Part, frozen=True, kw_only=True):
    """True while a URL answers well, after redirects: 200 to 399, and with everything else that is given."""

    url: str
    headers: dict[str, str] = {}
    body: str | None = None
    status: list[IntExpr] = []
    header: dict[str, str] = {}
    body_contains: str | None = None
    json: str | None = None
    verify: Flag = True
    ca_file: str | None = None
    owner: Literal["task", "run", "any"] = "run"


class LogWatch(Part, frozen=True, kw_only=True):
    """True once a pattern has been seen often enough in a log."""

    regex_pattern: str | None = None
    match_pattern: str | None = None
    logger: str | None = None
    match_count: IntExpr = 1


class Exec(Part, frozen=True, kw_only=True):
    """True while a command exits with 0: a program with its arguments, or a line for bash."""

    command: str | list[str]


class Condition(Part, frozen=True, kw_only=True):
    """Exactly one check."""

    tcp_port: TcpPort | None = None
    http_get: Http | None = None
    http_post: Http | None = None
    log_watch: LogWatch | None = None
    exec: Exec | None = None


class Probe(Condition, frozen=True, kw_only=True):
    """Exactly one check, or several in `all` or `any`, and when it is made."""

    all: list[Condition] | None = None
    any: list[Condition] | None = None
    delay: Time = 0
    timeout: Time = 60
    interval: Time = 5
    deadline: Time | None = None
    success_threshold: IntExpr = 1
    failure_threshold: IntExpr = 3


class Probes(Part, frozen=True, kw_only=True):
    """What makes a task ready, and what makes it fail."""

    readiness: Probe | None = None
    failure: Probe | None = None


class SuccessFile(Part, frozen=True, kw_only=True):
    """A file that must be there, or a pattern that at least one must match, and its least size."""

    path: str
    min_bytes: IntExpr = 1


class SuccessJson(Part, frozen=True, kw_only=True):
    """A JSON document, and an expression over it that must be true."""

    path: str
    where: str


class Success(Part, frozen=True, kw_only=True):
    """What must hold besides an exit status of 0. `require` and `forbid` are regular expressions for lines of the log."""

    files: list[str | SuccessFile] = []
    json: SuccessJson | list[SuccessJson] = []
    require: list[str] = []
    forbid: list[str] = []


class Signature(Part, frozen=True, kw_only=True):
    """A line of a log that explains a failure."""

    name: str
    pattern: str
    reason: str | None = None
    text: str = "{line}"
    hint: str = ""


class Metric(Part, frozen=True, kw_only=True):
    """What a parsed value means."""

    description: str | None = None
    type: str | None = None
    aggregate: str | None = None


class Output(Part, frozen=True, kw_only=True):
    """Values of a completed task: by a pattern, from a JSON document, or from a CSV column."""

    pattern: str | None = None
    json: str | None = None
    csv: str | None = None
    name: str | None = None
    source: str = "stdout"
    metrics: dict[str, Metric] = {}


class Dependency(Part, frozen=True, kw_only=True):
    """Another task, and how far it must have come."""

    task: str
    until: Literal["available", "ready", "started", "completed", "finished", "failed"] = "available"


OnFailure: TypeAlias = Literal["cancel", "drain", "isolate", "continue"]


class Ports(Part, frozen=True, kw_only=True):
    """How many ports of a name; `contiguous` ones follow each other."""

    count: IntExpr = 1
    contiguous: Flag = False


class Launcher(Part, frozen=True, kw_only=True):
    """What the script starts its processes by; `nproc` on each node: one per GPU, else one."""

    type: Literal["torchrun", "mpirun", "none"]
    nproc: IntExpr | None = None


class File(Part, frozen=True, kw_only=True):
    """What a file of a task holds: `content`, or that of an artifact or a file of the workspace."""

    content: str | None = None
    source: str | None = msgspec.field(default=None, name="from")
    mode: str | None = None


class Task(Part, frozen=True, kw_only=True, rename={"finally_": "finally", "with_": "with"}):
    """A named unit of the workflow."""

    name: str
    uses: str | None = None
    with_: dict[str, Any] = {}
    script: list[str]
    launcher: Launcher | Literal["torchrun", "mpirun", "none"] | None = None
    operator: str | dict[str, Any] | None = None
    backend: str | dict[str, Any] | None = None
    depends_on: list[str | Dependency] = []
    kind: Literal["task", "service"] | None = None
    main: Flag = False
    finally_: bool | Literal["after_stop", "services_up"] = False
    resources: Resources | None = None
    replicas: Replicas | None = None
    retries: Retries | None = None
    restart: Restart | Literal["on_failure", "always"] | None = None
    on_failure: OnFailure | None = None
    critical: Flag = True
    stop: Stop | str | None = None
    hang: Hang | None = None
    success_exit_codes: list[IntExpr] = []
    probes: Probes | None = None
    ports: dict[str, IntExpr | Ports] = {}
    files: dict[str, str | File] = {}
    outputs: list[Output] = []
    success: Success | None = None
    timeout: Time | None = None
    variables: list[Variable] = []

    @property
    def dependencies(self) -> list[Dependency]:
        """`depends_on`, every entry in its long form."""
        return [Dependency(task=one) if isinstance(one, str) else one for one in self.depends_on]

    @property
    def is_service(self) -> bool:
        """There for others: it need not end before the run does."""
        if self.kind is not None:
            return self.kind == "service"
        return self.probes is not None and self.probes.readiness is not None


class WorkflowSettings(Part, frozen=True, kw_only=True):
    """What is common to all tasks, beside names."""

    timeout: Time | None = None
    on_failure: OnFailure = "cancel"
    keep_alive: Flag = False
    success: Success | None = None
    stop: Stop | str | None = None
    stop_timeout: Time | None = None


class Workflow(WorkflowSettings, frozen=True, kw_only=True):
    """The tasks and what is common to them."""

    name: str
    tasks: list[Task]
    variables: list[Variable] = []


class Settings(Part, frozen=True, kw_only=True):
    """How runs are started here: what a workflow may say of it, and more often a site or a user says once."""

    partition: Annotated[str | None, Meta(description="Of jobs, where a Slurm backend names none.")] = None
    account: Annotated[str | None, Meta(description="Of jobs, where a Slurm backend names none.")] = None
    qos: Annotated[str | None, Meta(description="Of jobs; `--qos` in a backend's `extra_args` wins.")] = None
    reservation: Annotated[
        str | None, Meta(description="Of jobs; `--reservation` in a backend's `extra_args` wins.")
    ] = None
    preamble: Annotated[
        list[str],
        Meta(
            description="Shell commands that run once, before everything else of a run; their environment is that of the "
            "run, its agents and its tasks. The first that fails ends the run with status 3."
        ),
    ] = []
    launch_flags: Annotated[
        list[str], Meta(description="More options of the one `srun` that starts agents, `--key=value`.")
    ] = []
    step_gres: Annotated[
        bool,
        Meta(
            description="That `srun` asks for the job's GPUs (`--gres=gpu:N`); false where Slurm refuses it: steps then have "
            "what the site gives them."
        ),
    ] = True
    interface: Annotated[
        str | None,
        Meta(
            description="In a Slurm job: the network interface that agents call, and that tasks are told in "
            "`NCCL_SOCKET_IFNAME` and `GLOO_SOCKET_IFNAME`, by its name on their node; all of them without."
        ),
    ] = None
    python: Annotated[
        str | None,
        Meta(description="On the nodes of a Slurm job: the interpreter that has this installation."),
    ] = None
    container_engine: Annotated[
        Literal["auto", "apptainer", "enroot", "podman", "docker"],
        Meta(description="Of `container` operators that name none."),
    ] = "auto"
    log_spool: Annotated[
        str | None,
        Meta(description="Agents write logs here, on their node, and stream them to the run directory."),
    ] = None
    join_within: Annotated[Time, Meta(description="In a Slurm job: how long agents may take to report.")] = 60
    headroom: Annotated[
        Time, Meta(description="In a Slurm job: stop so long before the job's time is over.")
    ] = 60
    lost_after: Annotated[Time, Meta(description="Silence that loses a node.")] = 30
    orphan_grace: Annotated[
        Time | None,
        Meta(description="Silence after which an agent gives up its controller: 10 s, in a Slurm job 60 s."),
    ] = None


class SiteFile(Settings, frozen=True, kw_only=True):
    """A site's or a user's file of settings."""

    output_dir: Annotated[
        str | None, Meta(description="Where run directories go: `WORKSPACE/sflow_output` without.")
    ] = None


class Document(Part, frozen=True, kw_only=True):
    """A whole file, or several merged."""

    version: str
    workflow: Workflow
    settings: Settings | None = None
    variables: list[Variable] = []
    artifacts: list[Artifact] = []
    backends: list[Backend] = []
    operators: list[Operator] = []
    signatures: list[Signature] = []
