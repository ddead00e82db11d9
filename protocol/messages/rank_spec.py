"""Everything an agent needs to start one rank."""

from typing import Literal

import msgspec

from protocol.ids import RankId
from protocol.messages.checks import Probe
from protocol.messages.handover import ValueFile
from protocol.text.process_labels import Labels

EngineChoice = Literal["auto", "docker", "podman", "apptainer", "enroot"]
"""A container engine; "auto" is the first of them that the node has."""
JOB_PROGRAM = "sflow-job"
"""The first word of the command line of a process that watches work elsewhere: the agent puts its own program there."""
LaunchKind = Literal["process", "step", "ssh"]
"""How a task's program is started.

As a process of the agent, by a separate Slurm job step (`argv` is an `srun`), or on another machine over ssh.
"""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """The container of a rank's command. The agent finds the engine and makes its command line."""

    engine: EngineChoice
    image: str
    workdir: str | None = None
    mounts: tuple[str, ...] = ()
    """SOURCE:TARGET[:OPTIONS], as the file says."""
    directories: tuple[str, ...] = ()
    """Visible inside at the same path and writable; one that the node does not have is left out."""
    gpus: str | None = None
    """The GPUs to request from the engine; None is the rank's own GPUs."""
    requests_gpus: bool = True
    """The engine is asked for the rank's GPUs; they are simulated otherwise."""
    pass_envs: bool = True
    is_writable: bool | None = None
    """None here and in the following fields is the engine's default."""
    mounts_home: bool | None = None
    remaps_root: bool | None = None
    network: str | None = None
    extra_args: tuple[str, ...] = ()
    """Engine options, after all others."""
    docker_host: str | None = None
    """The address of the engine's service (`ssh://HOST`, `tcp://HOST:PORT`, `unix://PATH`); None is the agent's machine."""
    context: str | None = None
    """The name under which the engine's client knows the service, in place of an address."""

    @property
    def is_elsewhere(self) -> bool:
        """Return whether the container runs on another machine than the agent, as far as the agent knows."""
        return self.docker_host is not None or self.context is not None


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """The environment that is set up before a rank's command, as text for bash (`protocol.bootstrap`)."""

    name: str
    """The name of the environment, for people."""
    shared: str = ""
    """Modules, files and activations, which the ranks of a node share unless `is_each_time`."""
    variables: str = ""
    """Variables of each attempt, also for the programs that are run beside it."""
    before: str = ""
    """Lines of each attempt."""
    hidden: tuple[str, ...] = ()
    """Variables that differ between the task's replicas: not a part of what is shared."""
    is_each_time: bool = False
    is_inside: bool = False
    """The rank's script calls for it, in a job step or on another machine; else the agent does."""


class PortBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Ports that a task needs on a node, under one name."""

    name: str
    count: int = 1
    contiguous: bool = False
    """Whether the ports follow each other."""


class TaskFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is written before a task starts."""

    path: str
    """Relative to the task's directory on the node; without `..`."""
    content: str
    mode: int = 0o600
    is_in_task_directory: bool = False
    """Written into the directory in `SFLOW_TASK_OUTPUT_DIR`; otherwise beside the log, which may be elsewhere on the node."""
    values: tuple[ValueFile, ...] = ()
    """Files whose content takes the place of their placeholders, as JSON strings, in `content`."""


class RequiredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or at least one that a pattern matches, which must have `min_bytes`."""

    path: str
    """Absolute; `*`, `?`, `[...]` and `**` are a pattern."""
    min_bytes: int = 1


class RequiredJson(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON document, of which a `protocol.text.json_expression` must be true."""

    path: str
    where: str


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """Conditions besides an exit status of 0. Patterns are searched in each line of the log."""

    files: tuple[RequiredFile, ...] = ()
    json: tuple[RequiredJson, ...] = ()
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()


class SideCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A program that is run beside a rank once, on its node, with its environment and directory."""

    argv: tuple[str, ...]
    timeout_s: float


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """How a rank is ended: its command, then a signal to its whole tree, then SIGKILL, each if a process is left."""

    command: SideCommand | None = None
    """If it succeeds, the tree has the rest of its timeout to end without a signal."""
    signal: int = 15
    grace_s: float = 5.0
    """Seconds between the signal and SIGKILL."""


class HangPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long a rank may be inactive. The controller decides whether that is a hang."""

    no_output_s: float | None = None
    no_gpu_use_s: float | None = None
    command: SideCommand | None = None
    """Examines a hang before the rank is ended."""
    is_always: bool = False
    """Also for a service that is ready."""
    stalled_s: float | None = None
    """Without output for so long it counts as stalled: people get a notice, and it is not ended."""
    progress_lines: str = ""
    """A regular expression: of the output only lines that match count for that. Empty counts all."""


class RankSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One process to start. The environment is added to the agent's own, without our secrets."""

    rank: RankId
    argv: tuple[str, ...]
    launch_kind: LaunchKind = "process"
    env: dict[str, str]
    cwd: str | None = None
    """Absolute working directory; None is the agent's own, which is the controller's."""
    log: str
    """The rank's log, relative to the run directory. The agent makes missing parents.

    Chunks, acks and watches name the rank, not this path: it is unique per attempt.
    """
    earlier_log: str | None = None
    """Where an existing file at `log` (the previous attempt's) is renamed to before the rank starts."""
    stopping: Stopping = Stopping()
    hang: HangPolicy | None = None
    probes: tuple[Probe, ...] = ()
    stream: bool = False
    """Send the log to the controller as it grows. Always done when the run directory is not shared."""
    gpus: tuple[int, ...] = ()
    """The rank's GPUs, counted in the agent's view.

    The agent sets the variables that name them, over those in `env`.
    """
    container: Container | None = None
    """The container in which `argv` runs; None is the node itself."""
    bootstrap: Bootstrap | None = None
    """Set up before `argv`, in the container if there is one."""
    required_paths: tuple[tuple[str, str], ...] = ()
    """(artifact, absolute path) of paths that must exist on the node, else it is a `LaunchFailed`."""
    files: tuple[TaskFile, ...] = ()
    """Written before the process is made, into the directory in `SFLOW_TASK_FILES_DIR`."""
    success: Success | None = None
    """Checked when the rank exits with status 0, before the exit is reported."""
    success_exit_codes: tuple[int, ...] = (0,)
    labels: Labels = "none"
    """Who has put process numbers before the lines of its log: nothing that judges lines sees them."""
    is_log_direct: bool = False
    """The rank writes into its log itself. Otherwise it prints to a pipe, from which the agent fills the log."""
