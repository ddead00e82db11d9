"""The events of the agent's core. The shell makes them of orders, child exits and observations."""

from msgspec import Struct

from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.facts import ActivityKind, ExitCause, Leased, SidePurpose
from protocol.messages.orders import ToAgent
from protocol.messages.rank_spec import RankSpec
from protocol.messages.telemetry import RankUse
from protocol.messages.uploads import UploadOutcome


class Ordered(Struct, frozen=True):
    """An order of the controller; delivered once and in order."""

    message: ToAgent


class ProcessStarted(Struct, frozen=True):
    """A rank's process exists."""

    rank: RankId
    pid: int
    started_at_ns: int
    spec: RankSpec | None = None
    """The rank's spec as this node completed it; None leaves it as ordered."""
    memory_kills: int = 0
    """The kernel's counter of out-of-memory kills before the process was made."""


class ProcessFailed(Struct, frozen=True):
    """A rank's process could not be made."""

    rank: RankId
    errno: int
    reason: str
    port_conflict: str = ""
    """The port of its task that another process has, and that process."""


class ProcessExited(Struct, frozen=True):
    """A rank's main process was reaped. Exactly one of `exit_code` and `signal` is set."""

    rank: RankId
    exit_code: int | None
    signal: int | None
    log_bytes: int
    has_leftovers: bool
    port_conflict: str = ""
    """The same, looked for after a failure."""
    lost_output: str = ""
    """A sentence about output that its log's disk did not take."""
    use: RankUse | None = None


class ProcessesReaped(Struct, frozen=True):
    """Main processes that have ended in one pass of the loop, at least one."""

    exits: tuple[ProcessExited, ...]
    memory_kills: int = 0
    """The kernel's counter of out-of-memory kills now."""


class PortsTaken(Struct, frozen=True):
    """The result of `TakePorts`."""

    leased: Leased


class ExitDiagnosed(Struct, frozen=True):
    """The cause of an exit; None when the status is the whole cause, or all conditions of `success` hold."""

    rank: RankId
    cause: ExitCause | None


class TreeGone(Struct, frozen=True):
    """No process that the rank started is left. `ended` counts processes other than the main one."""

    rank: RankId
    ended: int
    left: tuple[str, ...] = ()
    """The first of those that outlived the main process: "pid name"."""


class TreeSurvived(Struct, frozen=True):
    """These processes of the rank could not be ended: "pid name"."""

    rank: RankId
    survivors: tuple[str, ...]


class CheckObserved(Struct, frozen=True):
    """A check of a probe holds, or no longer holds."""

    rank: RankId
    key: ProbeKey
    is_true: bool
    detail: str
    """What was seen, or what is missing instead; empty to keep the detail reported before."""
    is_poll: bool = False
    """One result of a check that polls, not a change of state: two positive ones are two in a row."""


class ListenerSeen(Struct, frozen=True):
    """A process of the rank listens on a TCP port."""

    rank: RankId


class CommandEnded(Struct, frozen=True):
    """A command beside a rank has ended, or was ended."""

    rank: RankId
    purpose: SidePurpose
    output: bytes
    problem: str
    """ "exited with 7", "did not end within 10 s"; empty on success."""


class IdleChanged(Struct, frozen=True):
    """A rank has shown no activity of a kind for its limit, or shows some again."""

    rank: RankId
    kind: ActivityKind
    is_quiet: bool


class UploadProgressed(Struct, frozen=True):
    """How far an upload is."""

    attempt: AttemptId
    text: str


class UploadEnded(Struct, frozen=True):
    """An upload is over: done, failed or ended."""

    attempt: AttemptId
    outcome: UploadOutcome


class EndRequested(Struct, frozen=True):
    """The agent must end without an order: its guardian or controller is gone, or it was signalled."""

    reason: str
    grace_s: float = 2.0
    """Between SIGTERM and SIGKILL of its tasks, whose own commands and times do not count then."""


class SuspensionSeen(Struct, frozen=True):
    """The agent's process did not run for so many seconds: it was stopped, or its node stood still."""

    seconds: float


class TerminationSeen(Struct, frozen=True):
    """The agent got SIGTERM."""


class LogsDelivered(Struct, frozen=True):
    """The controller has all of every log."""


class FactsSent(Struct, frozen=True):
    """Every fact that was reported so far is in a packet."""


class FactsAcknowledged(Struct, frozen=True):
    """The controller has acknowledged every fact that was reported before the last `FactsSent`."""


class WakeUp(Struct, frozen=True):
    """The time that `next_wakeup` returned has come."""


RankEvent = (
    ProcessStarted
    | ProcessFailed
    | ProcessesReaped
    | ExitDiagnosed
    | TreeGone
    | TreeSurvived
    | CheckObserved
    | ListenerSeen
    | CommandEnded
    | IdleChanged
)
"""Something happened to one rank, or to several at once."""
AgentEvent = (
    Ordered
    | RankEvent
    | PortsTaken
    | UploadProgressed
    | UploadEnded
    | EndRequested
    | SuspensionSeen
    | TerminationSeen
    | LogsDelivered
    | FactsSent
    | FactsAcknowledged
    | WakeUp
)
