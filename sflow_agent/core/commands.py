"""What the agent's core can ask of its shell. None blocks; outcomes come back as events."""

from dataclasses import dataclass

from protocol.ids import ProbeKey, RankId
from protocol.messages.facts import FromAgent, SidePurpose
from protocol.messages.orders import Inspect, Lease
from protocol.messages.rank_spec import RankSpec


@dataclass(frozen=True, slots=True)
class StartProcess:
    """Make the rank's process, on the ports of its task; answer with ProcessStarted or ProcessFailed."""

    spec: RankSpec


@dataclass(frozen=True, slots=True)
class TakePorts:
    """Lease these ports; answer with PortsTaken."""

    order: Lease


@dataclass(frozen=True, slots=True)
class TakeBackPorts:
    """Nothing of the task runs any more: hold its ports again."""

    task: str


@dataclass(frozen=True, slots=True)
class DropPorts:
    """The task's ports are anybody's."""

    task: str


@dataclass(frozen=True, slots=True)
class DiagnoseExit:
    """Find out why the rank ended badly, or whether it did what it was for; answer with ExitDiagnosed."""

    rank: RankId
    exit_code: int | None
    signal: int | None


@dataclass(frozen=True, slots=True)
class SignalTree:
    """Send this signal to everything the rank started, until nothing is left: then TreeGone.

    Whatever appears in the tree later gets the same signal. A second SignalTree replaces the first. Signal 0 only waits.
    """

    rank: RankId
    signal: int


@dataclass(frozen=True, slots=True)
class GiveUpTree:
    """Stop waiting for the rank's tree; answer with TreeSurvived, or TreeGone after all."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class RunCommand:
    """Run the rank's command for this purpose; answer with CommandEnded."""

    rank: RankId
    purpose: SidePurpose


@dataclass(frozen=True, slots=True)
class EndCommand:
    """The command's time is over: end it; its CommandEnded says so."""

    rank: RankId
    purpose: SidePurpose


@dataclass(frozen=True, slots=True)
class WatchActivity:
    """Begin to look for signs of life of the rank; answer with IdleChanged when they stop and begin."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class UnwatchActivity:
    """It does not matter any more whether the rank shows life."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class WatchCheck:
    """Begin this check of a rank's probe; answer with CheckObserved whenever its result is known or changes."""

    rank: RankId
    key: ProbeKey


@dataclass(frozen=True, slots=True)
class UnwatchCheck:
    """End this check: its result is not needed any more."""

    rank: RankId
    key: ProbeKey


@dataclass(frozen=True, slots=True)
class WatchLog:
    """Send the rank's log from `offset` on."""

    rank: RankId
    offset: int


@dataclass(frozen=True, slots=True)
class UnwatchLog:
    """Nobody looks at the rank's log any more."""

    rank: RankId


@dataclass(frozen=True, slots=True)
class FinishLogs:
    """Hand over what is left of all logs; answer with LogsDelivered."""


@dataclass(frozen=True, slots=True)
class InspectNode:
    """Find out what is asked and report it: nothing of it concerns ranks."""

    order: Inspect


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the controller this fact."""

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
    | SignalTree
    | GiveUpTree
    | RunCommand
    | EndCommand
    | WatchActivity
    | UnwatchActivity
    | WatchCheck
    | UnwatchCheck
    | WatchLog
    | UnwatchLog
    | FinishLogs
    | InspectNode
    | Report
    | Exit
)
