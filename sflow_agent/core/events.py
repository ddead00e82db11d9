"""What the agent's core can be told. The shell turns orders, child exits and observations into these."""

from dataclasses import dataclass

from protocol.ids import ProbeKey, RankId
from protocol.messages.facts import ActivityKind, ExitCause, Leased, SidePurpose
from protocol.messages.orders import ToAgent


@dataclass(frozen=True, slots=True)
class Ordered:
    """The controller wants something; delivered once and in order."""

    message: ToAgent


@dataclass(frozen=True, slots=True)
class ProcessStarted:
    """A rank has a process now."""

    rank: RankId
    pid: int
    started_at_ns: int


@dataclass(frozen=True, slots=True)
class ProcessFailed:
    """A rank's process could not be made."""

    rank: RankId
    errno: int
    reason: str
    port_conflict: str = ""
    """Who has a port of its task."""


@dataclass(frozen=True, slots=True)
class ProcessExited:
    """A rank's main process was reaped. Exactly one of `exit_code` and `signal` is set."""

    rank: RankId
    exit_code: int | None
    signal: int | None
    log_bytes: int
    has_leftovers: bool
    port_conflict: str = ""
    """Who listens on a port of its task, after a failure."""


@dataclass(frozen=True, slots=True)
class PortsTaken:
    """What became of a lease."""

    leased: Leased


@dataclass(frozen=True, slots=True)
class ExitDiagnosed:
    """What an end was found to mean; None when there is nothing more to say, or all that must hold does."""

    rank: RankId
    cause: ExitCause | None


@dataclass(frozen=True, slots=True)
class TreeGone:
    """Nothing that the rank started is left. `ended` counts processes other than the main one."""

    rank: RankId
    ended: int


@dataclass(frozen=True, slots=True)
class TreeSurvived:
    """These processes of the rank could not be ended: "pid name"."""

    rank: RankId
    survivors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CheckObserved:
    """A check of a probe has a result: it holds, or it does not (any more)."""

    rank: RankId
    key: ProbeKey
    is_true: bool
    detail: str
    """What was seen, or what is missing instead; empty to keep the detail reported before."""
    is_poll: bool = False
    """One result of a check that polls, not a change of state: two positive ones are two in a row."""


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """A command that was run beside a rank is over."""

    rank: RankId
    purpose: SidePurpose
    output: bytes
    problem: str
    """ "exited with 7", "did not end within 10 s"; empty when it succeeded."""


@dataclass(frozen=True, slots=True)
class IdleChanged:
    """A rank has shown no life of a kind for its limit, or shows some again."""

    rank: RankId
    kind: ActivityKind
    is_quiet: bool


@dataclass(frozen=True, slots=True)
class EndRequested:
    """The agent must end by itself: its guardian or its controller is gone, or somebody signalled it."""

    reason: str


@dataclass(frozen=True, slots=True)
class LogsDelivered:
    """Nothing is left to hand over on the log socket."""


@dataclass(frozen=True, slots=True)
class WakeUp:
    """The time that `next_wakeup` named has come."""


AgentEvent = (
    Ordered
    | ProcessStarted
    | ProcessFailed
    | ProcessExited
    | PortsTaken
    | ExitDiagnosed
    | TreeGone
    | TreeSurvived
    | CheckObserved
    | CommandEnded
    | IdleChanged
    | EndRequested
    | LogsDelivered
    | WakeUp
)
