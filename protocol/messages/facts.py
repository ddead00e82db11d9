"""Facts from an agent to the controller. Past tense."""

from typing import Literal

import msgspec

from protocol.ids import AttemptId, ProbeKey, ProbeKind, RankId
from protocol.messages.base import Message, _snake
from protocol.messages.checks import LogPattern
from protocol.messages.handover import CheckpointChoice, FoundOutput, RecordedFile
from protocol.messages.inspection import MeshResult, NodeReport
from protocol.messages.monitor import RankWindow, Reading
from protocol.messages.node import Inventory
from protocol.messages.telemetry import MarkedWindow, RankUse
from protocol.messages.uploads import UploadOutcome

ActivityKind = Literal["output", "gpus", "progress"]
"""The kinds of a rank's activity: output, use of its GPUs, or output by the limit after which people are only told."""
SidePurpose = Literal["hang", "stop"]
"""The purpose of a command beside a rank: to examine its hang, to stop it."""
NoticeLevel = Literal["warning", "error"]


class LiveRank(msgspec.Struct, frozen=True):
    """A rank with a process: a part of the agent's complete state at `Hello`."""

    rank: RankId
    pid: int
    started_at_ns: int


class FromAgentMessage(Message, frozen=True, kw_only=True, tag=_snake):
    """Base of messages from an agent."""


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
    port_conflict: str = ""
    """As in `RankExited`."""


class ExitCause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a rank ended badly, as far as its node knows."""

    word: str
    """One of `protocol.diagnosis.reasons`, or of a signature of the workflow's own."""
    text: str
    """The sentence, without the exit status."""
    hint: str = ""
    """The remedy."""
    line: str = ""
    """The line of the log that shows it, cut to 500 characters."""
    line_number: int | None = None
    """From 1; None if counting would have meant reading too much."""
    offset: int | None = None
    """The position of the line's first byte in the log."""


class RankExited(FromAgentMessage, frozen=True, kw_only=True):
    """The rank's main process has been reaped. Exactly one of `exit_code` and `signal` is set.

    `cleared` means that none of its processes is left; otherwise a `RankCleared` follows.
    """

    rank: RankId
    exit_code: int | None = None
    signal: int | None = None
    runtime_s: float = 0.0
    log_bytes: int = 0
    """Size of the rank's log at that moment."""
    cleared: bool = True
    port_conflict: str = ""
    """Which of the task's ports here another process has, and which process; only after a failure."""
    was_asked: bool = False
    """The agent was already ending it, as ordered: its status or signal then explains nothing."""
    cause: ExitCause | None = None
    """After exit status 0, the `success` condition that does not hold."""
    has_listened: bool = False
    """A process of the rank was seen to listen on a TCP port after its readiness probe had triggered.

    Looked for only where no check of its probes is about a port or URL.
    """
    use: RankUse | None = None


class RankCleared(FromAgentMessage, frozen=True, kw_only=True):
    """All processes of the rank are gone, except `survivors` ("pid name"), which could not be ended."""

    rank: RankId
    ended: int = 0
    """Processes that it had left behind and the agent ended."""
    left: tuple[str, ...] = ()
    """The first of those that were there when its main process had ended: "pid name"."""
    survivors: tuple[str, ...] = ()


class ProbeTriggered(FromAgentMessage, frozen=True, kw_only=True):
    """A probe's checks have held as often in a row as its threshold requires.

    Sent once per rank and kind; of a list of readiness probes, once for each of them.
    """

    attempt: AttemptId
    rank: int = 0
    kind: ProbeKind
    part: int = 0
    """The probe's position in the list of its kind."""
    detail: str
    """What was seen: "port 6379 listening", or the matched line, cut to 500 characters."""


class ProbeWaiting(FromAgentMessage, frozen=True, kw_only=True):
    """What a readiness probe waits for; sent after a second, and then when it changes, once a second at most."""

    attempt: AttemptId
    kind: ProbeKind
    detail: str
    """"port 8000 is not listening", "HTTP 503"; cut to 500 characters."""


OTHER_PORT, OTHER_ADDRESS = "the task listens on ", ", only on "
"""Parts of the detail of a service that does listen, but not where its probe looks: a mistake, most likely."""


class Leased(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `Lease` of this task and number."""

    task: str
    number: int
    ports: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """By the names of the blocks."""
    problem: str = ""
    """Why there are no ports, for a person; empty on success."""


class CheckpointFound(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `FindCheckpoint` of this attempt."""

    attempt: AttemptId
    choice: CheckpointChoice
    files: tuple[RecordedFile, ...] = ()
    """Those of the checkpoint, with its marker and the program's pointer, where the attempt starts on another node."""


class OutputsFound(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `FindOutputs` of this attempt."""

    attempt: AttemptId
    outputs: tuple[FoundOutput, ...] = ()
    """One for each rule, in their order; with a problem none, unless the attempt is for several items: some may have values."""
    problem: str = ""
    """Why the attempt has failed after all, as a sentence."""
    hint: str = ""
    """The remedy."""
    is_missing: bool = False
    """An output that it must have is not there; otherwise one is not what it should be."""


class InputsChecked(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `CheckInputs` of this attempt."""

    attempt: AttemptId
    problem: str = ""
    """Why the attempt must not start, as a sentence; empty if it may."""
    hint: str = ""
    """The remedy."""


class Uploading(FromAgentMessage, frozen=True, kw_only=True):
    """How far the `UploadFiles` of an attempt is; sent every 10 s at most."""

    attempt: AttemptId
    text: str
    """"3 of 10 files, 120 MB of 1.2 GB"."""


class Uploaded(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `UploadFiles` of this attempt: it has ended, or was ended."""

    attempt: AttemptId
    outcome: UploadOutcome


class RankIdle(FromAgentMessage, frozen=True, kw_only=True):
    """A rank has been inactive for as long as its `HangPolicy` allows, or is active again."""

    rank: RankId
    kind: ActivityKind
    is_quiet: bool


class SideCommandEnded(FromAgentMessage, frozen=True, kw_only=True):
    """A command beside a rank has ended, or was ended."""

    rank: RankId
    purpose: SidePurpose
    output: bytes = b""
    """Its output; of more than `MAX_SIDE_OUTPUT_BYTES` the end."""
    problem: str = ""
    """"exited with 7", "did not end within 10 s"; empty on success."""


MAX_SIDE_OUTPUT_BYTES = 1024 * 1024


class GpuLost(FromAgentMessage, frozen=True, kw_only=True):
    """A GPU of the node can no longer be used: the driver lost it, or reported an error after which it computes nothing right."""

    gpu: int
    """Its index within the agent's view."""
    text: str
    """The sentence: "fell off the bus (Xid 79)"."""


class AgentSuspended(FromAgentMessage, frozen=True, kw_only=True):
    """The agent did not run for a time, alone or with its node: limits of the node's tasks count without it."""

    seconds: float


class LifeConfirmed(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to a `ConfirmLife`: the agent runs."""

    number: int


class NodeDescribed(FromAgentMessage, frozen=True, kw_only=True):
    """Facts about the node that take too long to collect before the first task may start."""

    addresses: tuple[tuple[str, str], ...] = ()
    """(interface, address) pairs, IPv4 and IPv6."""
    clock_ns: int = 0
    """The node's wall clock now, which is after the session's `Welcome`; 0 if unknown."""


class Inspected(FromAgentMessage, frozen=True, kw_only=True):
    """The report that an `Inspect` ordered."""

    number: int
    clock_ns: int
    """The node's wall clock when this was sent."""
    report: NodeReport | None = None
    mesh: tuple[MeshResult, ...] = ()


class Notice(FromAgentMessage, frozen=True, kw_only=True):
    """Something a person should read."""

    level: NoticeLevel
    text: str


class Hello(FromAgentMessage, frozen=True, kw_only=True):
    """The agent's identity and complete state. Repeated until answered; starts a new session each time."""

    version: tuple[int, int]
    install_path: str
    session: str
    """Unique per handshake. Packets of any other session are counted and dropped."""
    session_number: int = 0
    """Counted up with each session of this agent process: a hello that comes late must not undo a newer one."""
    key: str = ""
    """A public CURVE key, Z85, that the agent has made for itself and will use from the next session on. Only from an agent
    that must enrol (`AgentConfig.must_enrol`); the answer is `Enrolled`."""
    node: int
    """The node's index in the run, from Slurm's node id or the local launcher."""
    agent_incarnation: int
    """Wall-clock start of the agent process in ns: the newest one for a node wins."""
    controller_incarnation: int
    """The highest controller incarnation this agent has obeyed; 0 for none."""
    follows: str = ""
    """How the agent before on this node ended, as "was killed by SIGKILL": this one was started in its place, when nothing of
    it was left. Empty for the first."""
    pid: int
    sent_at_ns: int = 0
    """The node's clock, to compare it with the controller's."""
    node_name: str = ""
    """Slurm's name of the node."""
    address: str = ""
    """This node's address on the way to the controller; empty if unknown."""
    endpoint: str = ""
    """The address of the controller that this hello was sent to."""
    inventory: Inventory
    shares_run_directory: bool
    live: tuple[LiveRank, ...] = ()
    exited: tuple[RankExited, ...] = ()
    """Ends that no controller has acknowledged yet."""
    clearing: tuple[RankId, ...] = ()
    """Ranks that have ended and whose remaining processes are being ended."""
    triggered: tuple[ProbeTriggered, ...] = ()
    """Probes of live attempts that have triggered, reported before or not: the report may have been lost."""
    quiet: tuple[RankIdle, ...] = ()
    """Live ranks that are inactive, likewise."""
    lost_gpus: tuple[GpuLost, ...] = ()
    """All GPUs that were lost since the agent began, likewise."""


class LogSearch(FromAgentMessage, frozen=True, kw_only=True):
    """A request to search another task's log, which the rank's node does not have, on the controller's side.

    Repeated in each session until answered by `LogMatched`. Without a pattern it ends the search.
    """

    rank: RankId
    key: ProbeKey
    """The check that needs it."""
    task: str
    pattern: LogPattern | None = None


class Sampled(FromAgentMessage, frozen=True, kw_only=True):
    """What monitors have measured on the node. Answered by `SamplesStored`; few are on their way at a time."""

    number: int
    """Counts the messages of this agent, from 1."""
    readings: tuple[Reading, ...] = ()
    windows: tuple[RankWindow, ...] = ()
    """Of ranks whose log is complete."""
    gpu_fields: tuple[str, ...] = ()
    """The names of a GPU's values."""
    sent_at_ms: int = 0
    """The node's wall clock, to compare it with the controller's."""
    dropped: int = 0
    """Readings lost since the agent began, because the controller was too late to take them."""


class Measured(FromAgentMessage, frozen=True, kw_only=True):
    """What the agent has measured of its tasks, GPUs and node. Answered by `MeasuresTaken`; few are on their way at a time."""

    number: int
    """Counts the messages of this agent, from 1."""
    agent_incarnation: int
    """Larger in each agent of the node: the numbers of one that is started again begin anew."""
    frames: bytes = b""
    """Blocks of rows, as files have them."""
    is_whole: bool = False
    """The frames repeat the rows of the messages since the last whole one, packed together: they take their place."""
    windows: tuple[MarkedWindow, ...] = ()
    dropped: int = 0
    """Blocks lost since the agent began, because the controller was too late to take them."""


class Terminated(FromAgentMessage, frozen=True, kw_only=True):
    """The agent got SIGTERM in a Slurm job: Slurm ends the job, as a rule. It continues until it gets the order to leave."""


class Ending(FromAgentMessage, frozen=True, kw_only=True):
    """The agent ends all its ranks, without an order, and exits: it was terminated, or its guardian is gone."""

    reason: str


class Goodbye(FromAgentMessage, frozen=True, kw_only=True):
    """The agent is done and exits now."""

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
    | CheckpointFound
    | OutputsFound
    | InputsChecked
    | Uploading
    | Uploaded
    | RankIdle
    | SideCommandEnded
    | GpuLost
    | AgentSuspended
    | LifeConfirmed
    | NodeDescribed
    | Inspected
    | Notice
    | Hello
    | Sampled
    | Measured
    | Terminated
    | Ending
    | Goodbye
)
