"""The commands of the agent's core to its shell. None blocks; outcomes come back as events."""

from dataclasses import dataclass

from protocol.diagnosis.signatures import Signature
from protocol.ids import ProbeKey, RankId
from protocol.messages.facts import FromAgent, SidePurpose
from protocol.messages.orders import Inspect, Lease
from protocol.messages.rank_spec import RankSpec


@dataclass(frozen=True, slots=True)
class StartProcess:
    """Start the rank's process on the ports of its task; answer with ProcessStarted or ProcessFailed."""

    spec: RankSpec


@dataclass(frozen=True, slots=True)
class TakePorts:
    """Lease these ports; answer with PortsTaken."""

    order: Lease


@dataclass(frozen=True, slots=True)
class TakeBackPorts:
    """Hold the task's ports again, since no process of the task runs."""

    task: str


@dataclass(frozen=True, slots=True)
class DropPorts:
    """Release the task's ports for good."""

    task: str


@dataclass(frozen=True, slots=True)
class DiagnoseExit:
    """Find the cause of a bad exit, or check `success` after a good one; answer with ExitDiagnosed."""

    rank: RankId
    exit_code: int | None
    signal: int | None
    memory_kills: int = 0
    """Out-of-memory kills of the kernel that may explain the exit."""


@dataclass(frozen=True, slots=True)
class LearnSignatures:
    """Diagnose exits with these signatures of the workflow's own, in addition to ours."""

    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class LearnSecrets:
    """Mask these values, (name, value), in what ranks print from now on."""

    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ForgetRank:
    """Drop all records of a rank: its exit is reported and none of its processes is left."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class SignalTree:
    """Send this signal to all processes that the rank started, until none is left: then TreeGone.

    Processes that appear in the tree later get the same signal. A second SignalTree replaces the first.
    Signal 0 only waits.
    """

    rank: RankId
    signal: int


@dataclass(frozen=True, slots=True)
class AdoptStep:
    """Treat the processes of a job step on this node as the tree of `part`: SignalTree and GiveUpTree are about them then.

    Without `mark_of` those of all steps of the run that no other rank or part is about.
    """

    part: RankId
    mark_of: RankId | None


@dataclass(frozen=True, slots=True)
class GiveUpTree:
    """Stop waiting for the rank's tree; answer with TreeSurvived, or TreeGone if it has ended meanwhile."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Run the rank's command for this purpose; answer with CommandEnded."""

    rank: RankId
    purpose: SidePurpose


@dataclass(frozen=True, slots=True)
class EndCommand:
    """End a command whose timeout has passed; its CommandEnded reports that."""

    rank: RankId
    purpose: SidePurpose


@dataclass(frozen=True, slots=True)
class WatchActivity:
    """Start to watch the activity of the rank; answer with IdleChanged when it stops and when it resumes."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class UnwatchActivity:
    """Stop watching the activity of the rank."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class WatchCheck:
    """Start this check of a rank's probe; answer with CheckObserved whenever its result is known or changes."""

    rank: RankId
    key: ProbeKey


@dataclass(frozen=True, slots=True)
class UnwatchCheck:
    """End this check: its result is no longer needed."""

    rank: RankId
    key: ProbeKey


@dataclass(frozen=True, slots=True)
class LookOnce:
    """Make this check a last time, now, after the rank's exit; answer with one CheckObserved."""

    rank: RankId
    key: ProbeKey


@dataclass(frozen=True, slots=True)
class LookForListeners:
    """Answer with ListenerSeen if a process of the rank listens on a TCP port now."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class WatchLog:
    """Send the rank's log from `offset` on."""

    rank: RankId
    offset: int


@dataclass(frozen=True, slots=True)
class UnwatchLog:
    """Stop sending the rank's log."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class FinishLogs:
    """Hand over the rest of all logs; answer with LogsDelivered."""


@dataclass(frozen=True, slots=True)
class InspectNode:
    """Inspect the node as ordered and report the result; ranks are not concerned."""

    order: Inspect


@dataclass(frozen=True, slots=True)
class Report:
    """Send this fact to the controller."""

    message: FromAgent


@dataclass(frozen=True, slots=True)
class Exit:
    """Leave the loop and end with this status."""

    status: int


AgentCommand = (
    StartProcess
    | TakePorts
    | TakeBackPorts
    | DropPorts
    | DiagnoseExit
    | LearnSignatures
    | LearnSecrets
    | ForgetRank
    | SignalTree
    | AdoptStep
    | GiveUpTree
    | RunCommand
    | EndCommand
    | WatchActivity
    | UnwatchActivity
    | WatchCheck
    | UnwatchCheck
    | LookOnce
    | LookForListeners
    | WatchLog
    | UnwatchLog
    | FinishLogs
    | InspectNode
    | Report
    | Exit
)
