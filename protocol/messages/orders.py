"""Orders from the controller to an agent. Imperative."""

from protocol.diagnosis.signatures import Signature
from protocol.ids import AttemptId, ProbeKey, RankId
from protocol.messages.base import Message, _snake
from protocol.messages.inspection import MeshTarget
from protocol.messages.rank_spec import PortBlock, RankSpec


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


class EndStep(ToAgentMessage, frozen=True, kw_only=True):
    """End what the attempt's job step has on this node, and verify: its `srun` runs on another one.

    Answered by a `RankCleared` of `part`, also when there is nothing. Repeating it can only make it faster.
    """

    part: RankId
    """Stands for the processes here; no rank of the attempt has this number."""
    mark_of: RankId
    """The rank that is the step's `srun`: its processes bear a mark that is made of it."""
    signal: int
    patience_s: float = 0.0
    """How long they may take to end by other means before the signal: the task's own commands run elsewhere."""
    grace_s: float
    """Between signal and SIGKILL; with 0 there is no signal before."""


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
    key: ProbeKey
    line: str


class Inspect(ToAgentMessage, frozen=True, kw_only=True):
    """Find something out about the node; answered by one `Inspected` with the same number.

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


ToAgent = (
    Welcome
    | Refused
    | Spawn
    | Stop
    | EndStep
    | Lease
    | Release
    | Watch
    | Unwatch
    | LogMatched
    | Inspect
    | Leave
)
