"""Every message of the fleet. Facts are in the past tense, orders in the imperative.

All are immutable `msgspec` structs, tagged by `type`; unknown fields are ignored, so a minor version may
add an optional one. A field never changes meaning, type or unit. Paths are relative to the run directory
unless their name says otherwise. Durations are seconds; `*_ns` is wall time and only ever displayed.
"""

import msgspec

from protocol.examination import MeshResult, MeshTarget, NodeReport
from protocol.ids import AttemptId, RankId
from protocol.signatures import Signature


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """Base of all messages. The tag is the class's name in snake case."""


def _snake(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class GpuUser(msgspec.Struct, frozen=True, kw_only=True):
    """A process that computes on a GPU."""

    pid: int
    owner: str = ""
    program: str = ""
    """Both are empty for a process that this node's agent cannot see."""
    memory_bytes: int | None = None
    """On the GPU; None where the driver does not say."""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU an agent may use, or one instance of a partitioned GPU. `index` counts within the agent's view."""

    index: int
    uuid: str
    name: str = ""
    memory_bytes: int = 0
    simulated: bool = False
    used_bytes: int = 0
    """Of the memory, when the agent started."""
    users: tuple[GpuUser, ...] = ()
    """At that time."""


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has, as the agent on it sees it."""

    host: str
    cpus: int
    """CPUs this agent may run on (its affinity), which can be fewer than the machine has."""
    cpus_online: int
    cpus_given: int | None = None
    """CPUs of the node that Slurm has given to the job; None outside of one."""
    memory_bytes: int
    gpus: tuple[Gpu, ...] = ()
    counts_gpus: bool = False
    """False when nothing here knows how many GPUs there are: no driver, and none given by Slurm."""
    gpu_problems: tuple[str, ...] = ()
    """Sentences about GPUs that should be there and are not."""
    python: str = ""
    open_files: tuple[int, int] = (-1, -1)
    """(soft, hard) limit that tasks get; -1 is none."""


class LiveRank(msgspec.Struct, frozen=True):
    """A rank whose process an agent has: part of its whole truth at `Hello`."""

    rank: RankId
    pid: int
    started_at_ns: int


class LogPattern(msgspec.Struct, frozen=True, kw_only=True):
    """Text to look for in a log: a literal, or a Python regular expression searched in each line."""

    pattern: str
    is_regex: bool = False
    count: int = 1
    """Matches needed, at least 1. A literal or expression may match several times in a line."""


class HttpCheck(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and what its answer must be like after redirects. All that is given must hold."""

    method: str
    """"GET" or "POST"."""
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str | None = None
    status: tuple[int, ...] = ()
    """Expected ones; empty is 200 to 399. A redirect that is expected is not followed."""
    header: tuple[tuple[str, str], ...] = ()
    """(name, text): the answer has a header of this name with the text in its value."""
    body_contains: str | None = None
    json: str | None = None
    """A `protocol.json_expression` over the answer's body that must be true."""
    verify: bool = True
    """Whether the certificate of an https server must be good."""
    ca_file: str | None = None
    """A file on the node with the authorities to trust instead of the system's."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something an agent can see. Exactly one of `tcp_port`, `log`, `http` and `exec` is set."""

    tcp_port: int | None = None
    tcp_host: str | None = None
    """Where to connect; None watches this node's listening sockets for one of the task's own."""
    log: LogPattern | None = None
    log_task: str | None = None
    """The concrete task whose log is watched, when it is not the task's own."""
    http: HttpCheck | None = None
    owner: str = "task"
    """Whose process must listen on a port of this node, a URL's too: one of the "task", of the "run", or "any"."""
    exec: tuple[str, ...] = ()
    """A program that is started beside the task, with its environment: true when it exits with 0."""


class Probe(Condition, frozen=True, kw_only=True):
    """A condition an agent watches beside a rank, or several in `parts`."""

    kind: str
    """"readiness" or "failure"."""
    parts: tuple[Condition, ...] = ()
    needs_all: bool = True
    """Whether all parts must hold, or any one of them."""
    on_node: str = "first"
    """"first", or "each": every node of the task must say so."""
    delay_s: float = 0.0
    interval_s: float = 5.0
    timeout_s: float = 60.0
    """Limit of a single check."""
    threshold: int = 1
    """Consecutive true checks needed of each condition."""


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """Where a rank's command runs instead of on the node itself. The agent finds the engine and makes its command line."""

    engine: str
    """"docker", "podman", "apptainer", "enroot", or "auto" for the first of them that the node has."""
    image: str
    workdir: str | None = None
    mounts: tuple[str, ...] = ()
    """SOURCE:TARGET[:OPTIONS], as the file says."""
    directories: tuple[str, ...] = ()
    """Seen inside at the same path and writable; one that the node does not have is left out."""
    gpus: str | None = None
    """What to ask the engine for; None is the rank's own GPUs."""
    pass_envs: bool = True
    is_writable: bool | None = None
    """None here and in what follows is the engine's own way."""
    mounts_home: bool | None = None
    remaps_root: bool | None = None
    network: str | None = None
    extra_args: tuple[str, ...] = ()
    """Engine options, after all others."""


class PortBlock(msgspec.Struct, frozen=True, kw_only=True):
    """Ports that a task wants to have on a node, under one name."""

    name: str
    count: int = 1
    contiguous: bool = False
    """Whether each is one above the one before."""


class TaskFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a task finds when it starts."""

    path: str
    """Relative to the task's directory on the node; without `..`."""
    content: str
    mode: int = 0o600


class RequiredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or at least one that a pattern matches, which must have `min_bytes`."""

    path: str
    """Absolute; `*`, `?`, `[...]` and `**` are a pattern."""
    min_bytes: int = 1


class RequiredJson(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON document, of which a `protocol.json_expression` must be true."""

    path: str
    where: str


class Success(msgspec.Struct, frozen=True, kw_only=True):
    """What must hold besides an exit status of 0. Patterns are searched in each line of the log."""

    files: tuple[RequiredFile, ...] = ()
    json: tuple[RequiredJson, ...] = ()
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()


class SideCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A program that is run beside a rank once, on its node, with its environment and directory."""

    argv: tuple[str, ...]
    timeout_s: float


class Stopping(msgspec.Struct, frozen=True, kw_only=True):
    """How a rank is ended: its command, then a signal to its whole tree, then SIGKILL, each if anything is left."""

    command: SideCommand | None = None
    """When it succeeds, the tree has the rest of its timeout to end without a signal."""
    signal: int = 15
    grace_s: float = 5.0
    """Seconds between the signal and SIGKILL."""


class HangWatch(msgspec.Struct, frozen=True, kw_only=True):
    """For how long a rank may show no life. Whether that means a hang, the controller decides."""

    no_output_s: float | None = None
    no_gpu_use_s: float | None = None
    command: SideCommand | None = None
    """Looks into a hang before it is ended."""
    is_always: bool = False
    """Also of a service that is ready."""


class RankSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One process to start. The environment is added to the agent's own, without our secrets."""

    rank: RankId
    argv: tuple[str, ...]
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
    hang: HangWatch | None = None
    probes: tuple[Probe, ...] = ()
    stream: bool = False
    """Send the log to the controller as it grows. Always done when the run directory is not shared."""
    gpus: tuple[int, ...] = ()
    """The rank's GPUs, counted in the agent's view. The agent sets the variables that name them, whatever `env` says."""
    container: Container | None = None
    """Where `argv` runs; None is the node itself."""
    required_paths: tuple[tuple[str, str], ...] = ()
    """(artifact, absolute path) of what must exist on the node, else it is a `LaunchFailed`."""
    files: tuple[TaskFile, ...] = ()
    """Written before the process is made. `SFLOW_TASK_FILES_DIR` says where."""
    success: Success | None = None
    """Judged when the rank ends well, before that is told."""
    success_exit_codes: tuple[int, ...] = (0,)


# ---------------------------------------------------------------- to the agent


class ToAgentMessage(Message, frozen=True, kw_only=True, tag=_snake):
    """Base of what a controller sends."""


class Welcome(ToAgentMessage, frozen=True, kw_only=True):
    """The controller accepted a `Hello`. Ends the handshake and starts the session named in it.

    Carries the verdict on what the agent said it has: `kill` names ranks that must not live.
    """

    session: str
    incarnation: int
    kill: tuple[RankId, ...] = ()
    heartbeat_s: float = 2.0
    orphan_grace_s: float = 10.0
    signatures: tuple[Signature, ...] = ()
    """The workflow's own; they go before those of everybody."""


class Refused(ToAgentMessage, frozen=True, kw_only=True):
    """The controller will never accept this agent. It ends its tasks and exits."""

    code: str
    reason: str


class Spawn(ToAgentMessage, frozen=True, kw_only=True):
    """Start these ranks. A rank already known to the agent, live or ended, is not started again."""

    ranks: tuple[RankSpec, ...]


class Stop(ToAgentMessage, frozen=True, kw_only=True):
    """End everything this attempt started on the node in its own way (`Stopping`), and verify.

    Repeating it with a shorter grace shortens the wait; an unknown attempt is ignored.
    """

    attempt: AttemptId
    grace_s: float
    """Between signal and SIGKILL; with 0 there is no signal before."""
    is_forced: bool = False
    """SIGKILL now: no command is run or waited for any more."""
    is_hang: bool = False
    """The command that looks into a hang comes before everything else."""


class Lease(ToAgentMessage, frozen=True, kw_only=True):
    """Keep ports of this node for a task, until its process is made, and say which. They stay the task's until `Release`.

    A higher `number` than the last one asks for others in place of those that somebody else has now; the same
    number is answered with the same ports again.
    """

    task: str
    number: int
    blocks: tuple[PortBlock, ...]


class Release(ToAgentMessage, frozen=True, kw_only=True):
    """The task will not start again: its ports here are anybody's."""

    task: str


class Watch(ToAgentMessage, frozen=True, kw_only=True):
    """Send this rank's log from byte `offset` on. Repeating it moves the stream to the new offset."""

    rank: RankId
    offset: int


class Unwatch(ToAgentMessage, frozen=True, kw_only=True):
    """Nobody looks at this log any more; stop sending it, unless it must be sent anyway."""

    rank: RankId


class LogMatched(ToAgentMessage, frozen=True, kw_only=True):
    """What a `LogSearch` was for has been seen, in this line."""

    rank: RankId
    key: str
    line: str


class Examine(ToAgentMessage, frozen=True, kw_only=True):
    """Find something out about the node; answered by one `Examined` with the same number.

    With nothing to find out, the answer is immediate: for the comparison of clocks.
    """

    number: int
    token: str = ""
    """What agents say to each other when they connect: unique per examination."""
    wants_report: bool = False
    directories: tuple[tuple[str, str], ...] = ()
    """(role, absolute path) of what the report is to look at besides what every node has."""
    targets: tuple[MeshTarget, ...] = ()
    """Agents to connect to."""
    within_s: float = 10.0
    """What has not come by then is reported missing."""


class Leave(ToAgentMessage, frozen=True, kw_only=True):
    """The run is over: end what is left, flush, and exit. The last order an agent gets."""

    grace_s: float = 0.0


ToAgent = Welcome | Refused | Spawn | Stop | Lease | Release | Watch | Unwatch | LogMatched | Examine | Leave

# ---------------------------------------------------------------- from the agent


class FromAgentMessage(Message, frozen=True, kw_only=True, tag=_snake):
    """Base of what an agent sends."""


class RankStarted(FromAgentMessage, frozen=True, kw_only=True):
    """The rank's process exists."""

    rank: RankId
    pid: int
    started_at_ns: int


class LaunchFailed(FromAgentMessage, frozen=True, kw_only=True):
    """The rank's process could not be started; it never existed. `errno` is the system's number or 0."""

    rank: RankId
    errno: int
    reason: str
    stolen: str = ""
    """See `RankExited`."""


class ExitCause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a rank ended badly, as far as its node can tell."""

    word: str
    """One of `protocol.reasons`, or of a signature of the workflow's own."""
    text: str
    """The sentence, without the exit status."""
    hint: str = ""
    """What to do."""
    line: str = ""
    """The line of the log that says so, cut to 500 characters."""
    line_number: int | None = None
    """From 1; None where counting would have meant reading too much."""
    offset: int | None = None
    """Of the line's first byte in the log."""


class RankExited(FromAgentMessage, frozen=True, kw_only=True):
    """The rank's main process has been reaped. Exactly one of `exit_code` and `signal` is set.

    `cleared` says that nothing it started is left either; otherwise a `RankCleared` follows.
    """

    rank: RankId
    exit_code: int | None = None
    signal: int | None = None
    runtime_s: float = 0.0
    log_bytes: int = 0
    """Size of the rank's log at that moment."""
    cleared: bool = True
    stolen: str = ""
    """Which of the task's ports here somebody else has, and who; looked for after a failure only."""
    was_asked: bool = False
    """The agent was already ending it, on somebody's order: how it ended then explains nothing."""
    cause: ExitCause | None = None
    """After a good exit status it is what the rank's `success` misses."""


class RankCleared(FromAgentMessage, frozen=True, kw_only=True):
    """Everything the rank started is gone, but for `survivors` ("pid name"), which could not be ended."""

    rank: RankId
    ended: int = 0
    """Processes it had left behind and the agent ended."""
    survivors: tuple[str, ...] = ()


class ProbeTriggered(FromAgentMessage, frozen=True, kw_only=True):
    """A probe saw its condition as often in a row as its threshold asks. Sent once per rank and kind."""

    attempt: AttemptId
    rank: int = 0
    kind: str
    detail: str
    """What was seen: "port 6379 listening", or the matched line, cut to 500 characters."""


class ProbeWaiting(FromAgentMessage, frozen=True, kw_only=True):
    """What a readiness probe still misses; said after a second, and then when it changes, once a second at most."""

    attempt: AttemptId
    kind: str
    detail: str
    """"port 8000 is not listening", "HTTP 503"; cut to 500 characters."""


class Leased(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `Lease` of this task and number."""

    task: str
    number: int
    ports: dict[str, tuple[int, ...]] = {}
    """By the names of the blocks."""
    problem: str = ""
    """Why there are none, for a person; empty if there are."""


class RankQuiet(FromAgentMessage, frozen=True, kw_only=True):
    """A rank has shown no life of a kind for as long as its `HangWatch` says, or shows some again."""

    rank: RankId
    kind: str
    """"output" or "gpus"."""
    is_quiet: bool


class SideCommandEnded(FromAgentMessage, frozen=True, kw_only=True):
    """A command beside a rank has ended, or was ended."""

    rank: RankId
    purpose: str
    """"stop" or "hang"."""
    output: bytes = b""
    """What it has printed; of more than `MAX_SIDE_OUTPUT_BYTES` the end."""
    problem: str = ""
    """"exited with 7", "did not end within 10 s"; empty when it succeeded."""


MAX_SIDE_OUTPUT_BYTES = 1024 * 1024


class NodeDescribed(FromAgentMessage, frozen=True, kw_only=True):
    """Facts about the node that take too long to collect before the first task may start."""

    addresses: tuple[tuple[str, str], ...] = ()
    """(interface, address) pairs, IPv4 and IPv6."""
    clock_ns: int = 0
    """The node's wall clock now, which is after the session's `Welcome`; 0 for an agent that does not say."""


class Examined(FromAgentMessage, frozen=True, kw_only=True):
    """What an `Examine` was about."""

    number: int
    clock_ns: int
    """The node's wall clock when this was sent."""
    report: NodeReport | None = None
    mesh: tuple[MeshResult, ...] = ()


class Notice(FromAgentMessage, frozen=True, kw_only=True):
    """Something a person should read: `level` is "warning" or "error"."""

    level: str
    text: str


class Hello(FromAgentMessage, frozen=True, kw_only=True):
    """Who this agent is and all it has. Repeated until answered; starts a new session each time."""

    version: tuple[int, int]
    install_path: str
    session: str
    """Unique per handshake. Packets of any other session are counted and dropped."""
    session_number: int = 0
    """Counted up with each session of this agent process: a hello that comes late must not undo a newer
    one.
    """
    node: int
    """The node's index in the run, from Slurm's node id or the local launcher."""
    agent_incarnation: int
    """Wall-clock start of the agent process in ns: the newest one for a node wins."""
    controller_incarnation: int
    """The highest controller incarnation this agent has obeyed; 0 for none."""
    pid: int
    sent_at_ns: int = 0
    """The node's clock, to compare it with the controller's."""
    node_name: str = ""
    """What Slurm calls the node."""
    address: str = ""
    """This node's address on the way to the controller; empty when it could not be found out."""
    endpoint: str = ""
    """Which of the controller's addresses this hello was sent to."""
    inventory: Inventory
    shares_run_directory: bool
    live: tuple[LiveRank, ...] = ()
    exited: tuple[RankExited, ...] = ()
    """Ends that no controller has acknowledged yet."""
    clearing: tuple[RankId, ...] = ()
    """Ranks that have ended and whose left-over processes are still being ended."""
    triggered: tuple[ProbeTriggered, ...] = ()
    """Probes of live attempts that have triggered, told before or not: the telling may have been lost."""
    quiet: tuple[RankQuiet, ...] = ()
    """Live ranks that show no life, likewise."""


class LogSearch(FromAgentMessage, frozen=True, kw_only=True):
    """A probe of this rank is about another task's log, which its node does not have: the controller shall look at its own.

    Repeated in each session until answered by `LogMatched`. Without a pattern nobody waits for it any more.
    """

    rank: RankId
    key: str
    """The condition, by the agent's name for it."""
    task: str
    pattern: LogPattern | None = None


class Goodbye(FromAgentMessage, frozen=True, kw_only=True):
    """The agent has nothing left and exits now."""

    survivors: tuple[str, ...] = ()


FromAgent = (
    RankStarted
    | LaunchFailed
    | RankExited
    | RankCleared
    | ProbeTriggered
    | ProbeWaiting
    | LogSearch
    | Leased
    | RankQuiet
    | SideCommandEnded
    | NodeDescribed
    | Examined
    | Notice
    | Hello
    | Goodbye
)

# ---------------------------------------------------------------- packets of the control socket


class ToAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What crosses the control socket towards an agent. See `protocol.channel` for `seq` and `ack`."""

    session: str
    incarnation: int
    seq: int = 0
    ack: int = 0
    messages: tuple[ToAgent, ...] = ()


class FromAgentPacket(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What crosses the control socket from an agent. `seq` 0 is not numbered: a `Hello`, or a heartbeat."""

    session: str
    seq: int = 0
    ack: int = 0
    messages: tuple[FromAgent, ...] = ()


# ---------------------------------------------------------------- the log socket: [header, body]


class LogChunk(Message, frozen=True, kw_only=True, tag="log_chunk"):
    """Bytes of a log at `offset`; they travel as the frame after this header, at most 256 KiB."""

    rank: RankId
    offset: int
    is_spool: bool = False
    """The controller must append them to its own file: the run directory is not shared."""
    is_end: bool = False
    """The rank has ended and its log stops here. The body may be empty."""


class LogAck(Message, frozen=True, kw_only=True, tag="log_ack"):
    """All bytes of the rank's log before `offset` are where they belong; more may be sent."""

    rank: RankId
    offset: int


# ---------------------------------------------------------------- what an agent is started with


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an agent needs to call home. Travels over its stdin, never on a command line."""

    run_id: str
    node: int
    node_name: str
    control_endpoints: tuple[str, ...]
    log_endpoints: tuple[str, ...]
    controller_key: str
    """The controller's public CURVE key, Z85. Pinned."""
    public_key: str
    secret_key: str
    marker: str
    """Value of `SFLOW_RUN_MARKER` in everything the agent starts."""
    predecessor: str | None = None
    """That of the run's earlier agents, if it is resumed: what still carries it is ended first."""
    run_directory: str
    """Absolute, as the controller sees it."""
    nonce: str
    """Content of `.nonce` in the run directory: equal on this node means the directory is shared."""
    nonce_path: str | None = None
    """Where the nonce is, if not in the run directory: that may be made after the agents."""
    spool_directory: str | None = None
    """Write logs below this directory and send them, although the run directory may be shared."""
    is_interface_chosen: bool = False
    """A person has said which network is to be used: programs that would choose one themselves are told."""
    simulated_gpus: int = 0
    orphan_grace_s: float = 10.0
    log_level: str = "warning"


class StepConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What one job step gives to all of its agents alike, in an environment variable that they wipe.

    Each completes `common` by itself: its node is its place in `nodes`, by Slurm's name for it, its keys come from
    `key_seed`. Places of nodes that are not of the job are empty.
    """

    common: AgentConfig
    nodes: tuple[str, ...]
    key_seed: bytes
