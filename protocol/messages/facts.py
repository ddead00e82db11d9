"""Facts from an agent to the controller. Past tense."""

from typing import Literal

import msgspec

from protocol.ids import AttemptId, ProbeKey, ProbeKind, RankId
from protocol.messages.base import Message, _snake
from protocol.messages.checks import LogPattern
from protocol.messages.inspection import MeshResult, NodeReport
from protocol.messages.node import Inventory

ActivityKind = Literal["output", "gpus"]
"""What a rank shows activity by: output, or use of its GPUs."""
SidePurpose = Literal["hang", "stop"]
"""What a command beside a rank is for: to look into its hang, to stop it."""
NoticeLevel = Literal["warning", "error"]


class LiveRank(msgspec.Struct, frozen=True):
    """A rank whose process an agent has: part of its whole truth at `Hello`."""

    rank: RankId
    pid: int
    started_at_ns: int


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
    port_conflict: str = ""
    """See `RankExited`."""


class ExitCause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a rank ended badly, as far as its node can tell."""

    word: str
    """One of `protocol.diagnosis.reasons`, or of a signature of the workflow's own."""
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
    port_conflict: str = ""
    """Which of the task's ports here another process has, and which one; looked for after a failure only."""
    was_asked: bool = False
    """The agent was already ending it, on somebody's order: how it ended then explains nothing."""
    cause: ExitCause | None = None
    """After a good exit status it is what the rank's `success` misses."""
    has_listened: bool = False
    """A process of the rank was seen to listen on a TCP port after its readiness probe had triggered. Looked for only where
    no check of its probes is about a port or URL.
    """


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
    kind: ProbeKind
    detail: str
    """What was seen: "port 6379 listening", or the matched line, cut to 500 characters."""


class ProbeWaiting(FromAgentMessage, frozen=True, kw_only=True):
    """What a readiness probe still misses; said after a second, and then when it changes, once a second at most."""

    attempt: AttemptId
    kind: ProbeKind
    detail: str
    """"port 8000 is not listening", "HTTP 503"; cut to 500 characters."""


class Leased(FromAgentMessage, frozen=True, kw_only=True):
    """The answer to the `Lease` of this task and number."""

    task: str
    number: int
    ports: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    """By the names of the blocks."""
    problem: str = ""
    """Why there are none, for a person; empty if there are."""


class RankIdle(FromAgentMessage, frozen=True, kw_only=True):
    """A rank has shown no life of a kind for as long as its `HangPolicy` says, or shows some again."""

    rank: RankId
    kind: ActivityKind
    is_quiet: bool


class SideCommandEnded(FromAgentMessage, frozen=True, kw_only=True):
    """A command beside a rank has ended, or was ended."""

    rank: RankId
    purpose: SidePurpose
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


class Inspected(FromAgentMessage, frozen=True, kw_only=True):
    """What an `Inspect` was about."""

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
    quiet: tuple[RankIdle, ...] = ()
    """Live ranks that show no life, likewise."""


class LogSearch(FromAgentMessage, frozen=True, kw_only=True):
    """A probe of this rank is about another task's log, which its node does not have: the controller shall look at its own.

    Repeated in each session until answered by `LogMatched`. Without a pattern nobody waits for it any more.
    """

    rank: RankId
    key: ProbeKey
    """The check that asks."""
    task: str
    pattern: LogPattern | None = None


class Terminated(FromAgentMessage, frozen=True, kw_only=True):
    """The agent got SIGTERM in a Slurm job: Slurm ends the job, as a rule. It goes on until it is told to leave."""


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
    | RankIdle
    | SideCommandEnded
    | NodeDescribed
    | Inspected
    | Notice
    | Hello
    | Terminated
    | Goodbye
)
