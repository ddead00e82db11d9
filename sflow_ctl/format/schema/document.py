"""A whole file: the workflow, its settings, and the named things beside it."""

from typing import Annotated, Any, Literal

from sflow_ctl.format.schema.backends import Backend
from sflow_ctl.format.schema.definitions import Artifact, Environment, Signature, Variable
from sflow_ctl.format.schema.monitor import Monitor
from sflow_ctl.format.schema.operators import Operator
from sflow_ctl.format.schema.policies import Notify, Stop
from sflow_ctl.format.schema.results import Success, WorkflowInput, WorkflowOutput
from sflow_ctl.format.schema.sweep import Sweep
from sflow_ctl.format.schema.tasks import Task
from sflow_ctl.format.schema.uploads import Storage, UploadAll
from sflow_ctl.format.schema.values import ONE, VALUES, Flag, IntExpr, Part, Time
from sflow_ctl.plan.words import OnFailure, OnNodeLost, PolicyWord


class WorkflowSettings(Part, frozen=True, kw_only=True):
    """Fields of a workflow that apply to all its tasks."""

    timeout: Time | None = None
    """Time limit of the whole run: seconds or a duration, for example `4h`. Default, or 0: no limit."""
    on_failure: OnFailure | None = None
    """Default of the tasks' `on_failure`, the effect of a task's failure on the run.

    `cancel` ends the run, `drain` starts nothing new, `isolate` stops the tasks that depend on it, `continue`
    ignores the failure. Default: `isolate` for the cells of a sweep, else `cancel`.
    """
    on_node_lost: OnNodeLost | None = None
    """Default of the tasks' `on_node_lost`. Default: `elsewhere` for tasks of backends with `spares`; for others `retries` and
    `restart` decide."""
    keep_alive: Flag = False
    """Keep the run alive while only services are left, until it is stopped."""
    success: Success | None = None
    """Conditions on a completed run; paths are in the run directory, patterns are for the logs of all tasks."""
    stop: Stop | str | None = None
    """Default of the tasks' `stop`; a text is short for `{signal: TEXT}`."""
    upload_all: UploadAll | None = None
    """Copy the run directory to a storage target at the end of the run."""
    stop_timeout: Time | None = None
    """Time limit for stopping the whole run, with its `finally` tasks. Default: no limit."""
    labels: dict[str, str] = {}
    """Words about the run for `sflow-ctl ps --query label.NAME=VALUE`, for example `{team: vision}`; values may hold
    expressions on variables. `run --label` adds others."""
    stop_before_end: Time | None = None
    """In a Slurm job: stop the run this long before the end of the job's time, for example `10m`. Tasks get their stop signal
    (`stop: {signal}`) then, and all of this time but half a minute to save. Default: the setting `headroom`, with the tasks' own
    grace."""
    monitor: Monitor | None = None
    """Measure all nodes of the run, and report on them at its end."""
    notify: Annotated[list[Notify], ONE] = []
    """Notified when the run is ready, has its first failure, or ends: commands and webhooks. A single one needs no list."""
    environment: str | None = None
    """Default of the tasks' `environment`: the name of an entry of `environments`."""
    max_running: IntExpr | None = None
    """Run at most so many tasks at once over all nodes, services included. `--max-running` wins. Default: that of the settings,
    else no limit."""
    packages: Annotated[list[str], ONE] = []
    """Packages of all tasks, beside their own."""
    inputs: Annotated[dict[str, WorkflowInput], VALUES] = {}
    """Values that are given when the workflow is started, by name: `${{ workflow.inputs.NAME }}`. A type alone is short for
    `{type: TYPE}`."""
    outputs: Annotated[dict[str, WorkflowOutput], VALUES] = {}
    """Values of the whole run, by name: in `.sflow/outputs.json`, in `summary.json`, and shown by `sflow-ctl outputs`."""


class BlockInput(Part, frozen=True, kw_only=True):
    """A value that a block is given."""

    type: Literal["int", "float", "str", "bool", "list", "dict", "path", "paths"] | None = None
    """Type that the value must have. Default: any."""
    default: Any = None
    """Value of tasks that give none. Default: it must be given."""


class TaskBlock(Part, frozen=True, kw_only=True):
    """Tasks that stand for one: a task with `block: NAME` runs them, each time with inputs of its own."""

    name: str
    """Name of the block."""
    inputs: dict[str, BlockInput] = {}
    """Its inputs by name, which its tasks have as `${{ block.inputs.NAME }}`; a word is short for `{type: WORD}`."""
    outputs: dict[str, Any] = {}
    """Its outputs by name, from those of its tasks: `{model: ${{ task.select.outputs.model }}}`."""
    tasks: list[Task] = []
    """The tasks. They name each other as tasks of a workflow do; other names are those of the workflow."""


class Workflow(WorkflowSettings, frozen=True, kw_only=True):
    """The tasks and what they have in common."""

    name: str
    """Name of the workflow; run directories begin with it."""
    tasks: list[Task]
    """The tasks: a list of entries with names, or a mapping from names to bodies."""
    blocks: list[TaskBlock] = []
    """Groups of tasks that tasks stand for: a list of entries with names, or a mapping from names to bodies."""
    variables: list[Variable] = []
    """Variables of the workflow; they replace those of the file with the same name."""


class TelemetryChoices(Part, frozen=True, kw_only=True):
    """What agents measure of tasks and GPUs."""

    enabled: bool = True
    """Measure CPU, memory, I/O and GPUs of each task, and offer `sflow-ctl mark` to tasks."""
    every: Time = 1
    """Time between two measurements, at least `100ms`. A node with many processes is measured less often by itself."""
    openmetrics: str | int | None = None
    """Publish the newest values: a path for a text file that is replaced, or a number for a port on this machine's loopback.
    Default: neither."""


class Validation(Part, frozen=True, kw_only=True):
    """What findings that are a matter of judgement mean: `error` refuses the run, `warn` shows them, `off` says nothing."""

    default: PolicyWord | bool = "warn"
    """Of all that are warnings otherwise."""
    rules: dict[str, PolicyWord | bool] = {}
    """Of one kind, by the code in brackets: `{shell-variable: off, artifact-missing: error}`."""


class Settings(Part, frozen=True, kw_only=True):
    """How runs are started: usually given by a site's or a user's file, or by a workflow."""

    partition: str | None = None
    """Slurm partition of jobs, if a backend names none."""
    account: str | None = None
    """Slurm account of jobs, if a backend names none."""
    qos: str | None = None
    """Slurm quality of service of jobs; `--qos` in a backend's `extra_args` wins."""
    reservation: str | None = None
    """Slurm reservation of jobs; `--reservation` in a backend's `extra_args` wins."""
    preamble: list[str] = []
    """Shell commands that run once, before everything else of a run; the run, its agents and its tasks inherit their environment.
    The first command that fails ends the run with status 3."""
    launch_flags: list[str] = []
    """More options for the one `srun` that starts the agents, each `--key=value`."""
    step_gres: bool = True
    """Let that `srun` ask for the job's GPUs (`--gres=gpu:N`).

    Use false where Slurm refuses it; steps then have the GPUs that the site gives them.
    """
    strict: bool = False
    """Start scripts with `set -euo pipefail`, unless their task or operator says otherwise (`strict`, `fail_fast`)."""
    max_running: int | None = None
    """Run at most so many tasks at once, if neither the workflow nor `--max-running` gives a number."""
    interface: str | None = None
    """In a Slurm job: network interface for the connections of agents, which tasks also find in `NCCL_SOCKET_IFNAME` and
    `GLOO_SOCKET_IFNAME`. Default: all interfaces."""
    python: str | None = None
    """Python interpreter on the nodes of a Slurm job that has this installation. Default: the one that runs the controller."""
    container_engine: Literal["auto", "apptainer", "enroot", "podman", "docker"] = "auto"
    """Engine for `container` operators that name none."""
    log_spool: str | None = None
    """Directory on the nodes where agents write logs before they stream them to the run directory. Default: logs are written
    to the run directory directly where the node shares it."""
    scratch: str = "/tmp"
    """Directory on a disk of each node, for inputs with `stage: local`: they are in `sflow-RUN` there."""
    join_within: Time = 60
    """In a Slurm job: time for all agents to connect."""
    headroom: Time = 60
    """In a Slurm job: time before the job's end at which the run is stopped."""
    lost_after: Time = 30
    """Silence of an agent after which its node is lost."""
    orphan_grace: Time | None = None
    """How long an agent waits for a vanished controller before it stops its tasks. Default: 10 seconds, in a Slurm job 60."""
    agent_restarts: int = 3
    """How often within 10 minutes an agent that was killed is started again on its node, where its tasks then follow their
    `retries` and `restart`. After that, and with 0 at once, the node is lost."""
    copy_limit: str = "10G"
    """Where a node does not share the run directory: the most that is copied of the outputs, inputs or checkpoint of one task,
    to the run directory or from it, for example `200G`. More is an error."""
    agent_link: Literal["auto", "network"] = "auto"
    """How agents on the controller's own machine talk to it: `auto` by sockets that they inherit, `network` as in a Slurm job, by
    encrypted TCP, over the loopback."""
    telemetry: TelemetryChoices | None = None
    """What agents measure of tasks and GPUs. Default: each second, to files in the run directory."""
    validation: Validation | None = None
    """What findings of planning mean. Rules of several files are put together; the later file wins for a code."""
    report: bool = True
    """Write `report.html` at the end of a run; `sflow-ctl report` makes it at any time."""


class SiteFile(Settings, frozen=True, kw_only=True):
    """A site's or a user's file of settings."""

    output_dir: str | None = None
    """Directory for run directories. Default: `sflow_output` in the workspace."""
    index: Literal["none", "sqlite"] = "none"
    """Keep a database of what lists over many runs need, so that `ps`, `ps --tasks` and `export` read only runs that
    have changed. A copy: deleting it loses nothing."""
    index_file: str | None = None
    """File of that database, on a disk of this machine. Default: `~/.local/state/sflow/index.sqlite`."""


class Document(Part, frozen=True, kw_only=True):
    """A whole file, or several merged."""

    version: str
    """Version of the format, in quotes: `"0.1"`."""
    workflow: Workflow
    """The tasks and what they have in common."""
    include: dict[str, str] = {}
    """Other files whose blocks tasks may stand for, by a prefix: with `{fit: lib/fit.yaml}` its block `train` is `fit.train`, and
    its workflow as a whole `fit`. Paths are relative to the file that has them."""
    sweep: Sweep | None = None
    """Run the workflow for many values: every task that is not marked `sweep: false` once for each cell."""
    settings: Settings | None = None
    """How runs of this file are started; overrides the settings of the site and the user."""
    variables: list[Variable] = []
    """Values for expressions and for the environment of tasks."""
    artifacts: list[Artifact] = []
    """Files, directories and remote objects that tasks use."""
    backends: list[Backend] = []
    """Groups of nodes. Default: one local backend."""
    operators: list[Operator] = []
    """Ways to start scripts. Default: bash on the task's node."""
    environments: list[Environment] = []
    """What tasks may have set up on their nodes before their scripts: modules, conda or virtual environments, variables."""
    storage: list[Storage] = []
    """Places outside the run directory that files are uploaded to."""
    signatures: list[Signature] = []
    """Patterns for log lines that explain failures."""
    secrets: list[str] = []
    """Names of variables, of this file or of the caller's environment, whose values are masked wherever this program shows or
    records them, for example `[HF_TOKEN]`."""
